"""All that is known of a run's findings, as one model: a face renders it and computes nothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..records.identity import Count, Said, Share
from ..records.result import Choice, Curve

VERSION = "1"
"""Of what is collected: changed whenever its numbers or its form do."""
Kind = Literal["neutral", "chat", "prompts"]
KINDS: dict[Kind, str] = {
    "neutral": "neutral text (harvest)",
    "chat": "chat (harvest)",
    "prompts": "the organism's own prompts (dev)",
}
"""What contexts are taken from, as a reader is told."""
SHADES = 4
"""Steps of colour above none."""
MARKED = 3
"""From this step on a token is marked where there is no colour."""
SPLIT_NOTE = "Prompts of the test split, on which scores stand, are not read and not shown."


class Part(BaseModel):
    """Part of a report: nothing beside its fields, every number finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Token(Part):
    """One token of a context."""

    text: Said
    """As it stands in the text, space and all; controls are written out."""
    base: float
    """Activation in the base."""
    organism: float
    """Activation in the organism."""
    shade_base: int = Field(ge=0, le=SHADES)
    shade_organism: int = Field(ge=0, le=SHADES)
    """Activation in steps of the finding's scale: 0 is none."""


class Context(Part):
    """A window of text around the token on which one text is strongest in the organism."""

    kind: Kind
    rank: int = Field(ge=1)
    """Of its text among those of its kind, by the strongest activation."""
    sample: bool
    """Whether it is a sample of a quantile, and not one of the strongest."""
    quantile: Share
    """Where its text stands among those of its kind, by the strongest activation: 1 = the strongest."""
    base: float
    organism: float
    """Strongest activation of the window on either side."""
    cut: tuple[bool, bool]
    """Whether the text goes on before and after."""
    tokens: list[Token]


class Histogram(Part):
    """How often each activation occurs, on all text that was read."""

    edges: list[float]
    """[bins + 1]."""
    base: list[Count]
    organism: list[Count]


class Place(Part):
    """Tokens that a chat template writes, and all others, in chat."""

    token: Said
    tokens: Count
    base: Share
    organism: Share
    """Share of these tokens on which the finding is active."""


class Reading(Part):
    """Tokens that stand for a direction."""

    name: Literal["lens", "patchscope", "tokens"]
    promotes: list[Said]
    suppresses: list[Said]


class Active(Part):
    """On how much of the text a finding is active, and how far."""

    rule: Said
    """When a token counts as active."""
    base: Share
    organism: Share
    strongest_base: float
    strongest_organism: float


Scorer = Literal["detection", "fuzzing", "simulation", "surprisal", "embedding", "intruder", "intervention"]


class WordScore(Part):
    """How well an explanation does in one way, on text that its explainer has not seen."""

    scorer: Scorer
    metric: Literal["balanced accuracy", "AUROC", "Pearson r", "accuracy"]
    by: Said
    """Who answered."""
    value: float | None
    low: float | None
    high: float | None
    """Ends of its 95 % interval."""
    chance: float
    auroc: float | None = None
    """Of the same answers, where they are more than yes and no."""
    active: Count
    other: Count
    """Windows of either sort that were answered."""
    failed: Count
    """Answers that could not be read; they are scored as nothing."""
    shuffled: list[float] = []
    """The same score of other findings' explanations."""
    why: Said | None
    """Why there is no score."""


class Explained(Part):
    """One finding in words, by one explainer."""

    explainer: Said
    text: Said | None
    """What it is active on; None: not explained."""
    outputs: Said | None
    """What it makes the base say."""
    coverage: Said
    """On how much text this stands, or why there is no explanation."""
    scores: list[WordScore]


class Shown(Part):
    """One finding."""

    number: int = Field(ge=1)
    score: float
    """The method's own."""
    gated: bool
    length: float | None
    """Of the direction, in residual units; None where only the record is known."""
    readings: list[Reading]
    facts: dict[str, float]
    """What the method's diagnostics say of its latent or direction."""
    active: Active | None
    silent: bool
    """Whether its gate is open on no token that was read, in neither model."""
    scale: float
    """Largest activation in a context: the deepest colour."""
    histogram: Histogram | None
    contexts: list[Context]
    places: list[Place]
    explanations: list[Explained] = []
    """What `bench explain` wrote beside the run, an explainer each."""


class Use(Part):
    """How findings were put to use."""

    op: Literal["add", "subtract", "ablate"]
    findings: list[int]
    gated: bool
    strength: float
    """Multiples of the mean residual norm; of ablate: share."""
    chosen: Said
    """What chose it."""


class Answer(Part):
    """One prompt answered by both models, with and without."""

    asked: Said
    base: Said
    added: Said | None
    """By the base with findings added."""
    organism: Said
    removed: Said | None
    """By the organism with findings taken out."""


class Answers(Part):
    """Sampled answers to the same prompts."""

    seed: int
    """Of the first prompt; each further one takes the next."""
    tokens: int
    """Longest answer."""
    split: Literal["dev", "harvest"] = "dev"
    added: Use | None
    removed: Use | None
    rows: list[Answer]


class Won(Part):
    """Which readings of the first k findings put the truth nearest to the first of the family's candidates."""

    k: int
    readings: list[Literal["lens", "patchscope", "tokens"]]
    """The best; several that are level."""
    by: dict[str, float]
    """1 = first, −1 = last."""
    truth: Said


class Report(Part):
    """A run's findings."""

    version: Literal["1"] = VERSION
    method: Said
    organism: Said
    layer: int
    seed: int | None
    status: Said
    id: str | None
    """Of the record; None: there is none."""
    sentences: list[Said]
    """What came of it as a whole, in words."""
    notes: list[Said]
    """What a reader has to know: what was not scored, not read, or not there."""
    claims: list[Said]
    read: dict[Kind, Count]
    """Tokens of each kind on which activations were read."""
    won: list[Won]
    findings: list[Shown]
    curves: list[Curve]
    choices: list[Choice]
    answers: Answers | None


def shade(activation: float, scale: float) -> int:
    """Step of colour of an activation."""
    return 0 if activation <= 0 or scale <= 0 else max(1, min(SHADES, round(SHADES * activation / scale)))
