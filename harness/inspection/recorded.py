"""What a record alone says of its findings, as a report: no model is loaded, and nothing beside the record is read."""

import math
from typing import Any

from ..records.result import Result
from ..views.cell import beside, sentences
from .report import Reading, Report, Shown, Won

ALONE = (
    "Read from the record alone: where the findings are active, and what the models say with them, was not looked at."
)
NAMES = {
    "latent": "latent",
    "frequency": "frequency on the harvest",
    "rdn": "relative decoder norm",
    "decoder_cosine": "cosine of the two decoders",
    "nu_error": "ν^ε",
    "nu_reconstruction": "ν^r",
    "beta_base": "β base",
    "beta_ft": "β organism",
    "mean_activation": "mean activation when active",
    "max_activation": "largest activation",
    "template_share": "share of its activation on template tokens",
    "relative_norm": "length over the mean residual norm there",
    "norm": "length of the difference",
    "standard_error": "standard error",
}
"""Facts of a method's diagnostics that have a name of their own; others keep theirs."""


def of_record(r: Result) -> Report:
    """The report of a record whose findings, or whose organism, are not here."""
    i = r.identity
    reason = [f"Not scored: {r.reason}."] if r.status != "ok" and r.reason else []
    return Report(
        method=i.row,
        organism=i.organism,
        layer=i.layer,
        seed=i.seeds.get("method"),
        status=r.status,
        id=r.id,
        sentences=[*sentences(r), *beside(r), *reason],
        notes=[ALONE] if r.readings else [],
        claims=r.claims,
        read={},
        won=won(r),
        findings=findings(r),
        curves=r.curves,
        choices=r.choices,
        answers=None,
    )


def findings(r: Result) -> list[Shown]:
    """Each finding as far as the record holds it."""
    said = r.diagnostics.get("findings") or []
    return [
        Shown(
            number=x.finding + 1,
            score=x.score,
            gated=x.gated,
            length=None,
            readings=[Reading(name="lens", promotes=x.promotes, suppresses=x.suppresses)],
            facts=facts(said[x.finding]) if x.finding < len(said) else {},
            active=None,
            silent=False,
            scale=0.0,
            histogram=None,
            contexts=[],
            places=[],
        )
        for x in r.readings
    ]


def facts(said: dict[str, Any]) -> dict[str, float]:
    """The numbers that a method says of a finding."""
    return {NAMES.get(k, k): float(v) for k, v in said.items() if k != "score" and _is_number(v)}


def won(r: Result | None) -> list[Won]:
    """Which reading the record says came first."""
    i = r.identification if r else None
    if i is None:
        return []
    best = [(a, [name for name, value in a.by.items() if value == max(a.by.values())]) for a in i.at]
    return [Won(k=a.k, readings=names, by=a.by, truth=i.truth) for a, names in best]  # pyright: ignore[reportArgumentType]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
