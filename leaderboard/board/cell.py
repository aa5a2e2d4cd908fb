"""What a table needs of one record, without the samples and curves that make records large.

The one idea: a table of fifty thousand records does not hold fifty thousand records. A `Cell` is some kilobytes, can be kept on disk
(`keep`), and knows where its record is for the few things that need all of it: drawing intervals, and dose-response curves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np

from ...harness.protocol.consistency import counted
from ...harness.protocol.intervals import Array, point_weights
from ...harness.records.identity import Identity, sha256_json
from ...harness.records.making import Cost
from ...harness.records.result import SCORES as RECORDED
from ...harness.records.result import FalseDiscovery, Identification, Localisation, Result, Samples, Score
from ..statistics.null_adjusted import SCORES, table_draws

NUMBERS = ("value", "unclipped", "ci_low", "ci_high", "n", "raw", "spill", "p_random", "null", "oracle", "mixture")
"""What a cell keeps of a recorded score; the last three are its anchors."""
Numbers = Mapping[str, float | None]
"""By `NUMBERS`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a record, with what and when."""

    diffbench: str
    commit: str | None
    cpu: str
    device: str
    finished_utc: str
    method_origin: str
    stochastic: bool | None
    organism: str | None
    """The organism as the command named it; None: a pair of the user's own."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One record of a table."""

    id: str
    sha256: str
    """Of the record's text: what is drawn from it is kept under this."""
    where: str
    """Where the record lies, as the user named it."""
    identity: Identity
    status: str
    reason: str | None
    failure: str | None
    scores: Mapping[str, Numbers]
    """Recorded scores by name; empty where there are none."""
    points: tuple[float | None, ...] | None
    """Scores of a table in the order of its `SCORES`, every prompt and control counted once; None without samples."""
    prompts: int
    """Scored test prompts."""
    templates: int
    """Templates of these prompts."""
    gap: float | None
    """Mean distance of the two models on them."""
    controls: bool
    """Whether random controls were measured; the oracle has none."""
    gated: bool
    """Whether edits under the findings' gates were scored beside edits everywhere."""
    findings: int
    findings_sha256: str | None
    reads_as: str
    """Tokens that the first finding promotes."""
    false_discovery: FalseDiscovery | None
    localisation: Localisation | None
    identification: Identification | None
    cost: Cost
    made: Origin
    load: Callable[[], Result] = field(compare=False, repr=False)
    """The whole record again."""

    @property
    def result(self) -> Result:
        """The whole record."""
        return self.load()

    @classmethod
    def of(
        cls, result: Result, sha256: str | None = None, where: str = "", load: Callable[[], Result] | None = None
    ) -> Self:
        """The cell of a record. Without `load` it holds the record; without `sha256` that is taken of its content."""
        r, p = result, result.provenance
        scored = r.samples is not None
        shares = [g for g, s in zip(r.samples.gap, r.samples.scored, strict=True) if s] if r.samples else []
        return cls(
            id=r.id,
            sha256=sha256 or sha256_json(r.model_dump(mode="json")),
            where=where,
            identity=r.identity,
            status=r.status,
            reason=r.reason,
            failure=f"{r.failure.type}: {r.failure.message}" if r.failure else None,
            scores={s: _numbers(getattr(r.scores, s)) for s in RECORDED} if r.scores else {},
            points=point_scores(r.samples) if r.samples else None,
            prompts=len(shares),
            templates=len({t for t, s in zip(r.samples.templates, r.samples.scored, strict=True) if s})
            if r.samples
            else 0,
            gap=float(np.mean(shares)) if shares else None,
            controls=scored and r.scores is not None and r.scores.sufficiency_constant.p_random is not None,
            gated=r.samples is not None and r.samples.gated is not None,
            findings=counted(r),
            findings_sha256=r.findings_sha256,
            reads_as=" ".join(r.readings[0].promotes) if r.readings else "",
            false_discovery=r.false_discovery,
            localisation=r.localisation,
            identification=r.identification,
            cost=r.cost,
            made=Origin(
                p.diffbench,
                str((p.git or {}).get("commit") or "") or None,
                p.cpu,
                p.device,
                p.finished_utc,
                p.method_origin,
                p.stochastic,
                p.source.get("organism"),
            ),
            load=load or (lambda: result),
        )

    def data(self) -> dict[str, Any]:
        """As JSON, without what says where it lies."""
        whole = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in (*MODELS, "where", "load", "made", "scores")
        }
        models = {name: None if (m := getattr(self, name)) is None else m.model_dump(mode="json") for name in MODELS}
        scores = {name: list(numbers.values()) for name, numbers in self.scores.items()}
        made = [getattr(self.made, name) for name in Origin.__slots__]
        return whole | models | {"scores": scores, "made": made}

    @classmethod
    def kept(cls, data: Mapping[str, Any], where: str, load: Callable[[], Result]) -> Self:
        """What `data` gave."""
        models = {
            name: None if data[name] is None else kind.model_validate(data[name]) for name, kind in MODELS.items()
        }
        scores = {name: dict(zip(NUMBERS, row, strict=True)) for name, row in data["scores"].items()}
        points = None if data["points"] is None else tuple(data["points"])
        given = {**data, **models, "scores": scores, "points": points, "made": Origin(*data["made"])}
        return cls(**cast(dict[str, Any], given), where=where, load=load)


MODELS = {
    "identity": Identity,
    "false_discovery": FalseDiscovery,
    "localisation": Localisation,
    "identification": Identification,
    "cost": Cost,
}


def point_scores(samples: Samples) -> tuple[float | None, ...]:
    """Scores of a table, each in [−1, 1], with every prompt and control counted once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Array = np.clip(table_draws(samples, *point_weights(samples))[:, 0], -1, 1)
    assert len(values) == len(SCORES)
    return tuple(None if np.isnan(v) else float(v) for v in values)


def _numbers(score: Score) -> Numbers:
    anchors = score.anchors
    own = {name: getattr(score, name) for name in NUMBERS[:-3]}
    return own | {"null": anchors.null, "oracle": anchors.oracle, "mixture": anchors.mixture}
