"""Do latents of two dictionaries fire together, whatever basis they are written in? One pass over common text says it.

With codes F [T, n_A] and G [T, n_B] on the same T tokens, s their sums, q their sums of squares and S = FᵀG,
    r_ij = (T S_ij − s_i s_j) / √((T q_i − s_i²)(T q_j − s_j²)).
Codes are sparse, so S is: where two latents are never active on one token, r is not positive, and the best partner of a latent that
shares no token with any counts 0. Chance is the same with G moved along the text, each kind of text within itself by half of its own
length: moved over all of it, chat would lie on neutral text, and what fires by the kind of text alone would count as agreement.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ...methods.formats import Dictionary
from ...organisms.errors import UsageError
from ...organisms.organism import Organism
from ...organisms.texts import Texts
from ..pairs.engine import SIDES
from ..pairs.pair import Pair
from ..pairs.sinks import Count
from ..protocol.prompts import passage
from ..runs.stage import Stage

Codes = Any
"""`scipy.sparse.csr_matrix` [T, n] of float64, which has no types."""
AT_ONCE = 2048
"""Tokens coded at a time."""
PASSAGES = ("neutral", "chat")


class Correlation(NamedTuple):
    """Activation correlation of two dictionaries."""

    max_ab: float
    """Mean over latents of A of the largest correlation with a latent of B."""
    max_ba: float
    matched: float
    """Mean correlation of latents that the cosines matched; NaN without matches."""


def correlate(f: Codes, g: Codes, matches: tuple[Tensor, Tensor]) -> Correlation:
    """Of codes on the same tokens; latents that never fire are to be left out before.

    Args:
        matches: latents matched otherwise, as (index in A, index in B).
    """
    tokens = f.shape[0]
    together: Any = sparse.coo_matrix(f.T @ g)
    i, j, s = together.row, together.col, together.data
    sums_a, sums_b = _sums(f), _sums(g)
    spread_a, spread_b = (np.sqrt(np.maximum(tokens * _sums(x.multiply(x)) - _sums(x) ** 2, 0)) for x in (f, g))
    scale = spread_a[i] * spread_b[j]
    r = np.divide(tokens * s - sums_a[i] * sums_b[j], scale, out=np.zeros_like(s), where=scale > 0)
    best_a, best_b = np.zeros(f.shape[1]), np.zeros(g.shape[1])
    np.maximum.at(best_a, i, r)
    np.maximum.at(best_b, j, r)
    a, b = (x.numpy() for x in matches)
    pairs = _sums(f[:, a].multiply(g[:, b]))
    scale = spread_a[a] * spread_b[b]
    own = np.divide(tokens * pairs - sums_a[a] * sums_b[b], scale, out=np.zeros_like(pairs), where=scale > 0)
    return Correlation(float(best_a.mean()), float(best_b.mean()), float(own.mean()) if len(own) else float("nan"))


def chance(f: Codes, g: Codes, matches: tuple[Tensor, Tensor], lengths: Sequence[int]) -> Correlation:
    """`correlate` with the codes of B moved along the text, each kind of text within itself by half of its length.

    Args:
        lengths: tokens of each kind, in the order in which they stand.
    """
    assert sum(lengths) == g.shape[0]
    moved, start = list[Codes](), 0
    for n in lengths:
        half, end = start + n // 2, start + n
        moved += [g[half:end], g[start:half]]
        start = end
    return correlate(f, sparse.csr_matrix(sparse.vstack(moved)), matches)


def _sums(x: Codes) -> NDArray[np.float64]:
    return np.asarray(x.sum(0), dtype=np.float64).ravel()


def codes_on_text(
    dictionaries: Sequence[Dictionary], organisms: Sequence[Organism], tokens: int
) -> tuple[list[Codes], list[int]]:
    """Codes of every dictionary on the same held-out text, first neutral, then about as much chat, and the tokens of each.

    Args:
        dictionaries: with the layer that each codes.
        organisms: whose pair each belongs to, all on one base; the text is that of the first.

    Raises:
        UsageError: an organism without the block or the width that a dictionary codes.
    """
    rows: list[tuple[Tensor, Tensor]] | None = None
    parts: dict[int, list[Codes]] = {i: [] for i in range(len(dictionaries))}
    for name, organism in {o.name: o for o in organisms}.items():
        stage = Stage.load(organism)
        rows = rows or _text(stage.pair, stage.texts, tokens)
        mine = [i for i, o in enumerate(organisms) if o.name == name]
        for card in (dictionaries[i].card for i in mine):
            if card.d_model != stage.pair.d_model or (card.layer or 0) >= stage.pair.n_layers:
                raise UsageError(
                    f"a dictionary of block {card.layer} and width {card.d_model} has nothing to read in {name}, whose models have "
                    f"{stage.pair.n_layers} blocks of width {stage.pair.d_model}; give -o an organism of its base, or --tokens 0"
                )
        for layer in sorted({_layer(dictionaries[i]) for i in mine}):
            _code(
                stage.pair.at(layer),
                rows,
                {i: dictionaries[i] for i in mine if _layer(dictionaries[i]) == layer},
                parts,
            )
    held: list[Codes] = [sparse.csr_matrix(sparse.vstack(part)) for part in parts.values()]
    return held, [int(real.sum()) for _, real in rows or []]


def _layer(dictionary: Dictionary) -> int:
    assert dictionary.card.layer is not None
    return dictionary.card.layer


def _text(pair: Pair, texts: Texts, tokens: int) -> list[tuple[Tensor, Tensor]]:
    """(ids, mask of the tokens that are coded) of some rows at a time: first positions, which are sinks, are left out of all."""
    found: list[tuple[Tensor, Tensor]] = []
    for kind in PASSAGES:
        read = passage(pair, texts.rows(kind, "test"), tokens // len(PASSAGES))
        real = torch.nn.functional.pad(read.scored, (1, 0))
        if pair.sinks:
            both = torch.stack([pair.residuals(read.ids, side) for side in SIDES], 2)
            real = pair.sinks.ordinary(both, read.ids, real, Count())
        found.append((read.ids, real))
    return found


def _code(
    pair: Pair,
    rows: Sequence[tuple[Tensor, Tensor]],
    mine: Mapping[int, Dictionary],
    parts: Mapping[int, list[Codes]],
) -> None:
    """Codes of the dictionaries of one layer, appended to `parts`."""
    for ids, real in rows:
        both = torch.stack([pair.residuals(ids, side) for side in SIDES], 2)[real].cpu()
        for i, dictionary in mine.items():
            for part in both.split(AT_ONCE):
                parts[i].append(sparse.csr_matrix(dictionary.encode(part).double().numpy()))
