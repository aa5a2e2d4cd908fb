"""Pre-registered contrasts: the few comparisons that get a verdict, written down before the records they are asked of.

Three lists: every method against a random direction of the right kind, every method against the best baseline without training, and what
the seed papers claim. All other pairs of a table are looked at without a verdict.

The family is the unit, since organisms of a family succeed or fail together. If two methods are alike on families in
general, each family's difference might as well have had the other sign; p is the share of all 2^F sign patterns with a mean at
least as far from 0 (Fisher's randomisation test; it needs symmetry and nothing else). It cannot be below 2 / 2^F. The
interval holds the shifts that the same test does not reject, so that it ends at 0 where p = .05 (Hartigan 1969, "Using
subsample values as typical values"). Holm's correction runs within a list, unanswered contrasts counted as p = 1: a method
or a clone that joins a list changes the corrected p of the others through the length of the list, and nothing else of theirs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...harness.protocol.intervals import Array
from ...harness.store.labels import as_published
from ...organisms.errors import UsageError
from .compare import holm
from .resample import family
from .rows import ALPHA, SORT_KEY, Estimate, Table

CONTROL = "random_difference"
"""Differences at random tokens: what a method must beat to have found anything."""
SIMPLE = "logit_diff"
"""Of the baselines without training, the one that is best on the tuning set (docs/tuning.md)."""
PUBLISHED = as_published("delta")
"""Delta with the settings of its paper, so that a claim is tested as it was made."""
FOUND = "found"
"""1 where the whole interval of isolation lies above `CAUSAL`, else 0; its mean is a share of organisms."""
CAUSAL = 0.1
"""Isolation from which findings count as causal."""
ALIKE = 0.1
"""Two methods are alike if the whole interval of their difference lies within this."""
ROUNDING = 1e-12
"""Scores that agree to this are equal, and so are the sums of sign patterns."""
MOST = 30
"""Families of which all sign patterns are counted."""
Values = Mapping[str, Mapping[str, float | None]]
"""Method → organism → its score: the mean over seeds with failures as 0, None where the score is not applicable. A method that
is not there was not run; one whose grid has holes must not be there either, or it would be compared on what it was run on."""
Verdict = Literal["better", "worse", "not resolved", "not run"]
Replication = Literal["replicates", "does not replicate", "unresolved"]


@dataclass(frozen=True)
class Contrast:
    """One question: does `method` differ from `against`?"""

    method: str
    against: str
    score: str = SORT_KEY


@dataclass(frozen=True)
class Claim:
    """What a paper says, as contrasts that would show it."""

    says: str
    source: str
    contrasts: tuple[Contrast, ...]
    expects: Literal["higher", "alike"] = "higher"
    """`higher`: each method is better than what it is against. `alike`: each interval lies within ±`ALIKE`."""


CLAIMS = (
    Claim(
        "Delta finds more of what causes the behaviour than SAE baselines",
        "Delta-Crosscoder, arXiv 2603.04426",
        tuple(Contrast(PUBLISHED, s) for s in ("sae_ft", "sae_base", "sae_diff", "sae_pair", "sae_stagewise")),
    ),
    Claim(
        "Delta matches the activation-difference lens",
        "Delta-Crosscoder, arXiv 2603.04426",
        (Contrast(PUBLISHED, "adl"),),
        "alike",
    ),
    Claim(
        "Delta finds causal latents on more organisms than DSF and BatchTopK (10, 6 and 4 of 10)",
        "Delta-Crosscoder, arXiv 2603.04426",
        tuple(Contrast(PUBLISHED, as_published(m), FOUND) for m in ("dsf", "batch_topk")),
    ),
)
"""The claims that compare methods; the others have rules of their own (`benchmarks/claims.py`)."""


@dataclass(frozen=True)
class Outcome:
    """The answer to a contrast."""

    contrast: Contrast
    verdict: Verdict
    families: int
    moved: int
    """Families in which the two differ at all: a tie has no sign to flip."""
    organisms: int
    """Organisms that both methods have a score on."""
    difference: Estimate
    """Mean over families of the mean over their organisms; without ends where no shift at all can be rejected."""
    p: float = 1.0
    p_holm: float = 1.0
    """Corrected for the length of the list."""
    resolvable: float | None = None
    """The smallest difference that would have been resolved, were it the first of its list, with families that scatter as
    these do. None: no difference would."""

    @property
    def floor(self) -> float:
        """The smallest p there is with these families."""
        return 2.0 ** min(0, 1 - self.moved)

    @property
    def said(self) -> str:
        """The numbers behind the verdict in one line."""
        value, low, high = self.difference
        if value is None:
            return "not run: no organism has a score of both"
        ends = "" if low is None else f" [{low:+.2f}, {high:+.2f}]"
        tied = "" if self.moved == self.families else f", {self.families - self.moved} of them tied"
        where = " in every family" if tied else ""
        smallest = "no difference" if self.resolvable is None else f"a difference of {self.resolvable:.2f}{where}"
        return (
            f"{value:+.2f}{ends}, p {self.p:.2g}, Holm {self.p_holm:.2g}; families: {self.families}{tied}, so p ≥ {self.floor:.2g}; "
            f"{smallest} would have been resolved"
        )


def answered(table: Table) -> dict[str, list[Outcome]]:
    """All three lists, asked of one table: every ranked method against each baseline, and the claims one after another."""
    methods, values = [row.method for row in table.overall if row.standing == "ranked"], values_of(table)
    lists = {f"against {baseline}": against(methods, baseline) for baseline in (CONTROL, SIMPLE)}
    lists["claims"] = [contrast for claim in CLAIMS for contrast in claim.contrasts]
    return {name: outcomes(contrasts, values) for name, contrasts in lists.items()}


def values_of(table: Table) -> dict[str, Values]:
    """By score, and `FOUND`: what a table says of the methods that were run on all of its organisms, where these count in the score."""
    whole = {row.method for row in table.overall if row.standing != "incomplete"}
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in table.cells:
        if row.method in whole:
            values = {s: None if s in row.not_counted else e.value for s, e in row.scores.items()}
            low = row.scores[SORT_KEY].low
            causal = None if values[SORT_KEY] is None else float(low is not None and low > CAUSAL)
            for score, value in (values | {FOUND: causal}).items():
                found.setdefault(score, {}).setdefault(row.method, {})[row.organism] = value
    return dict(found)


def against(methods: Sequence[str], baseline: str, score: str = SORT_KEY) -> list[Contrast]:
    """Every method against one, in the order given."""
    return [Contrast(m, baseline, score) for m in methods if m != baseline]


def outcomes(contrasts: Sequence[Contrast], values: Mapping[str, Values]) -> list[Outcome]:
    """Answer one list from the `values` of each score. Names of organisms lead with their family.

    Raises:
        UsageError: more families than sign patterns can be counted for.
    """
    level = ALPHA / max(1, len(contrasts))
    found = [_outcome(c, values.get(c.score, {}), level) for c in contrasts]
    corrected = holm([o.p for o in found])
    return [_judged(o, float(p)) for o, p in zip(found, corrected, strict=True)]


def replication(claim: Claim, found: Sequence[Outcome]) -> Replication:
    """The verdict on a claim from the outcomes of its contrasts."""
    verdicts = {o.verdict for o in found}
    if claim.expects == "alike":
        ends = [(o.difference.low, o.difference.high) for o in found]
        if all(low is not None and high is not None and low >= -ALIKE and high <= ALIKE for low, high in ends):
            return "replicates"
        return "does not replicate" if verdicts & {"better", "worse"} else "unresolved"
    return "replicates" if verdicts == {"better"} else "does not replicate" if "worse" in verdicts else "unresolved"


def families_needed(contrasts: int) -> int:
    """Families with which the first contrast of a list of this length can be resolved at all."""
    return math.floor(math.log2(2 * contrasts / ALPHA)) + 1


def sign_flip_p(differences: Array) -> float:
    """Two-sided p of the mean of [families] over all sign patterns.

    The patterns of each half of the families are counted against those of the other, so 2^(F/2) sums are held and not 2^F.

    Raises:
        UsageError: more than `MOST` families.
    """
    if len(differences) > MOST:
        raise UsageError(
            f"{len(differences)} families have too many sign patterns to count (at most {MOST}): a name without a slash is a "
            "family of its own; call organisms FAMILY/NAME, or compare on a frozen set"
        )
    edge = abs(float(differences.sum())) - ROUNDING * len(differences)
    if edge <= 0:
        return 1.0
    half = len(differences) // 2
    some, others = _signed_sums(differences[:half]), np.sort(_signed_sums(differences[half:]))
    beyond = int((len(others) - np.searchsorted(others, edge - some)).sum())
    return min(1.0, 2 * beyond / 2.0 ** len(differences))


def flip_interval(differences: Array, level: float = ALPHA) -> tuple[float, float] | None:
    """The shifts of [families] that the test does not reject at `level`; None where it can reject none."""
    if 2 * 0.5 ** len(differences) >= level:
        return None
    return -_upper(-differences, level), _upper(differences, level)


def _upper(differences: Array, level: float) -> float:
    """The largest shift that is not rejected, by bisection: beyond the largest difference all signs agree and p is at its floor."""
    inside, outside = float(differences.mean()), float(differences.max())
    for _ in range(50):
        middle = (inside + outside) / 2
        if sign_flip_p(differences - middle) < level:
            outside = middle
        else:
            inside = middle
    return outside


def _signed_sums(values: Array) -> Array:
    """[2^n] sums of n values under all sign patterns."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _outcome(contrast: Contrast, values: Values, level: float) -> Outcome:
    """The answer without Holm's correction; `level` is that of the first contrast of its list."""
    own, other = values.get(contrast.method, {}), values.get(contrast.against, {})
    groups: dict[str, list[float]] = {}
    for organism, value in own.items():
        if value is not None and (rival := other.get(organism)) is not None:
            groups.setdefault(family(organism), []).append(value - rival)
    if not groups:
        return Outcome(contrast, "not run", 0, 0, 0, Estimate())
    apart = np.array([sum(group) / len(group) for group in groups.values()], dtype=np.float64)
    mean = float(apart.mean())
    moved = int((np.abs(apart) > ROUNDING).sum())
    wide = flip_interval(apart - mean, level)
    return Outcome(
        contrast,
        "not resolved",
        families=len(groups),
        moved=moved,
        organisms=sum(map(len, groups.values())),
        difference=Estimate(mean, *(flip_interval(apart) or ())),
        p=sign_flip_p(apart),
        resolvable=max(-wide[0], wide[1]) if wide else None,
    )


def _judged(outcome: Outcome, p_holm: float) -> Outcome:
    value = outcome.difference.value
    if value is None:
        return outcome
    clear = "better" if value > 0 else "worse"
    return replace(outcome, p_holm=p_holm, verdict=clear if p_holm < ALPHA else outcome.verdict)
