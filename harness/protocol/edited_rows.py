"""Token rows of one model whose residuals are edited at the hooked layer, and the log-probabilities that are read behind the edit.

Only the blocks above the layer run, and three things never do: beginnings that rows share (`pairs/trees.py`), padding (trees of similar
size stand together), and trees that an intervention leaves as they are. Logits are made where they are read and a few at a time, so a
wide vocabulary is never held whole.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..pairs.engine import Side
from ..pairs.interventions import Edits
from ..pairs.pair import Pair
from ..pairs.proof import overflow
from ..pairs.trees import Layout, Tree, layout

PARTS, TOKENS = 6, 2048
"""Most parts that trees are divided into, and tokens in one forward pass (they stay in cache)."""
CLEAN_BYTES = 2**27
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
            moves = torch.stack([move(part.h) for move in edits.moves]).masked_fill_(part.still[..., None], 0.0)
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
