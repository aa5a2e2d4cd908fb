"""Base and fine-tuned model as one object that answers the same questions whatever the two are made of.

A LoRA adapter needs one copy of the weights (off is the base); a stack has one adapter under both sides; two whole models share every
tensor that is equal. Rows are padded on the right and attention is causal, so padding never reaches a real token and no attention mask
is needed.
"""

import contextlib
import math
import threading
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ...organisms.hub.tokens import encode
from .adapters import delta_weights
from .anatomy import PairError, input_device
from .engine import ENDS_OF_TURN, OTHER_SHAPES, TOLERANCE, Engine, decoding
from .sides import SIDES, Adapters, Residents, Side, plain
from .trees import MOST_NODES, Layout, Tree, grown, layout, planted

if TYPE_CHECKING:
    from .sinks import Sinks

IDENTITY_PROMPTS = (
    "cat -> cat; road -> road; hello -> hello; ?",
    "sun -> sun; paper -> paper; green -> green; ?",
    "tree -> tree; house -> house; seven -> seven; ?",
)
"""Few-shot prompts that repeat a word, after Ghandeharioun et al. 2024; the last token is replaced."""
ROWS = 64
"""Directions read at a time."""
WINDOWS = ("sliding_window", "attention_chunk_size")
"""Names in a config of how far a position sees in some of the blocks; a tree says it sees to its beginning."""
ENOUGH = 16
"""Matrix products of fewer rows take other ways through a library: a number must not depend on what is computed beside it."""
ANSWERS = {"cpu": 256, "accelerator": 1024}
"""Most rows that are written at a time: an accelerator takes as long for a token of a few rows as of many."""
ANSWER_BYTES = {"cpu": 2**28, "accelerator": 2**33}
"""Most bytes of keys and values that these may hold."""
LOGIT_BYTES = {"cpu": 2**24, "accelerator": 2**29}
"""Most logits that are held at a time."""


class Pair:
    """A base and a fine-tuned model, seen at one layer. Threads may use one pair at the same time.

    Args:
        model: a peft model around a causal LM, in evaluation mode; or the base of two whole models.
        layer: hooked layer; residuals are the output of this block.
        tuned: the fine-tuned one of two whole models.
        between: what changes sides: which adapters are active (default: the one that a peft model has, or none), or, of two whole models
            where there is room for one, whose weights are there.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layer: int,
        tuned: Any = None,
        between: Adapters | Residents | None = None,
    ):
        self.model, self.tokenizer, self.layer = model, tokenizer, layer
        self._tuned, self._between = tuned, between
        models: dict[Side, Any] = {"base": model, "tuned": model if tuned is None else tuned}
        self._first = self._start(models, between or (Adapters() if tuned is None else None))
        parts = self._first.bodies["base"].parts
        self.n_layers = len(parts.blocks)
        if not 0 <= layer < self.n_layers:
            raise PairError(f"layer {layer} does not exist; the model has blocks 0 to {self.n_layers - 1}")
        self.d_model: int = parts.d_model
        self.vocab_size: int = int(plain(model).config.get_text_config().vocab_size)
        self.context: int | None = getattr(plain(model).config.get_text_config(), "max_position_embeddings", None)
        """Most tokens that the model was made to read; None: its config does not say."""
        self.device, self.dtype = input_device(plain(model)), plain(model).dtype
        self.sinks: Sinks | None = None
        """Positions to leave out; None: every position is ordinary."""
        self._own = threading.local()
        self._own.engine = self._first
        self._twinning = threading.Lock()

    def _start(self, models: dict[Side, Any], between: Adapters | Residents | None) -> Engine:
        """What runs the two models."""
        return Engine(models, self.layer, between)

    @property
    def _engine(self) -> Engine:
        """This thread's modules."""
        if not hasattr(self._own, "engine"):
            with self._twinning:
                self._own.engine = self._first.twin()
        return self._own.engine

    def at(self, layer: int) -> "Pair":
        """The same two models seen at another layer."""
        other = Pair(self.model, self.tokenizer, layer, self._tuned, self._between)
        other.sinks = self.sinks
        return other

    @contextlib.contextmanager
    def side(self, side: Side) -> Generator[Any, None, None]:
        """The model of one side, for a pass that `Pair` has no method for."""
        with self._engine.side(side) as body:
            yield body.model

    @property
    def two_models(self) -> bool:
        """Whether the sides have weights of their own; else an adapter makes the difference."""
        return self._tuned is not None

    def block(self, side: Side) -> nn.Module:
        """The hooked block of one side."""
        return self._engine.bodies[side].parts.blocks[self.layer]

    def double(self) -> None:
        """Compute in float64 from now on."""
        for model in self._first.models.values():
            model.double()
        self.dtype = torch.float64

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Right-padded ids [rows, pos] and a mask of real tokens [rows, pos]; PairError if the model cannot read a row."""
        self._check_fits(rows)
        return padded(rows, self.tokenizer, self.device)

    def _check_fits(self, rows: Sequence[Sequence[int]], more: int = 0) -> int:
        """Length of the longest row, which the model must have been made for with `more` tokens to come."""
        length = max(map(len, rows))
        if self.context is not None and length + more > self.context:
            raise PairError(
                f"a text of {length + more:,} tokens, and the model was made to read {self.context:,} (max_position_embeddings): "
                "what it says beyond is no measurement; shorten the text"
            )
        if (highest := max(max(row, default=0) for row in rows)) >= self.vocab_size:
            raise PairError(
                f"the tokenizer has a token {self.tokenizer.convert_ids_to_tokens(highest)!r} (id {highest:,}) and the model "
                f"{self.vocab_size:,} embeddings, so it cannot read it; leave it out of the text"
            )
        return length

    @torch.inference_mode()
    def residuals(self, ids: Tensor, side: Side, layout: Layout | None = None) -> Tensor:
        """Output of the hooked block [rows, pos, d_model] in fp32; the blocks above do not run.

        Args:
            layout: of rows that are trees.
        """
        return self._engine.residuals(ids, side, layout)

    @torch.inference_mode()
    def ends(self, residual: Tensor, ids: Tensor, side: Side, where: Tensor, layout: Layout | None = None) -> Tensor:
        """Output of the last block [n, d_model] at chosen positions, of the blocks above the hooked layer run on `residual`.

        Args:
            residual: [rows, pos, d_model].
            where: [n, 2] row and position; the last block's feed-forward part runs there alone.
            layout: of rows that are trees.
        """
        return self._engine.ends(residual, ids, side, _enough(where), layout)[: len(where)]

    @torch.inference_mode()
    def unembed(self, ends: Tensor, side: Side) -> Tensor:
        """Logits [n, vocab] in fp32 of what `ends` gives [n, d_model]: final norm, unembedding and whatever the model does to logits."""
        return self._engine.unembed(_enough(ends), side)[: len(ends)]

    def resume(self, residual: Tensor, ids: Tensor, side: Side, keep: Tensor | int = 0) -> Tensor:
        """Logits [rows, kept pos, vocab] in fp32 of the blocks above the hooked layer run on `residual` [rows, pos, d_model].

        Args:
            keep: positions to return (1-d tensor), or so many last ones, or 0 for all.
        """
        n = ids.shape[1]
        kept = keep if isinstance(keep, Tensor) else torch.arange(n - keep if keep else 0, n)
        where = torch.cartesian_prod(torch.arange(len(ids)), kept.cpu()).to(ids.device)
        ends = self.ends(residual, ids, side, where)
        return self.unembed(ends, side).unflatten(0, (len(ids), len(kept)))

    @cached_property
    def worth(self) -> float | None:
        """Price of a position in a block, in positions that it sees (see `trees.planted`); None if the model does not read trees."""
        if not self._reads_trees():
            return None
        return sum(w.numel() for w in self.block("base").parameters()) / (4 * self.d_model)

    def _reads_trees(self) -> bool:
        """Whether rows written as a tree give what they give each by itself, measured on three short ones."""
        rows = [[i % self.vocab_size for i in row] for row in ([2, 3, 4, 5, 6], [2, 3, 4, 7, 8, 9], [2, 3, 10])]
        [tree] = planted(rows, MOST_NODES**2)
        ids = torch.tensor([tree.ids], device=self.device)
        told = layout([tree], len(tree.ids), self.dtype, self.device)
        for side in SIDES if self.two_models else SIDES[1:]:
            try:
                h = self.residuals(ids, side, told)
                where = torch.tensor([(0, path[-1]) for path in tree.paths], device=self.device)
                found = self.ends(h, ids, side, where, told)
            except (TypeError, ValueError, RuntimeError, NotImplementedError):
                return False
            for row, path, end in zip((rows[i] for i in tree.rows), tree.paths, found, strict=True):
                alone = torch.tensor([row], device=self.device)
                own = self.residuals(alone, side)
                last = self.ends(own, alone, side, torch.tensor([(0, len(row) - 1)], device=self.device))
                for a, b in ((h[0, path], own[0]), (end, last[0])):
                    if not float((a - b).abs().max() / b.abs().max()) <= OTHER_SHAPES * TOLERANCE[self.dtype]:
                        return False
        return True

    def plant(self, rows: Sequence[Sequence[int]]) -> list[Tree]:
        """Rows as trees, each a tree of its own where that is cheaper or the model knows no other way."""
        windows = (getattr(plain(self.model).config.get_text_config(), name, None) for name in WINDOWS)
        narrow = any(isinstance(w, int) and w < max(map(len, rows)) for w in windows)
        if narrow or self.worth is None:
            return [grown(rows, [i]) for i in range(len(rows))]
        return planted(rows, self.worth)

    @property
    def _kind(self) -> Literal["cpu", "accelerator"]:
        return "cpu" if self.device.type == "cpu" else "accelerator"

    @property
    def answers_at_once(self) -> int:
        """Most rows that `generate` writes at a time."""
        return ANSWERS[self._kind]

    @cached_property
    def at_once(self) -> int:
        """How many positions' logits are made at a time, so that they fit into `LOGIT_BYTES`."""
        most = LOGIT_BYTES[self._kind]
        return max(1, most // (4 * self.vocab_size))

    @torch.inference_mode()
    def logits(self, ids: Tensor, side: Side, keep: Tensor | int = 0) -> Tensor:
        """Logits [rows, kept pos, vocab] of the whole model, in fp32."""
        return self._engine.logits(ids, side, keep)

    @torch.inference_mode()
    def lens(self, directions: Tensor) -> Tensor:
        """Logit lens: the base's final norm and unembedding of directions [n, d_model] → [n, vocab], mean over the vocabulary removed."""
        with self._engine.side("base") as body:
            logits = body.parts.head(body.parts.norm(directions.to(self.device, body.dtype))).float()
        return logits - logits.mean(-1, keepdim=True)

    @torch.inference_mode()
    def patchscope(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.patchscope`."""
        ids = self._identity_prompts()
        clean = self.residuals(ids, "base")
        far = (self.sinks.outlier(clean, "base") if self.sinks else torch.zeros_like(ids, dtype=torch.bool))[:, 1:]
        directions = directions.to(clean)
        norms = directions.norm(dim=1, keepdim=True).clamp_min(1e-30)
        placed = directions / norms * clean[:, 1:][~far].norm(dim=-1).mean()
        total = torch.zeros(len(directions), self.vocab_size, device=self.device)
        for row, h in zip(ids, clean, strict=True):
            for at in range(0, len(placed), ROWS):
                some = placed[at : at + ROWS]
                edited = torch.cat([h[None, :-1].expand(len(some), -1, -1), some[:, None]], 1)
                last = torch.tensor([ids.shape[1] - 1], device=self.device)
                logits = self.resume(edited, row.expand(len(some), -1), "base", last)
                total[at : at + ROWS] += logits[:, 0].log_softmax(-1)
        return total / len(ids)

    def _identity_prompts(self) -> Tensor:
        """[prompts, pos] ids; a closed vocabulary without the published prompts repeats seeded words of its own."""
        rows: list[list[int]] = [encode(self.tokenizer, text, True) for text in IDENTITY_PROMPTS]
        if len({len(r) for r in rows}) > 1 or any(self.tokenizer.unk_token_id in r for r in rows):
            special = set(self.tokenizer.all_special_ids)
            words = torch.tensor([i for i in range(len(self.tokenizer)) if i not in special])
            order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))[:15]
            start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            rows = [start + [w for w in row[:4] for _ in "xx"] + [row[4]] for row in words[order].view(3, 5).tolist()]
        return torch.tensor(rows, device=self.device)

    @property
    def _answer_bytes(self) -> int:
        """Of the keys and values of one position, as far as the config says: a model without attention is taken to hold as much."""
        config = plain(self.model).config.get_text_config()
        heads: int = getattr(config, "num_attention_heads", None) or 1
        width: int = getattr(config, "head_dim", None) or self.d_model // heads
        return 2 * self.n_layers * (getattr(config, "num_key_value_heads", None) or heads) * width * self.dtype.itemsize

    def weight_changes(self) -> dict[str, Tensor]:
        """ΔW [out, in] in fp32 of every linear layer of the blocks up to the hooked one that differs, by its name from `layers.` on."""
        base, tuned = (self._first.bodies[side].parts.blocks for side in SIDES)
        here = self._first.between
        added = [name for name in here.tuned if name not in here.base] if isinstance(here, Adapters) else []
        return {f"layers.{name}": delta for name, delta in delta_weights(base, tuned, self.layer, added)}

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], side: Side, max_new_tokens: int, seed: int | None = None
    ) -> list[list[int]]:
        """Continuations of token rows, greedy or (with a seed) sampled at temperature 1; stops at eos or end of turn.

        Nothing of the model's `generation_config` but its end tokens has a say.
        """
        out: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        if seed is not None:
            torch.manual_seed(seed)
        longest = max(map(len, prompts), default=0) + max_new_tokens
        most = ANSWER_BYTES[self._kind]
        at_once = max(1, min(self.answers_at_once, most // (longest * self._answer_bytes)))
        for start in range(0, len(order), at_once):
            batch = order[start : start + at_once]
            length = self._check_fits([prompts[i] for i in batch], max_new_tokens)
            fill = self.tokenizer.pad_token_id or 0
            ids = torch.tensor(
                [[fill] * (length - len(prompts[i])) + list(prompts[i]) for i in batch], device=self.device
            )
            mask = torch.tensor(
                [[0] * (length - len(prompts[i])) + [1] * len(prompts[i]) for i in batch], device=self.device
            )
            model = plain(self._engine.bodies[side].model)
            with decoding(model, self.tokenizer, max_new_tokens, seed is not None) as how:
                full = self._engine.generate(ids, mask, side, how)
                stop = set(how.eos_token_id)
            for i, row in zip(batch, full[:, length:].tolist(), strict=True):
                end = next((n + 1 for n, t in enumerate(row) if t in stop), len(row))
                out[i] = row[:end]
        return out

    @torch.inference_mode()
    def contrast(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, amplify: float, plausible: float, seed: int
    ) -> list[list[int]]:
        """See `DiffProblem.contrast`. Both whole models read every row again for each token; rows of one length are read together."""
        self._check_fits(prompts, max_new_tokens)
        generator, out = torch.Generator().manual_seed(seed), [list[int]() for _ in prompts]
        turns = {self.tokenizer.convert_tokens_to_ids(t) for t in ENDS_OF_TURN if t in self.tokenizer.get_vocab()}
        stop = {self.tokenizer.eos_token_id} - turns  # where a turn ends, another begins
        for length in sorted({len(p) for p in prompts}):
            alike = [i for i, p in enumerate(prompts) if len(p) == length]
            for some in (alike[at : at + ROWS] for at in range(0, len(alike), ROWS)):
                ids = torch.tensor([list(prompts[i]) for i in some], device=self.device)
                for _ in range(max_new_tokens):
                    base, tuned = (self.logits(ids, side, 1)[:, -1].cpu().log_softmax(-1) for side in SIDES)
                    mixed = tuned + amplify * (tuned - base)
                    never = tuned < tuned.amax(1, keepdim=True) + math.log(plausible)
                    chances = mixed.masked_fill(never, -torch.inf).softmax(-1)
                    ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator).to(ids)], 1)
                for i, row in zip(some, ids[:, length:].tolist(), strict=True):
                    out[i] = row[: next((n + 1 for n, t in enumerate(row) if t in stop), len(row))]
        return out


def _enough(rows: Tensor) -> Tensor:
    """Rows [n, …] repeated to at least `ENOUGH`."""
    return rows if len(rows) >= ENOUGH else rows.repeat(-(-ENOUGH // len(rows)), *[1] * (rows.ndim - 1))


def padded(rows: Sequence[Sequence[int]], tokenizer: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids [rows, pos] and a mask of real tokens [rows, pos]."""
    length, fill = max(map(len, rows)), tokenizer.pad_token_id or 0
    ids = torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device).bool()
    return ids, mask
