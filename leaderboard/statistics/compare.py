"""Which methods differ: paired differences over the same draws, corrected for the number of pairs.

Two questions, two errors. For organisms like these (`across`) the standard error of a difference is the standard
deviation of its bootstrap draws. Its interval and its two-sided p use Student's t with one degree of freedom less than
there are clusters (families), the usual small-sample form for clustered data (Cameron & Miller 2015, "A practitioner's
guide to cluster-robust inference", §VI). Counting the draws beyond 0 instead calls far too many differences real when
clusters are few: with eight clusters 3-4 % of true nulls get p < .005, which Holm's correction would then take at face
value. On this very set of organisms: `fixed`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from ...harness.protocol.intervals import Array
from ..pages.text_formats import GROUP_HEADS, ahead_text, estimate_text, markdown_table, marked, md, number, rank_text
from .rows import Estimate, Pair, Table

Error = Callable[[str, str], tuple[float, float]]
"""Standard error of the difference of two methods' scores, and its degrees of freedom."""


def paired(values: Mapping[str, float], error: Error) -> tuple[Pair, ...]:
    """Every pair of methods, given their scores (best first)."""
    found: list[tuple[str, str, Estimate, float]] = []
    for better, worse in combinations(values, 2):
        gap = values[better] - values[worse]
        deviation, df = error(better, worse)
        t = stats.t(df)
        reach = float(t.ppf(0.975)) * deviation
        ratio = gap / deviation if deviation else np.inf * gap if gap else 0.0
        difference = Estimate(gap) if np.isinf(deviation) else Estimate(gap, gap - reach, gap + reach)
        found.append((better, worse, difference, 2 * float(t.sf(abs(ratio)))))
    corrected = holm([p for *_, p in found])
    return tuple(Pair(*pair, float(p)) for pair, p in zip(found, corrected, strict=True))


def across(draws: Mapping[str, Array], clusters: int | None) -> Error:
    """The error for organisms like these, from the [draws] of each method; draws undefined for either are left out.

    `clusters`: None where there is only one organism, which says nothing of others: the error is then without bound.
    """

    def error(a: str, b: str) -> tuple[float, float]:
        gaps = draws[a] - draws[b]
        defined = gaps[~np.isnan(gaps)]
        if clusters is None or not len(defined):
            return np.inf, 1
        return float(np.std(defined)), clusters - 1

    return error


def holm(p: Sequence[float]) -> Array:
    """Step-down corrected p-values [n], in the order given (Holm 1979): max over smaller ones of (n − rank) p, at most 1."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return corrected


def letters(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, str]:
    """Compact letter display: two methods share a letter exactly if they are not separated.

    Insert and absorb (Piepho 2004): start with one group of all; for each separated pair split every group that holds
    both into one without the first and one without the second, and drop groups inside others.
    """
    groups = [frozenset(names)]
    for pair in pairs:
        if pair.separated:
            split = [
                g - {m} if {pair.better, pair.worse} <= g else g for g in groups for m in (pair.better, pair.worse)
            ]
            unique = list(dict.fromkeys(split))
            groups = [g for g in unique if not any(g < other for other in unique)]
    groups.sort(key=lambda g: sorted(names.index(m) for m in g))
    return {m: "".join(_letter(i) for i, g in enumerate(groups) if m in g) for m in names}


def comparison_markdown(table: Table) -> str:
    """Ranked methods with their groups, and every pair of them."""
    methods = [
        [rank_text(row), row.group, ahead_text(row), md(marked(row)), estimate_text(row.scores[table.key])]
        for row in table.overall
        if row.standing == "ranked"
    ]
    heads = ("Rank", *GROUP_HEADS, "Method", table.key.capitalize())
    apart = (
        "Methods that share a letter are unresolved for organisms like these: their order may be noise. Intervals are 95 % "
        "each, p (Holm) holds for all."
    )
    here = f"\n## On this set\n\n{md(table.verdict_here)}\n\n{_pairs(table.here)}" if table.here else ""
    return (
        f"# Comparison\n\n{md(table.header)}\n\n{markdown_table(heads, methods)}\n{apart}\n\n"
        f"## For organisms like these\n\n{md(table.verdict)}\n\n{_pairs(table.pairs)}{here}"
    )


def _pairs(pairs: Sequence[Pair]) -> str:
    rows = [
        [
            md(pair.better),
            md(pair.worse),
            estimate_text(pair.difference),
            _p_text(pair.p),
            _p_text(pair.p_holm),
            "separated" if pair.separated else "unresolved",
        ]
        for pair in pairs
    ]
    return markdown_table(("Better", "Worse", "Difference", "p", "p (Holm)", ""), rows)


def comparison_data(table: Table) -> dict[str, Any]:
    """`comparison_markdown` as plain values."""
    return {
        "score": table.key,
        "protocol_sha256": table.protocol_sha256,
        "organisms": [o for o in table.organisms if o not in table.inapplicable],
        "not_applicable": list(table.inapplicable),
        "clusters": table.clusters,
        "draws": table.draws,
        "seed": table.seed,
        "methods": [
            {"method": r.method}
            | dict(zip(("rank", "rank_low", "rank_high"), r.place or (None,) * 3, strict=True))
            | {"group": r.group, "ahead_here": r.ahead_here, "behind_here": r.behind_here}
            | r.scores[table.key]._asdict()
            for r in table.overall
            if r.standing == "ranked"
        ],
        "pairs": [_pair_data(p) for p in table.pairs],
        "pairs_here": [_pair_data(p) for p in table.here],
        "unknown_here": list(table.unknown_here),
    }


def _pair_data(p: Pair) -> dict[str, Any]:
    names = ("better", "worse", "p", "p_holm", "separated")
    return {name: getattr(p, name) for name in names} | p.difference._asdict()


def _p_text(p: float) -> str:
    return "<.001" if p < 0.001 else number(p, 3)


def _letter(i: int) -> str:
    """0 → a, 25 → z, 26 → A, 51 → Z, then a2, …"""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[i % 52] + (str(i // 52 + 1) if i >= 52 else "")
