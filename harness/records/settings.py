"""Settings of the scoring protocol; docs/protocol.md says what each does. Their hash is part of every result's identity."""

import itertools

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...organisms.errors import ValidationFailed
from .identity import SideName

DRAWS = 10_000
"""Bootstrap draws of the published settings."""


class Protocol(BaseModel):
    """Budgets, strengths, controls and texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    budgets_nats: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """Collateral allowed a token of ordinary text of the kind that the prompts are in."""
    ks: tuple[int, ...] = (1, 3, 10)
    """How many of the top findings an intervention may use."""
    strengths: tuple[float, ...] = (0.15, 0.5, 1.6)
    """Where collateral is measured as a function of strength, in mean residual norms; the last one is the largest that is used."""
    aim: float = Field(default=0.8, gt=0, le=1)
    """Share of a budget that a strength aims at: what it costs on other text scatters."""
    controls: int = Field(default=16, ge=1)
    """Random controls put through the same procedure; an organism may bring more of those without gates, measured."""
    dev_tokens: int = Field(default=256, ge=16)
    """Tokens of chat (of neutral text, if the prompts are no conversations) on which strengths are found."""
    test_tokens: int = Field(default=2000, ge=16)
    """Tokens of it on which chosen interventions are measured again."""
    control_tokens: int = Field(default=512, ge=16)
    """The first of these, on which the interventions that controls chose are; the interval of the mean is brought to the width that all of
    them would give."""
    draws: int = DRAWS
    """Bootstrap draws."""
    scored_gap: float = 0.1
    """Least difference of the two models on a prompt that is scored."""
    min_scored: int = 8
    """Fewest test prompts that must be scored."""
    min_oracle: float = 0.4
    """Least share of the gap that the layer's oracle must close, both ways, to be divided by."""

    @field_validator("budgets_nats", "ks", "strengths")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or values[0] <= 0 or any(b <= a for a, b in itertools.pairwise(values)):
            raise ValueError(f"{values} has to be rising numbers above 0, one at least")
        return values


PROTOCOL_V2 = Protocol()
"""Version 2, as docs/protocol.md states it."""


class NotScorable(ValidationFailed):
    """The pair cannot be scored: the behaviour's gap or the oracle is too small to divide by."""

    oracle: dict[SideName, float] | None = None
    """Share of the gap that exchanging the residual closes, where that is too little."""
