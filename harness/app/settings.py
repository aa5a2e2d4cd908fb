"""What a page is set to, and its link: a query that opens the same page again, and nothing that a page cannot be set to."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ...organisms.errors import UsageError
from ..inspection.subject import numbers

MOST_STRENGTH = 4.0
"""End of the slider, in mean residual norms; scoring goes to 1.6."""
MOST_TOKENS = 128
LONGEST = 20_000
"""Characters of a prompt; whether the model can read so many tokens is its own question."""


def _numbers(value: Any) -> Any:
    return (numbers(value) if value else []) if isinstance(value, str) else value


Findings = Annotated[tuple[int, ...], BeforeValidator(_numbers)]


class Settings(BaseModel):
    """Controls of the page."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    run: str = ""
    """Key of the run; empty: the first."""
    finding: Findings = ()
    """Numbers from 1; none: as scoring chose."""
    beside: str = ""
    """Key of a second run for the same prompt; empty: none."""
    beside_finding: Findings = ()
    prompt: Annotated[str, Field(max_length=LONGEST)] = ""
    strength: Annotated[float, Field(ge=0, le=MOST_STRENGTH)] | None = None
    """None: what scoring chose."""
    side: Literal["both", "base", "organism"] = "both"
    gated: bool = False
    raw: bool = False
    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 24
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """None: greedy."""

    @property
    def query(self) -> str:
        """`?run=…&finding=1,3&…`, without what is as it would be anyway."""
        said = {k: v for k, v in self.model_dump().items() if v != type(self).model_fields[k].default}
        return "?" + urlencode({k: _written(v) for k, v in said.items()})


def of_query(given: Mapping[str, str]) -> Settings:
    """The settings of a link; what no page of ours writes (`__theme` and the like) is passed over.

    Raises:
        UsageError: a value that the page cannot be set to.
    """
    return checked({k: v for k, v in given.items() if k in Settings.model_fields})


def checked(values: Mapping[str, Any]) -> Settings:
    """Settings; raises as `of_query`."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name, value = ".".join(map(str, first["loc"])), str(first.get("input"))[:60]
        raise UsageError(f"{name} cannot be {value!r}: {first['msg'].removeprefix('Value error, ')}") from error


def _written(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )  # pyright: ignore[reportUnknownArgumentType]
