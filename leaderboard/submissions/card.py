"""The method card: what a table says of a method beside its scores. Its author's word, shown as text and never followed.

`bench methods new` writes one to fill in; `bench submit` puts it into the bundle.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ...harness.escape import plain
from ...harness.records.identity import Name
from ...harness.runs.packs import reason
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.files import MOST_YAML, load_yaml, read_text


def _line(text: str) -> str:
    if not text.strip() or text != text.strip():
        raise ValueError("is empty, or begins or ends with a space")
    if "\n" in text or "\t" in text or plain(text) != text:
        raise ValueError("has a control character, or more than one line")
    return text


Words = Annotated[str, Field(max_length=300), AfterValidator(_line)]
"""One line that a terminal or a page shows."""
Link = Annotated[
    str, Field(max_length=500, pattern=r"^https://[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]+$"), AfterValidator(_line)
]
"""An address that a page may link; nothing here opens it."""
MethodName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]


class MethodCard(BaseModel):
    """What its author says of a method."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: MethodName
    """The method's name in its records, and its row's."""
    summary: Words
    """What it computes, in a line."""
    authors: list[Words] = Field(min_length=1, max_length=100)
    licence: Words
    """Of the method's code, as SPDX names it; `proprietary` where there is none."""
    access: Literal["activations", "+generations", "+weights", "supervised"]
    """What it may see; the records say the same."""
    paper: Link | None = None
    code: Link | None = None
    """Where others find the code that ran."""
    contact: Words | None = None
    developed_on: list[Name] = Field(max_length=500)
    """Organisms, or sets of them, whose scores or texts were seen while the method was made. Empty: none."""
    supersedes: MethodName | None = None
    """A method of the same authors that this one takes the place of; its row stays."""


def read_card(path: Path) -> MethodCard:
    """A card from a YAML file.

    Raises:
        PrerequisiteError: no such file. ValidationFailed: not a card, with the field and why.
    """
    if not path.exists():
        raise PrerequisiteError(
            f"there is no method card {path}; `bench methods new` writes one to fill in, and docs/submitting.md shows it"
        )
    try:
        return MethodCard.model_validate(load_yaml(read_text(path, MOST_YAML), str(path)))
    except ValidationError as error:
        raise ValidationFailed(f"{path}: {reason(error)}; mend the card") from error
