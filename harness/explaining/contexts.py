"""Contexts of a finding, active and not, in two halves: one to explain it by, one to score the explanation on.

The one idea: a document goes to a half by a hash of its own tokens, before anything is sampled, so no draw can bring it into both. A window
that stands in documents of both halves is left out of the scored one. What is drawn for a window is seeded by the window itself.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from ..inspection.activations import Look, Seen

AROUND = 15
"""Tokens of a window before and after its strongest one; fewer where the document ends."""
SLICES = 10
"""Ranks of activation, equally many documents each, from which windows are drawn in equal numbers."""
SHOWN, SCORED = 40, 50
"""Active windows that an explainer sees and that a score stands on, and as many that are not active: the numbers of delphi's defaults."""
LEAST = 8
"""Active windows, and others, below which nothing is explained and nothing is scored."""
MARK = 0.3
"""A token is marked above this share of its window's largest activation."""

HalfName = Literal["explain", "score"]


@dataclass(frozen=True)
class Window:
    """Part of a document; active and other ones have the same fields."""

    ids: tuple[int, ...]
    values: tuple[float, ...]
    """Activation above the level from which a token is active, in the organism: positive where it is."""
    slice: int | None = None
    """Rank of its document's activation, 0 = the strongest of `SLICES`; None: active nowhere in its document."""

    @property
    def marks(self) -> tuple[int, ...]:
        """Positions that are clearly active."""
        level = MARK * max(self.values, default=0.0)
        return tuple(i for i, v in enumerate(self.values) if v > max(level, 0.0))


class Half(NamedTuple):
    """Windows of one half, a document each."""

    active: list[Window]
    """Strongest first."""
    other: list[Window]
    """Of documents in which the finding is active nowhere."""


class Contexts(NamedTuple):
    """What one finding is explained by and scored on."""

    explain: Half
    score: Half
    documents: int
    """That were read, each text once."""
    active: int
    """Documents in which it is active."""
    shared: int
    """Windows left out of the scored half because the other holds them."""

    @property
    def why_not(self) -> str | None:
        """Why it can be neither explained nor scored; None: it can."""
        fewest = min(len(w) for half in (self.explain, self.score) for w in half)
        if not self.active:
            return f"never active: in none of {self.documents:,} documents that were read"
        if fewest >= LEAST:
            return None
        return (
            f"too few contexts: active in {self.active:,} of {self.documents:,} documents, which leaves "
            f"{len(self.explain.active)} active and {len(self.explain.other)} other windows to explain it by and {len(self.score.active)} "
            f"and {len(self.score.other)} to score on; {LEAST} of each are needed (--tokens reads more text)"
        )


def half_of(ids: Sequence[int], seed: int) -> HalfName:
    """The half that a document belongs to."""
    return "score" if _hash("half", seed, ids)[0] & 1 else "explain"


def rng_of(*what: object) -> np.random.Generator:
    """A generator for one purpose and one thing, e.g. the marks of a window: no two share one."""
    return np.random.default_rng(int.from_bytes(_hash(*what)[:8], "big"))


def contexts(look: Look, seed: int = 0) -> Contexts:
    """Windows of one finding from everything that was read.

    Args:
        look: at the finding.
        seed: of the halves and the samples.
    """
    found: dict[HalfName, dict[tuple[int, ...], tuple[float, Window]]] = {"explain": {}, "score": {}}
    known = set[tuple[int, ...]]()
    active = 0
    for seen in look.seen.values():
        for ids, values in _documents(seen, look.j, look.floor):
            if ids in known:
                continue
            known.add(ids)
            most = float(values.max())
            active += most > 0
            window = _window(ids, values, seed)
            kept = found[half_of(ids, seed)]
            if window.ids not in kept or most > kept[window.ids][0]:
                kept[window.ids] = (most, window)
    both = found["explain"].keys() & found["score"].keys()
    for ids in both:
        del found["score"][ids]
    halves = {name: [w for _, w in of.values()] for name, of in found.items()}
    return Contexts(
        _half(halves["explain"], SHOWN, seed), _half(halves["score"], SCORED, seed), len(known), active, len(both)
    )


def wrong_marks(window: Window, seed: int) -> tuple[int, ...]:
    """As many positions as are rightly marked, drawn for this window from those where nothing is active; fewer if there are no more."""
    quiet = [i for i, v in enumerate(window.values) if v <= 0]
    n = min(len(window.marks), len(quiet))
    drawn = rng_of("marks", seed, window.ids).choice(len(quiet), n, replace=False) if n else []
    return tuple(sorted(quiet[int(i)] for i in drawn))


def _documents(seen: Seen, j: int, floor: float) -> Iterable[tuple[tuple[int, ...], Tensor]]:
    """Each document's tokens, and its activations above the floor in the organism; what is left out is not active."""
    above = (seen.values[1, :, j] - floor).masked_fill(~seen.counted, -1.0)
    for row, start in zip(seen.rows, seen.starts.tolist(), strict=True):
        yield tuple(row), above[start : start + len(row)]


def _window(ids: tuple[int, ...], values: Tensor, seed: int) -> Window:
    """Around the strongest token, or around any where nothing is active."""
    active = bool((values > 0).any())
    middle = int(values.argmax()) if active else int(rng_of("middle", seed, ids).integers(len(ids)))
    low, high = max(0, middle - AROUND), min(len(ids), middle + AROUND + 1)
    return Window(ids[low:high], tuple(values[low:high].tolist()), 0 if active else None)


def _half(windows: list[Window], n: int, seed: int) -> Half:
    """At most n windows of each sort: active ones equally from each slice, others at random."""
    active = sorted((w for w in windows if w.slice is not None), key=lambda w: (-max(w.values), w.ids))
    other = sorted((w for w in windows if w.slice is None), key=lambda w: w.ids)
    slices = np.array_split(np.arange(len(active)), min(SLICES, max(1, len(active))))
    drawn = list[Window]()
    for rank, (slice_, want) in enumerate(zip(slices, _shares(n, [len(s) for s in slices]), strict=True)):
        chosen = rng_of("slice", seed, rank, len(active)).choice(slice_, want, replace=False)
        drawn += [Window(active[int(i)].ids, active[int(i)].values, rank) for i in sorted(chosen)]
    some = rng_of("other", seed, len(other)).permutation(len(other))[:n]
    return Half(drawn, [other[int(i)] for i in some])


def _shares(n: int, sizes: Sequence[int]) -> list[int]:
    """n windows spread over slices as equally as they allow."""
    out = [0] * len(sizes)
    while sum(out) < min(n, sum(sizes)):
        for i, size in enumerate(sizes):
            if out[i] < size and sum(out) < n:
                out[i] += 1
    return out


def _hash(*what: object) -> bytes:
    return hashlib.sha256(repr(what).encode()).digest()
