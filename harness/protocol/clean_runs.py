"""One model, one split: everything a measurement needs that does not depend on the intervention.

Residuals of prompts and text are computed once; each intervention edits them and re-runs only the blocks above the layer. Three things are
never run: beginnings that rows share (`pairs/trees.py`), padding (trees of similar size stand together), and trees that an intervention
leaves as they are. Logits are made where they are read and a few at a time, so a wide vocabulary is never held whole.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ..pairs.engine import SIDES, Side
from ..pairs.interventions import Edits
from ..pairs.pair import Pair
from ..pairs.proof import overflow
from ..pairs.trees import Layout, Tree, layout
from .prompts import Choices, Passage, choices, hits, joint, portions, shares

PARTS, TOKENS = 6, 2048
"""Most parts that trees are divided into, and tokens in one forward pass (they stay in cache)."""
CLEAN_BYTES = 2**26
"""Most predictions without an intervention that are kept; where there are more, they are made again whenever they are compared with."""


@dataclass(frozen=True)
class Part:
    """Trees of similar size."""

    ids: Tensor
    """[trees, pos]."""
    layout: Layout | None
    """None if each tree is a plain row."""
    h: Tensor
    """[trees, pos, d_model] residuals at the hooked layer."""
    still: Tensor
    """[trees, pos] bool: what no intervention moves, padding and sinks."""
    spots: Tensor
    """[trees, most spots of a tree] the places of each tree that are read; −1 where there are fewer."""


class Read(NamedTuple):
    """Some of the places that are read, with the logits there."""

    edit: Tensor
    """[n]."""
    spot: Tensor
    """[n] place; those of one place stand together."""
    logits: Tensor
    """[n, vocab]."""
    norm: Tensor
    """[n] log-sum-exp of the logits."""


class Rows:
    """Token rows with their residuals on one side, and the tokens in them whose log-probability is wanted.

    Args:
        ids: [rows, pos] right-padded.
        tokens: [n, 3] row, position, and the token that may follow it; nothing behind a row's last position is run.
    """

    def __init__(self, pair: Pair, side: Side, ids: Tensor, tokens: Tensor):
        self.pair = pair
        self.side: Side = side
        place = tokens[:, :2].tolist()
        ends = dict[int, int]()
        for row, at in place:
            ends[row] = max(ends.get(row, 0), at + 1)
        read = sorted(ends)
        grown = pair.plant([ids[row, : ends[row]].tolist() for row in read])
        trees = [[grown[i] for i in some] for some in _similar([len(tree.ids) for tree in grown])]
        node = dict[tuple[int, int], tuple[int, int, int]]()
        """Part, tree in it and node of each row and position."""
        for p, t, tree in ((p, t, tree) for p, some in enumerate(trees) for t, tree in enumerate(some)):
            node |= {
                (read[r], at): (p, t, n)
                for r, path in zip(tree.rows, tree.paths, strict=True)
                for at, n in enumerate(path)
            }
        spots = {where: i for i, where in enumerate(sorted({node[row, at] for row, at in place}))}
        self.spot = torch.tensor([spots[node[row, at]] for row, at in place], device=ids.device)
        """[n] the place where each token's logits are read."""
        self.token, self._node = tokens[:, 2], torch.tensor([n for _, _, n in spots], device=ids.device)
        self._said = _table(self.spot.tolist(), len(spots), ids.device)
        self.parts = [
            self._part(some, [(t, i) for (part, t, _), i in spots.items() if part == p]) for p, some in enumerate(trees)
        ]
        self._ends = torch.cat([self._run(p, *_all(p), p.h)[-1] for p in self.parts])
        """[spots, d_model] output of the last block without an intervention; parts number their spots one behind the other."""
        every = torch.arange(len(spots), device=ids.device)
        clean = self._unembedded(torch.zeros_like(every), every, self._ends)
        self.clean = self.fill(torch.zeros(1, len(tokens), device=ids.device), clean)
        """[1, n] log-probability of each token without an intervention."""
        if not bool(self.clean.isfinite().all()):
            raise overflow(pair, side, ids)

    def _part(self, trees: Sequence[Tree], spots: Sequence[tuple[int, int]]) -> Part:
        """A part of some trees, of which these places (tree, spot) are read."""
        pair = self.pair
        ids, real = pair.pad([tree.ids for tree in trees])
        told = layout(trees, ids.shape[1], pair.dtype, ids.device)
        h = pair.residuals(ids, self.side, told)
        still = ~real | pair.sinks.still(h, ids, self.side) if pair.sinks else ~real
        of = _table([tree for tree, _ in spots], len(trees), ids.device)
        number = torch.tensor([spot for _, spot in spots], device=ids.device)
        return Part(ids, told, h, still, torch.where(of >= 0, number[of], -1))

    def before(self) -> tuple[Tensor, Tensor]:
        """The residual before each token [n, d_model], and [n] whether an intervention may move it."""
        found: list[Tensor] = []
        free: list[Tensor] = []
        for part in self.parts:
            tree, slot = (part.spots >= 0).nonzero(as_tuple=True)
            node = self._node[part.spots[tree, slot]]
            found.append(part.h[tree, node])
            free.append(~part.still[tree, node])
        return torch.cat(found)[self.spot], torch.cat(free)[self.spot]

    @property
    def residuals(self) -> list[Tensor]:
        """The parts' residuals."""
        return [part.h for part in self.parts]

    @property
    def places(self) -> int:
        """How many places are read."""
        return len(self._node)

    @property
    def positions(self) -> int:
        """Positions that one edit of every tree runs, padding among them."""
        return sum(part.ids.numel() for part in self.parts)

    @torch.inference_mode()
    def edited(self, edits: Edits) -> Iterator[Read]:
        """What is read of every tree that an edit moves."""
        for part in self.parts:
            moves = torch.stack([move(part.h) for move in edits.moves]).masked_fill(part.still[..., None], 0.0)
            which = torch.tensor(edits.which, device=moves.device)
            lengths = torch.tensor(edits.lengths, dtype=moves.dtype, device=moves.device)
            touched = ((moves != 0).any(-1).any(-1)[which] & (lengths != 0)[:, None]).T.nonzero()
            for some in touched.split(max(1, TOKENS // part.h.shape[1])) if len(touched) else ():
                tree, edit = some.unbind(1)
                h = part.h[tree] + lengths[edit, None, None] * moves[which[edit], tree]
                yield from self._unembedded(*self._run(part, edit, tree, h))

    def handed(self, residuals: Sequence[Tensor]) -> Iterator[Read]:
        """What is read when other residuals [trees, pos, d_model] stand in the parts' place, as edit 0."""
        for part, h in zip(self.parts, residuals, strict=True):
            yield from self._unembedded(*self._run(part, *_all(part), h))

    def patched(self, residuals: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [1, n] of `handed`."""
        return self.fill(torch.zeros_like(self.clean), self.handed(residuals))

    def fill(self, log_p: Tensor, reads: Iterable[Read]) -> Tensor:
        """Log-probabilities [edits, n] with what is read written into them."""
        for read in reads:
            self.note(log_p, read)
        return log_p

    def note(self, log_p: Tensor, read: Read) -> None:
        """Write what is read into log-probabilities [edits, n]."""
        said = self._said[read.spot]
        at, slot = (said >= 0).nonzero(as_tuple=True)
        token = said[at, slot]
        log_p[read.edit[at], token] = read.logits[at, self.token[token]] - read.norm[at]

    def kl(self, read: Read) -> Tensor:
        """KL(clean ‖ edited) [n] in nats at each place that is read."""
        kept, of = self._kept, read.spot
        if kept is None:
            spots, of = of.unique_consecutive(return_inverse=True)
            kept = self._predicted(self._ends[spots])
        p, own = kept
        return (read.norm - torch.linalg.vecdot(p[of], read.logits) + own[of]).clamp_min(0)

    @cached_property
    def _kept(self) -> tuple[Tensor, Tensor] | None:
        """What is predicted at each spot without an intervention; None if that is too much to keep."""
        if 4 * len(self._ends) * self.pair.vocab_size > CLEAN_BYTES:
            return None
        p, own = zip(*map(self._predicted, self._ends.split(self.pair.at_once)), strict=True)
        return torch.cat(p), torch.cat(own)

    def _predicted(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities [n, vocab] without an intervention, and their negative entropy [n] in nats."""
        logits = self.pair.unembed(ends, self.side)
        p = logits.softmax(-1)
        return p, torch.linalg.vecdot(p, logits) - _norm(logits)

    def _run(self, part: Part, edit: Tensor, tree: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Edit [n], spot [n] and output of the last block [n, d_model] where some trees [batch] are read, each under an edit [batch]."""
        spots = part.spots[tree]
        run, slot = (spots >= 0).nonzero(as_tuple=True)
        spot, order = spots[run, slot].sort(stable=True)
        run = run[order]
        told = part.layout and part.layout.of(tree)
        ends = self.pair.ends(h, part.ids[tree], self.side, torch.stack([run, self._node[spot]], 1), told)
        return edit[run], spot, ends

    def _unembedded(self, edit: Tensor, spot: Tensor, ends: Tensor) -> Iterator[Read]:
        """What is read, a few places at a time."""
        for some in torch.arange(len(spot), device=spot.device).split(self.pair.at_once):
            logits = self.pair.unembed(ends[some], self.side)
            yield Read(edit[some], spot[some], logits, _norm(logits))


def _norm(logits: Tensor) -> Tensor:
    """Log-sum-exp [n] of logits [n, vocab]; torch's own takes twice the time of its softmax."""
    return logits[:, 0] - logits.log_softmax(-1)[:, 0]


def _all(part: Part) -> tuple[Tensor, Tensor]:
    """Every tree of a part, under edit 0."""
    tree = torch.arange(len(part.ids), device=part.ids.device)
    return torch.zeros_like(tree), tree


def _table(of: Sequence[int], n: int, device: torch.device) -> Tensor:
    """[n, most] for each of n the indices where `of` names it, −1 where there are fewer."""
    own: list[list[int]] = [[] for _ in range(n)]
    for i, name in enumerate(of):
        own[name].append(i)
    most = max(map(len, own))
    return torch.tensor([[*row, *[-1] * (most - len(row))] for row in own], device=device)


def _similar(lengths: list[int]) -> list[list[int]]:
    """Row indices in at most `PARTS` groups of similar length, with the least padding in all (exact, by dynamic programming)."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    ends = [i for i in range(1, len(order)) if lengths[order[i]] > lengths[order[i - 1]]] + [len(order)]
    best: dict[int, tuple[int, list[int]]] = {0: (0, [])}
    """For each end: positions run, and the ends of the groups, of the rows before it."""
    for _ in range(PARTS):
        for end in reversed(ends):
            longest = lengths[order[end - 1]]
            ways = [
                (area + (end - start) * longest, [*cuts, end]) for start, (area, cuts) in best.items() if start < end
            ]
            best[end] = min([*ways, *([best[end]] if end in best else [])])
    cuts = [0, *best[len(order)][1]]
    return [order[a:b] for a, b in itertools.pairwise(cuts)]


class PromptResiduals:
    """Prompts with continuations on one side: the probability of every continuation under an intervention."""

    def __init__(self, pair: Pair, side: Side, prompts: list[Prompt]):
        self.choices: Choices = choices(pair, prompts)
        row, at, token = self.choices.where.unbind(-1)
        self.rows = Rows(pair, side, self.choices.ids, torch.stack([row, self.choices.keep[at], token], 1))
        self.clean = self.rows.clean
        """[1, tokens] log-probability of each continuation token without an intervention."""

    def edited(self, edits: Edits) -> Tensor:
        """Log-probabilities [edits, continuations]."""
        start = self.clean.repeat(len(edits.which), 1)
        return joint(self.rows.fill(start, self.rows.edited(edits)), self.choices)

    def patched(self, residuals: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [1, tokens] with other residuals, part by part."""
        return self.rows.patched(residuals)


class TextResiduals:
    """Ordinary text on one side: how far the predictions move under an intervention.

    Args:
        other: the same text on the other side: a prediction that moves there costs nothing. None: only this side counts.
    """

    def __init__(self, pair: Pair, side: Side, text: Passage, other: "TextResiduals | None" = None):
        self.other = other
        self.row, self._at = text.scored.nonzero(as_tuple=True)
        """[tokens] the text that each token is of."""
        self.rows = Rows(pair, side, text.ids, torch.stack([self.row, self._at, text.ids[self.row, self._at + 1]], 1))

    def edited(self, edits: Edits) -> Tensor:
        """Collateral [edits, tokens] in nats: the smaller of KL(this side ‖ edited) and KL(other side ‖ edited)."""
        kl = torch.zeros(len(edits.which), self.rows.places, device=self._at.device)
        for read in self.rows.edited(edits):
            kl[read.edit, read.spot] = self._nearest(read)
        return kl[:, self.rows.spot].cpu()

    def _nearest(self, read: Read) -> Tensor:
        """[n] KL from the side that is nearer."""
        own = self.rows.kl(read)
        return own if self.other is None else torch.minimum(own, self.other.rows.kl(read))

    def divergence(self, residuals: Sequence[Tensor]) -> float:
        """KL(clean ‖ handed) in nats a token, with other residuals part by part."""
        kl = torch.zeros(self.rows.places, device=self._at.device)
        for read in self.rows.handed(residuals):
            kl[read.spot] = self.rows.kl(read)
        return float(kl[self.rows.spot].mean())

    def ordinary(self) -> Tensor:
        """Residuals [n, d_model] before each token, the first position and every other sink left out."""
        found, free = self.rows.before()
        return found[free & (self._at > 0)]


class CleanRun:
    """Everything about one side (base or tuned) and one split that does not depend on the intervention."""

    def __init__(
        self,
        pair: Pair,
        side: Side,
        prompts: list[Prompt],
        capability: list[Prompt],
        text: "Passage | TextResiduals",
        by_choices: bool = False,
    ):
        self.pair = pair
        self.side: Side = side
        self.asked = PromptResiduals(pair, side, prompts)
        self.read = self.brief = text if isinstance(text, TextResiduals) else TextResiduals(pair, side, text)
        """Ordinary text, and the part of it on which controls are measured."""
        self.by_choices = by_choices
        """Whether two models differ by their whole distributions over a prompt's continuations, or by the behaviour's rate."""
        clean = joint(self.asked.clean, self.asked.choices)
        self.rates: Tensor = shares(clean, self.asked.choices)[0].cpu()
        """[prompts] of the un-intervened model."""
        self.said = self._said(clean)[0]
        """[continuations] or [prompts]: what distances are measured of."""
        self._capability_prompts = capability
        self.other = self
        """The same of the other side; see `face`."""

    @classmethod
    def both(
        cls,
        pair: Pair,
        prompts: list[Prompt],
        capability: list[Prompt],
        text: "Passage | Mapping[Side, CleanRun]",
        by_choices: bool = False,
        *,
        brief: Passage | None = None,
    ) -> "dict[Side, CleanRun]":
        """Both sides, facing each other.

        Args:
            text: ordinary text, or the runs that have read it.
            brief: less text, for what is measured of many; None, or no less: all of it.
        """
        read = {side: text if isinstance(text, Passage) else text[side].read for side in SIDES}
        base, tuned = (cls(pair, side, prompts, capability, read[side], by_choices) for side in SIDES)
        if brief is not None and not (isinstance(text, Passage) and len(brief.ids) == len(text.ids)):
            base.brief, tuned.brief = (TextResiduals(pair, side, brief) for side in SIDES)
        for here, there in ((base, tuned), (tuned, base)):
            here.other, here.read.other, here.brief.other = there, there.read, there.brief
        return {"base": base, "tuned": tuned}

    @cached_property
    def gap(self) -> Tensor:
        """[prompts] distance of the two models."""
        return self._distance(self.said[None])[0]

    @cached_property
    def capability(self) -> tuple[PromptResiduals, float] | None:
        """Capability probes and the un-intervened accuracy."""
        if not self._capability_prompts:
            return None
        asked = PromptResiduals(self.pair, self.side, self._capability_prompts)
        return asked, float(hits(joint(asked.clean, asked.choices), asked.choices).mean())

    @cached_property
    def scale(self) -> float:
        """Mean residual norm on ordinary text."""
        return float(self.read.ordinary().norm(dim=-1).mean())

    def retention(self, organism: "CleanRun") -> float:
        """Capability accuracy without an intervention, relative to the organism and at most 1, and nothing else: neither model costs
        anything on text."""
        if not (self.capability and organism.capability):
            return 1.0
        return (1 + min(1.0, self.capability[1] / max(organism.capability[1], 1e-9))) / 2

    def patched(self, other: "CleanRun") -> Tensor:
        """[prompts] distance to the other side with its whole residual on the same prompts."""
        log_p = self.asked.patched(other.asked.rows.residuals)
        return self._distance(self._said(joint(log_p, self.asked.choices)))[0]

    def measured(self, edits: Edits) -> tuple[Tensor, Tensor]:
        """Distances to the other side and rates of the behaviour, [edits, prompts] each."""
        log_mass = self.asked.edited(edits)
        return self._distance(self._said(log_mass)), shares(log_mass, self.asked.choices).cpu()

    def behaviour_rates(self, edits: Edits) -> Tensor:
        """Rates [edits, prompts]."""
        return self.measured(edits)[1]

    def collateral(self, edits: Edits) -> Tensor:
        """[edits] mean over tokens; see `TextResiduals.edited`."""
        return self.read.edited(edits).mean(1)

    def accuracy(self, edits: Edits) -> Tensor:
        """Capability accuracy [edits] relative to no intervention, at most 1; to be asked only where there are probes."""
        assert self.capability is not None, "no capability probes"
        asked, clean = self.capability
        return (hits(asked.edited(edits), asked.choices).mean(1) / max(clean, 1e-9)).clamp_max(1).cpu()

    def _said(self, log_mass: Tensor) -> Tensor:
        """[batch, continuations] shares of a prompt's continuations, or [batch, prompts] rates."""
        c = self.asked.choices
        return (portions if self.by_choices else shares)(log_mass, c).cpu()

    def _distance(self, said: Tensor) -> Tensor:
        """[batch, prompts] from the other side: total variation, or the difference of rates."""
        apart = (said - self.other.said).abs()
        if not self.by_choices:
            return apart
        c = self.asked.choices
        return apart.new_zeros(len(apart), c.n).index_add_(1, c.prompt.cpu(), apart) / 2
