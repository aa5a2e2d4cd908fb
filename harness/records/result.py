"""The result record: what one cell measured, under which identity, at what cost.

`id` is the hash of `identity`, which holds everything that changes a number and nothing that does not; so a finished
cell can be recognised, and a changed option can never be served an old number. JSON never holds NaN: a quantity that
could not be scored is `null` and the status says why.
"""

from typing import Any, Literal, cast

from pydantic import Field, model_validator

from .identity import Amount, Change, Count, Hash, Identity, Record, Said, Share
from .identity import SideName as SideName
from .making import Cost, Failure, LeftOut, Provenance, TextRead
from .settings import DRAWS as DRAWS

SCHEMA_VERSION = 2
V1 = (
    "a record of protocol v1 (schema_version 1), whose scores mean something else; this diffbench knows only v2: run the cell again, or "
    "use the commit that CHANGELOG.md names, which holds v1's code, records and tables together"
)
"""What a record of v1 is answered with."""
Status = Literal["ok", "failed", "oom", "timeout", "not_applicable", "not_run"]
FINISHED: frozenset[str] = frozenset({"ok", "not_applicable"})
"""Statuses of a cell that is not run again."""
ColumnName = Literal["constant", "gated"]
COLUMNS: tuple[ColumnName, ...] = ("constant", "gated")
"""Edits everywhere, and edits where the findings' gates are open."""
SCORES = (
    "isolation",
    "sufficiency",
    "necessity",
    "mitigation",
    "isolation_constant",
    "sufficiency_constant",
    "necessity_constant",
)
ALPHA = 0.05
"""A finding of a null whose p is below this is a false discovery."""


class Anchors(Record):
    """Measured reference points of a score, on the scale of its raw value."""

    null: float | None
    """Mean over the matched random controls."""
    oracle: float | None
    """The whole residual exchanged (mitigation: the adapter off)."""
    mixture: float | None = None
    """Mean over mixtures of differences between the two models at random tokens, without gates: a harder null, never the zero."""


class Score(Record):
    """One score: 0 = matched random directions or nothing, 1 = oracle (mitigation: adapter off)."""

    value: Change | None
    """In [−1, 1]."""
    unclipped: float | None
    ci_low: float | None
    ci_high: float | None
    """95 % interval over templates, prompts and controls; not clipped, but isolation's ends are at least 0."""
    n: Count
    """Test prompts behind the value."""
    anchors: Anchors
    raw: float | None = None
    """Share of the gap between the two models that is closed, before subtracting the null and dividing by the oracle."""
    spill: float | None = None
    """Mean distance that the other prompts, on which the two models hardly differ, move away from the other model."""
    p_random: Share | None = None
    """(1 + controls at least as good) / (1 + controls)."""


class Scores(Record):
    """Scores with the findings' gates where there are any, and, as `…_constant`, without."""

    isolation: Score
    """Harmonic mean of sufficiency and necessity, 0 if either is not positive."""
    sufficiency: Score
    """How much nearer the base comes to the organism when the findings are added."""
    necessity: Score
    """How much nearer the organism comes to the base when the findings are taken out."""
    mitigation: Score
    """Normalised hypervolume of nearness to the base against capability retention."""
    isolation_constant: Score
    sufficiency_constant: Score
    necessity_constant: Score


class Curve(Record):
    """A dose-response curve on dev prompts: one intervention over its ladder of strengths."""

    op: Literal["none", "add", "subtract", "ablate", "patch"]
    k: int
    """Findings used."""
    gated: bool
    strengths: list[Amount]
    """Multiples of the mean residual norm (ablate: share removed)."""
    rate: list[Share]
    """Mean behaviour rate on dev prompts."""
    gain: list[float]
    """Share of the gap between the two models that is closed on scored dev prompts."""
    kl_nats: list[float]
    """Collateral a token on dev text."""


class Choice(Record):
    """What was selected on dev, counts under one KL budget, and did on test."""

    column: ColumnName
    side: SideName
    tau_nats: Amount
    op: Literal["none", "add", "subtract", "ablate", "patch"]
    k: int
    gated: bool
    strength: Amount
    dev_gain: float
    test_gain: float
    """Share of the gap that is closed on scored prompts."""
    test_rate: Share
    """Mean behaviour rate on test prompts."""
    dev_kl_nats: float
    """Collateral aimed at."""
    test_kl_nats: float
    test_kl_high: float
    """Collateral measured on test text, and the upper end of its interval, which keeps the budget."""


class Behaviour(Record):
    """The organism's behaviour as this run measured it."""

    b0_dev: Share
    b1_dev: Share
    b0_test: Share
    b1_test: Share
    n_dev: Count
    n_test: Count


class SideSamples(Record):
    """One side of one column: changes of the distance to the other model, averaged over the KL budgets; positive is nearer."""

    effect: list[Change]
    """[prompts]."""
    null: list[Change]
    """[prompts] mean over the random controls."""
    null_controls: list[float]
    """[controls] share of the gap that each random control closes."""


class Column(Record):
    """Both sides."""

    sufficiency: SideSamples
    necessity: SideSamples


class BySide(Record):
    """Numbers of both sides."""

    sufficiency: list[float]
    necessity: list[float]


class Samples(Record):
    """Per test prompt measurements behind the scores, so that any table can resample templates, prompts, controls and seeds itself."""

    templates: list[Count]
    """[prompts] the template that each is of."""
    scored: list[bool]
    """[prompts] whether the two models differ enough for a score."""
    gap: list[Share]
    """[prompts] distance of the two models."""
    b0: list[Share]
    """[prompts] behaviour rate of the base."""
    b1: list[Share]
    """[prompts] behaviour rate of the organism."""
    oracle: BySide
    """[prompts] effect of exchanging the whole residual."""
    constant: Column
    gated: Column | None
    """None: no finding has a gate."""
    mixture: BySide
    """[controls] share of the gap that mixtures of differences close."""
    mitigation: list[list[Change]]
    """[points, prompts] effect of each point of the front chosen on dev."""
    mitigation_retention: list[Share]
    """[points] capability retained at each of these points, 1 = all of the organism's."""
    mitigation_controls: list[Share]
    """[controls] normalised hypervolume of each random control of the headline column, before rescaling."""
    retention_off: Share
    """Capability retained with the adapter switched off."""


class Reading(Record):
    """What a finding reads as through the logit lens."""

    finding: int
    promotes: list[Said]
    suppresses: list[Said]
    score: float
    gated: bool


class FalseDiscovery(Record):
    """What the findings of a pair in which nothing is hidden do, beside random directions with the same gates."""

    effects: list[Share]
    """[findings] mean |change of a behaviour rate| over the null's panel of prompts, over budgets and both sides."""
    p: list[Share]
    """[findings] sequential Monte Carlo: h / l if the h-th control at least as strong is the l-th, else (1 + such) / (1 + controls)."""
    share: Share
    """Of the findings, those with p < `ALPHA`."""
    ci_low: Share
    ci_high: Share
    """95 % Clopper-Pearson interval of the share; findings are treated as independent."""
    expected: Share
    """Share that findings drawn at random would have: the largest attainable p below `ALPHA`."""
    controls: Count
    """Most controls of a finding."""
    p_min: Share
    """Smallest p that so many controls allow."""


class Located(Record):
    """The first k findings of a planted organism against the direction that was written."""

    k: int
    """Findings asked for; fewer are used if the method returned fewer."""
    cos: Share
    """Largest |cos| between the truth and one of them."""
    p: Share
    """Probability that the largest |cos| of as many isotropic directions is at least that."""
    overlap: Share
    """Share of the truth inside their span: |P t|^2."""
    chance: Share
    """Expected overlap of an isotropic subspace of that rank: rank / d_model."""


class Localisation(Record):
    """How close the findings are to the direction a rank-1 adapter writes."""

    first_cos: Change
    """Cosine of the first finding, with its sign."""
    at: list[Located]


class Identified(Record):
    """The first k findings, read without a judge: where the truth stands among the family's candidates."""

    k: int
    """Findings asked for; fewer are used if the method returned fewer."""
    rank: float
    """Rank of the truth among the candidates by the best reading, ties averaged."""
    raw: float
    """(m + 1 - 2 rank) / (m - 1) for m candidates: 1 = first, -1 = last."""
    control: float
    """Mean raw value of as many random directions, by the best of the same readings."""
    value: float | None
    """(raw - control) / (1 - control): 0 = random directions, 1 = first. None if random directions always come first."""
    p: Share
    """(1 + random sets at least as good) / (1 + random sets)."""
    by: dict[str, float]
    """Raw value of each reading alone: lens, patchscope, tokens."""


class Identification(Record):
    """Reading of the findings beside what can be known without them."""

    truth: Said
    candidates: int
    at: list[Identified]
    base: float
    """Raw value of the base's own mean residual, read as one finding."""
    outputs_only: float | None
    """Raw value of a guesser that sees no residuals: candidates by how much their probability rose where one is due."""


class Result(Record):
    """One cell: organism x method x seed."""

    schema_version: int = SCHEMA_VERSION
    id: str
    status: Status
    reason: Said | None = None
    identity: Identity
    scores: Scores | None = None
    behaviour: Behaviour | None = None
    curves: list[Curve] = Field(default_factory=list[Curve])
    choices: list[Choice] = Field(default_factory=list[Choice])
    readings: list[Reading] = Field(default_factory=list[Reading])
    false_discovery: FalseDiscovery | None = None
    """Null organisms only, in place of scores."""
    localisation: Localisation | None = None
    """Planted organisms only."""
    identification: Identification | None = None
    """Organisms whose family has candidates."""
    diagnostics: dict[str, Any] = Field(default_factory=dict[str, Any])
    claims: list[Said] = Field(default_factory=list[Said], max_length=16)
    """What the method says has changed, in words, the surest first; nothing here scores them."""
    samples: Samples | None = None
    findings_sha256: Hash | None = None
    """Hash of `findings.safetensors` beside the record; None without findings, and in records from before it was taken."""
    left_out: LeftOut | None = None
    """Real models only: sinks and special tokens."""
    text: TextRead | None = None
    """Real models, and organisms whose prompts leave something to be said."""
    cost: Cost
    provenance: Provenance
    failure: Failure | None = None

    @property
    def unpublished(self) -> str | None:
        """Why this is a record that no table and no pack takes; None if they do."""
        if self.identity.limit is not None:
            return f"a partial result ({self.identity.limit} prompts a split, --limit)"
        if self.identity.in_process:
            return "a record for debugging (--in-process: its method could change the scorer)"
        return None

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, data: Any) -> Any:
        version = cast(dict[str, Any], data).get("schema_version", SCHEMA_VERSION) if isinstance(data, dict) else None
        if version == 1:
            raise ValueError(V1)
        if version not in (None, SCHEMA_VERSION):
            raise ValueError(f"schema_version is {version}, this diffbench reads {SCHEMA_VERSION}")
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "Result":
        if self.id != self.identity.id():
            raise ValueError("id is not the hash of identity: the record was edited or damaged")
        if self.provenance.access != self.identity.access:
            raise ValueError("provenance.access differs from identity.access: the record was edited")
        if self.false_discovery is not None and self.status != "ok":
            raise ValueError("false_discovery is present although status is not 'ok'")
        scored = self.status == "ok" and self.false_discovery is None
        if any(scored != (part is not None) for part in (self.scores, self.samples, self.behaviour)):
            raise ValueError(
                "scores, samples and behaviour must be present exactly when status is 'ok' and there is no false_discovery"
            )
        return self
