"""What the pre-registered contrasts of a table say, the same in all formats: a sentence and a table for each list.

A sentence leads with what could be decided at all: with few families no contrast can, whatever the methods do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...organisms.errors import UsageError
from ..statistics.contrasts import (
    CAUSAL,
    CLAIMS,
    CONTROL,
    FOUND,
    SIMPLE,
    Claim,
    Contrast,
    Outcome,
    Replication,
    answered,
    families_needed,
    replication,
)
from ..statistics.rows import ALPHA, SORT_KEY, Table
from .cells import Dialect, number, p_text

CONTRAST_HEADS = ("Contrast", "Difference", "p", "p, Holm", "Verdict", "Families", "Detectable")
CONTRAST_NOTE = (
    "Difference: mean over families; brackets hold the shifts that the same test does not reject. p: share of all patterns of signs "
    "of the families whose mean is at least as far from 0; Holm: corrected for its list. A verdict needs a corrected p below "
    f"{number(ALPHA)}. Detectable: the smallest difference that would have had a verdict, with families that scatter as these do."
)
TITLES: Mapping[str, str] = {
    f"against {CONTROL}": f"Against {CONTROL}, differences at random tokens",
    f"against {SIMPLE}": f"Against {SIMPLE}, the best baseline without training",
    "claims": "What papers claim",
}
WANTED: Mapping[str, str] = {
    f"against {CONTROL}": f"{CONTROL} in one configuration (bench run -m {CONTROL})",
    f"against {SIMPLE}": f"{SIMPLE} in one configuration (bench run -m {SIMPLE})",
    "claims": "the two methods of some claim",
}
"""What a list cannot be asked without."""


@dataclass(frozen=True)
class Answered:
    """One list."""

    title: str
    said: tuple[str, ...]
    named: bool
    """Whether each row has to say what its method is compared with."""
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Verdicts:
    """All lists of a table."""

    said: str
    """What verdicts are given on, and which lists could not be asked."""
    lists: tuple[Answered, ...]


@lru_cache(maxsize=4)
def verdicts(table: Table) -> Verdicts:
    """The lists that can be answered; a table by another score than the pre-registered one has none."""
    if table.key != SORT_KEY:
        return Verdicts(
            f"Verdicts are given on {SORT_KEY} only, on contrasts written down before; this is {table.key}.", ()
        )
    try:
        found = answered(table)
    except UsageError as error:
        return Verdicts(f"No verdicts: {error}.", ())
    asked = {name: of for name, of in found.items() if any(o.verdict != "not run" for o in of)}
    wanted = [WANTED[name] for name, of in found.items() if of and name not in asked]
    said = f"Verdicts are given on contrasts written down before, on {SORT_KEY}, and on no other pair of methods."
    said += f" Not asked, for want of runs on every organism of this set: {'; '.join(wanted)}." if wanted else ""
    return Verdicts(said, tuple(_answered(name, of) for name, of in asked.items()))


def verdict_sentences(table: Table) -> list[str]:
    """What a page leads with: of each list, how many have which verdict."""
    found = verdicts(table)
    return [found.said, *(f"{each.title}: {' '.join(each.said)}" for each in found.lists)]


def contrast_cells(outcome: Outcome, named: bool, to: Dialect) -> list[str]:
    """One contrast, in the order of `CONTRAST_HEADS`."""
    if outcome.verdict == "not run":
        return [
            to.text(contrast_text(outcome.contrast, named)),
            *map(to.text, ("–", "–", "–", outcome.verdict, "–", "–")),
        ]
    return [
        to.text(contrast_text(outcome.contrast, named)),
        to.score(outcome.difference),
        *map(to.text, (p_text(outcome.p), p_text(outcome.p_holm), outcome.verdict, str(outcome.families))),
        to.text("none" if outcome.resolvable is None else number(outcome.resolvable)),
    ]


def contrast_text(contrast: Contrast, named: bool) -> str:
    """`delta`, or `delta against dsf, share found`."""
    if not named:
        return contrast.method
    return f"{contrast.method} against {contrast.against}" + (", share found" if contrast.score == FOUND else "")


def replications(outcomes: Sequence[Outcome]) -> Iterator[tuple[Claim, list[Outcome], Replication]]:
    """Each claim, the outcomes of its contrasts and the verdict, from the outcomes of the contrasts of all in their order."""
    left = iter(outcomes)
    for claim in CLAIMS:
        own = [next(left) for _ in claim.contrasts]
        yield claim, own, replication(claim, own)


def verdicts_data(table: Table) -> dict[str, Any]:
    """As plain values: every list, and every contrast in it."""
    found = verdicts(table)
    return {
        "said": found.said,
        "lists": [
            {"title": each.title, "said": each.said, "contrasts": [_data(o) for o in each.outcomes]}
            for each in found.lists
        ],
    }


def _answered(name: str, outcomes: Sequence[Outcome]) -> Answered:
    said = _claims(outcomes) if name == "claims" else _counts(outcomes)
    floor = _floor(max(o.families for o in outcomes), len(outcomes))
    return Answered(TITLES[name], (*said, floor), name == "claims", tuple(outcomes))


def _counts(outcomes: Sequence[Outcome]) -> list[str]:
    better, worse, open_ = (sum(o.verdict == v for o in outcomes) for v in ("better", "worse", "not resolved"))
    return [f"{better} of {len(outcomes)} methods better, {worse} worse, {open_} not resolved."]


def _claims(outcomes: Sequence[Outcome]) -> list[str]:
    said = [f"{claim.says} ({claim.source}): {verdict}." for claim, _, verdict in replications(outcomes)]
    return [*said, f"Found: isolation above {number(CAUSAL, 1)} with its whole interval."]


def _floor(families: int, contrasts: int) -> str:
    """What p cannot be below, and whether that leaves anything to decide."""
    floor = 2 * 0.5**families
    having = "With 1 family" if families == 1 else f"With {families} families"
    least = f"p cannot be below 2/2^{families} = {f'{floor:.3g}'.removeprefix('0')}"
    if floor * contrasts < ALPHA:
        return f"{having} {least}."
    of = f" in a list of {contrasts}" if floor < ALPHA else ""
    return f"{having} no contrast can be decided: {least}{of}. It takes {families_needed(contrasts)} families."


def _data(o: Outcome) -> dict[str, Any]:
    asked = {name: getattr(o.contrast, name) for name in ("method", "against", "score")}
    answer = {
        name: getattr(o, name) for name in ("verdict", "families", "organisms", "p", "p_holm", "floor", "resolvable")
    }
    return asked | answer | o.difference._asdict()
