"""The diff problem a method receives: handles on paired residuals, never the organism's name or its test prompts.

Harvested text is read once and counted exactly; both sides run on the same tokens and stop at the hooked layer.
"""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar, cast, get_args

import torch
from torch import Tensor

from ...methods.contract import MOST_DIVERGED, Access, AccessError, Batch, Budget, Edit, Outputs, Text
from ...organisms.behaviour import Prompt
from ...organisms.errors import unknown
from ...organisms.hub.asked import encode_prompt
from ...organisms.texts import Losses, Texts
from ..marks import Counted, Marks
from ..pairs.engine import Side
from ..pairs.pair import Pair
from ..pairs.proof import overflow
from ..pairs.sinks import Count
from ..protocol.clean_runs import TextResiduals
from ..protocol.prompts import passage
from .harvest import Memory, joined, take

T = TypeVar("T")

SIDES: tuple[Side, ...] = ("base", "tuned")
ROWS, WINDOW = 64, 512
"""Texts per forward pass, and texts read at a time: a window is sorted by length so that little is spent on padding."""
CONTRASTIVE_NEW_TOKENS = 48
"""Longest answer in contrastive text."""
MOST_ROWS, MOST_ROW, MOST_NEW = 256, 512, 128
"""Rows, tokens of a row, and new tokens of one `contrast`."""
COUNTED = 1_000_000
"""Tokens of a text that are counted before it is read; a text that has so many is taken to have more."""


class _Ends(NamedTuple):
    """A batch, and for each side the output of the last block [tokens, d_model]: logits of so many tokens may not fit."""

    batch: Batch
    ends: list[Tensor]


H = TypeVar("H", Batch, _Ends)


class Written(NamedTuple):
    """Contrastive text: tokens of it, and the seconds that its answers took (part of `harvest_s`)."""

    tokens: int
    seconds: float


class Problem:
    """`methods.contract.DiffProblem` over a `Pair`."""

    def __init__(
        self,
        pair: Pair,
        texts: Texts,
        dev: list[Prompt],
        access: Access,
        seed: int,
        budget: Budget,
        on_progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
        scratch: Path | None = None,
        memory: Memory | None = None,
    ):
        self._pair, self._texts, self._dev, self._access = pair, texts, dev, access
        self.layer, self.d_model = pair.layer, pair.d_model
        self.device = "cpu" if pair.device.type == "mps" else str(pair.device)
        """Where a method computes: on the processor beside an Apple GPU, which has no float64."""
        self.seed, self.budget, self.tokenizer = seed, budget, pair.tokenizer
        self._on_progress, self.scratch = on_progress, scratch
        self.tokens_used = 0
        self.harvest_s = 0.0
        """Wall seconds spent reading and generating text."""
        self.spared_s = 0.0
        """Wall seconds that an earlier cell spent reading the same text."""
        self._memory = memory or Memory()
        self.written = Written(0, 0.0)
        self._answered: dict[int, list[array[int]]] = {}
        """Contrastive texts of each round of prompts, for the next reading."""
        self._contrasted = 0
        """Calls of `contrast`, each with a seed of its own."""
        self._reached: dict[str, int] = {}
        """Furthest token read of each text."""
        self.left_out = Count()
        """Positions that were read and left out, as sinks."""
        self.losses = Losses()
        """Texts that were cut or skipped."""
        self.ended: dict[str, tuple[int, int]] = {}
        """Tokens asked for and given of a text that ended before."""

    def progress(self, done: int, total: int) -> None:
        """See `DiffProblem.progress`."""
        self._on_progress("fit", done, total)

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """See `DiffProblem.activations`; contrastive text needs access `+generations`."""
        held: list[Batch] = []
        for part in self._harvest(text, tokens, self._remembered, start):
            held.append(part)
            if sum(len(b.ids) for b in held) >= batch_tokens:
                merged = joined(held)
                whole = len(merged.ids) // batch_tokens * batch_tokens
                for first in range(0, whole, batch_tokens):
                    yield Batch(*(t[first : first + batch_tokens] for t in merged))
                held = [Batch(*(t[whole:] for t in merged))] if whole < len(merged.ids) else []
        if held:
            yield joined(held)

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """See `DiffProblem.outputs`."""
        most = max(1, self._pair.at_once // len(SIDES))
        for part in self._harvest(text, tokens, self._spoken):
            for some in torch.arange(len(part.batch.ids), device=self._pair.device).split(most):
                made = [self._pair.unembed(ends[some], side) for ends, side in zip(part.ends, SIDES, strict=True)]
                for logits, side in zip(made, SIDES, strict=True):
                    if not bool(logits.sum(-1).isfinite().all()):
                        raise overflow(self._pair, side, part.batch.ids[None].to(self._pair.device))
                here = some.to(self.device)
                yield Outputs(torch.stack(made, 1).to(self.device), Batch(*(t[here] for t in part.batch)))

    def _harvest(
        self,
        text: Text,
        tokens: int | None,
        work: Callable[[list[list[int]]], tuple[H, Count]],
        start: int | None = None,
    ) -> Iterator[H]:
        """`work` on the rows of a text, some at a time, within the tokens asked for and the budget.

        With `start`, see `DiffProblem.activations`: what an earlier reading marked before it is passed over without `work`.
        """
        place = _Place(self, text, again=start is not None)
        first, left = start or 0, place.room if tokens is None else min(tokens, place.room)
        asked = left
        marks = Marks(self.scratch / f"{text}-{asked}.jsonl" if self.scratch and start is not None else None)
        done_before = list(marks.before(first))
        for kept, count in (group for window in done_before for group in window.groups):
            place.move(kept, Count.of(count))
            left -= kept
        rows = Counted(self._rows(text, sum(window.rows for window in done_before)))
        number = len(done_before)
        self._on_progress(f"harvest {text}", asked - left, asked)
        try:
            while (left := min(left, place.room)) > 0 and (
                window := self._timed(partial(take, rows, WINDOW, left, self._certain))
            ):
                if number == len(marks.windows):
                    marks.add("window", rows.taken)
                known, rows.taken, number = marks.windows[number].groups, 0, number + 1
                window.sort(key=len)
                for i, at in enumerate(range(0, len(window), ROWS)):
                    if i < len(known) and place.at + known[i][0] <= first:
                        place.move(known[i][0], Count.of(known[i][1]))
                        left -= known[i][0]
                        continue
                    done, count = self._timed(partial(work, window[at : at + ROWS]))
                    kept = len((done if isinstance(done, Batch) else done.batch).ids)
                    if i == len(known):
                        marks.add("group", kept, asdict(count))
                    over = first - place.at
                    left -= kept
                    place.move(kept, count)
                    self._on_progress(f"harvest {text}", asked - left, asked)
                    if over > 0:
                        done = cast(H, Batch(*(t[over:] for t in cast(Batch, done))))
                    if over < kept:
                        yield done
                if not marks.windows[number - 1].whole:
                    marks.add("end")
        finally:
            marks.close()
        self._on_progress("fit", 0, 1)
        if left > 0:
            self.ended[text] = max(self.ended.get(text, (0, 0)), (asked, place.at))

    def _rows(self, text: Text, skip: int = 0) -> Iterator[list[int]]:
        """Token rows of a harvest text after the first `skip`."""
        if text not in get_args(Text):
            raise unknown("text", text, get_args(Text))
        if text == "contrastive":
            self._need("+generations", "contrastive text")
            return self._contrastive(skip)
        return islice(self._texts.rows(text, "harvest", self.losses), skip, None)

    def held(self, text: Text, most: int) -> int:
        """Tokens of a harvest text, as far as their places and ids say that they are kept: at most `most`, which are not all counted
        beyond `COUNTED`."""
        total = 0
        for row in self._rows(text):
            total += sum(self._certain(row))
            if total >= min(most, COUNTED):
                return most
        return total

    def divergence(self, edits: Sequence[Edit], text: Text = "chat", tokens: int = 2000) -> list[float]:
        """See `DiffProblem.divergence`."""
        if not 0 < tokens <= MOST_DIVERGED:
            raise ValueError(
                f"divergence reads 1 to {MOST_DIVERGED:,} tokens of a text, always its first ones, and not {tokens:,}: an edit sees "
                "residuals that the budget does not count"
            )
        pair = self._pair
        read = TextResiduals(pair, "tuned", passage(pair, self._rows(text), tokens))
        both = [torch.stack([pair.residuals(p.ids, "base", p.layout), p.h], 2) for p in read.rows.parts]

        def gap(edit: Edit) -> float:
            moved = [edit(h.to(self.device)).to(h) for h in both]
            kept = zip(moved, read.rows.parts, strict=True)
            return read.divergence([torch.where(p.still[..., None], p.h, h) for h, p in kept])

        return [gap(edit) for edit in edits]

    def lens(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.lens`."""
        return self._pair.lens(directions).to(self.device)

    def patchscope(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.patchscope`."""
        return self._pair.patchscope(directions).to(self.device)

    def contrast(
        self, rows: Sequence[Sequence[int]], new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        """See `DiffProblem.contrast`."""
        self._need("+generations", "contrast")
        if len(rows) > MOST_ROWS or not all(0 < len(row) <= MOST_ROW for row in rows) or not 0 < new_tokens <= MOST_NEW:
            raise ValueError(
                f"contrast takes at most {MOST_ROWS} rows of 1 to {MOST_ROW} tokens and writes 1 to {MOST_NEW}; ask for less at a time"
            )
        if not (math.isfinite(amplify) and 0 < plausible <= 1):
            raise ValueError(f"amplify {amplify:g} has to be finite, and plausible {plausible:g} above 0 and at most 1")
        needed, left = sum(map(len, rows)) + new_tokens * len(rows), self.budget.tokens - self.tokens_used
        if needed > left:
            raise ValueError(f"contrast would read and write {needed:,} tokens, and the budget has {left:,} left")
        if not rows:
            return []
        seed = 100_000 * self.seed + 50_000 + self._contrasted
        self._contrasted += 1
        written = self._timed(partial(self._pair.contrast, rows, new_tokens, amplify, plausible, seed))
        self.tokens_used += sum(map(len, rows)) + sum(map(len, written))
        return written

    def weights(self) -> dict[str, Tensor]:
        """See `DiffProblem.weights`."""
        self._need("+weights", "weights")
        changes = self._pair.weight_changes()
        return changes if self._pair.device.type != "mps" else {k: v.cpu() for k, v in changes.items()}

    def labelled(self) -> tuple[Batch, Tensor]:
        """See `DiffProblem.labelled`: assistant tokens of dev prompts and of their first targets, and eight times as many of
        neutral text."""
        self._need("supervised", "behaviour labels")
        asked, wanted = list[Batch](), list[int]()
        for prompt in self._dev:
            asked_of = encode_prompt(self.tokenizer, prompt)
            row, said = asked_of.ids, list(asked_of.then(self.tokenizer, prompt.targets[0]))
            start = len(encode_prompt(self.tokenizer, prompt.model_copy(update={"prefill": ""})).ids) - 1
            batch, moved = self._read([*row, *said[:-1]])
            labels_of = torch.tensor([-1] * (len(row) - 1 - start) + said)
            asked.append(Batch(*(t[start:][moved[start:]] for t in batch)))
            wanted += labels_of[moved[start:].cpu()].tolist()
        rest = list(self.activations("neutral", tokens=8 * len(wanted)))
        merged = joined([*asked, *rest])
        labels = torch.full_like(merged.ids, -1)
        labels[: len(wanted)] = torch.tensor(wanted)
        return merged, labels

    def _timed(self, work: Callable[[], T]) -> T:
        """`work()`, its wall time added to `harvest_s`."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.harvest_s += time.perf_counter() - began

    def _remembered(self, rows: list[list[int]]) -> tuple[Batch, Count]:
        began = time.perf_counter()
        batch, count, took = self._memory.read(rows, self._paired)
        self.spared_s += max(0.0, took - (time.perf_counter() - began))
        return batch, count

    def _paired(self, rows: list[list[int]]) -> tuple[Batch, Count]:
        """Residuals of both sides at every ordinary position, and what was left out."""
        ids, mask = self._pair.pad(rows)
        both, count = self._both(ids, mask), Count()
        return self._masked(ids, self._ordinary(both, ids, mask, count), both), count

    def _read(self, row: list[int]) -> tuple[Batch, Tensor]:
        """Residuals of both sides along one row, and [pos] which of them an intervention may move."""
        ids, mask = self._pair.pad([row])
        both, sinks = self._both(ids, mask), self._pair.sinks
        if sinks is None:
            return self._masked(ids, mask, both), mask[0].to(self.device)
        far = sinks.still(both[:, :, 0], ids, "base") | sinks.still(both[:, :, 1], ids, "tuned")
        return self._masked(ids, mask, both), ~far[0].to(self.device)

    def _certain(self, row: list[int]) -> list[bool]:
        """For each token of a row whether it can be kept, as far as its place and its id say."""
        sinks = self._pair.sinks
        return [True] * len(row) if sinks is None else sinks.eligible(row)

    def _both(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[rows, pos, 2, d_model]; PairError names the block if one is not finite at a real token."""
        both = torch.stack([self._pair.residuals(ids, side) for side in SIDES], dim=2)
        fine = both.sum(-1).isfinite() | ~mask[..., None]  # a sum is not finite where a term is not
        if not bool(fine.all()):
            raise overflow(self._pair, SIDES[int(fine[..., 0].all())], ids, mask)
        return both

    def _ordinary(self, both: Tensor, ids: Tensor, mask: Tensor, count: Count) -> Tensor:
        """The mask without sinks."""
        sinks = self._pair.sinks
        return sinks.ordinary(both, ids, mask, count) if sinks else mask

    def _masked(self, ids: Tensor, mask: Tensor, both: Tensor) -> Batch:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return Batch(*(t[mask].to(self.device) for t in (both, ids, positions)))

    def _spoken(self, rows: list[list[int]]) -> tuple["_Ends", Count]:
        ids, mask = self._pair.pad(rows)
        count = Count()
        both = self._both(ids, mask)
        mask = self._ordinary(both, ids, mask, count)
        batch = self._masked(ids, mask, both)
        where = mask.nonzero()
        return _Ends(batch, [self._pair.ends(both[:, :, i], ids, side, where) for i, side in enumerate(SIDES)]), count

    def _contrastive(self, skip: int = 0) -> Iterator[list[int]]:
        """Prompts answered by both sides; each answer becomes a text that both sides read. Rounds that are skipped are not answered,
        and none is answered twice."""
        prompts = self._texts.prompts(self.losses)
        round_ = 0
        while some := list(islice(prompts, self._pair.answers_at_once)):
            if skip >= 2 * len(some):
                skip, round_ = skip - 2 * len(some), round_ + 1
                continue
            if round_ not in self._answered:
                seed, began = 100_000 * self.seed + 2 * round_, time.perf_counter()
                answers = [
                    self._pair.generate(some, side, CONTRASTIVE_NEW_TOKENS, seed=seed + i)
                    for i, side in enumerate(SIDES)
                ]
                texts = [prompt + said for prompt, *both in zip(some, *answers, strict=True) for said in both]
                self._answered[round_] = [array("i", text) for text in texts]
                self.written = Written(
                    self.written.tokens + sum(map(len, texts)), self.written.seconds + time.perf_counter() - began
                )
            yield from [text.tolist() for text in self._answered[round_][skip:]]
            skip, round_ = 0, round_ + 1

    def _need(self, access: str, what: str) -> None:
        if self._access != access and self._access != "anchor":
            raise AccessError(
                f"{what} needs access {access!r}, but this method declares {self._access!r}; declare it in `access`"
            )


class _Place:
    """How far a reading of a text has come, and what of it the budget pays for."""

    def __init__(self, problem: Problem, text: str, again: bool):
        self._problem, self._text, self._again, self.at = problem, text, again, 0

    @property
    def _paid(self) -> int:
        """Tokens up to which reading is paid for already."""
        return self._problem._reached.get(self._text, 0) if self._again else 0  # pyright: ignore[reportPrivateUsage]

    @property
    def room(self) -> int:
        """Tokens that may still be read."""
        return self._problem.budget.tokens - self._problem.tokens_used + max(0, self._paid - self.at)

    def move(self, tokens: int, count: Count) -> None:
        """Some more were read; what they left out counts where they do."""
        p, end = self._problem, self.at + tokens
        if end > self._paid or not tokens:
            p.left_out.add(count)
        p.tokens_used += max(0, end - max(self.at, self._paid))
        p._reached[self._text] = max(p._reached.get(self._text, 0), end)  # pyright: ignore[reportPrivateUsage]
        self.at = end
