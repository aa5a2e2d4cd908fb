"""The card of an organism or a base: what it is, how it was made, what was measured of it, and every file's hash."""

import hashlib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import PrerequisiteError, ValidationFailed

CARD = "card.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Gate(_Strict):
    """A condition an organism must meet to give scores a meaning."""

    value: float
    bound: float
    rule: Literal["at least", "at most"]

    @property
    def passed(self) -> bool:
        """Whether the measured value is on the right side of the bound."""
        return self.value >= self.bound if self.rule == "at least" else self.value <= self.bound


class BaseCard(_Strict):
    """A base of the embedded tier."""

    name: str
    recipe: dict[str, Any]
    parameters: int
    measured: dict[str, float] = Field(default_factory=dict[str, float])
    gates: dict[str, Gate] = Field(default_factory=dict[str, Gate])
    files: dict[str, str]
    """sha256 by file name."""


class Card(_Strict):
    """An organism: a base, an adapter, a known behaviour."""

    name: str
    """`family/variant`."""
    family: str
    variant: str
    tier: Literal["tiny", "hub"]
    base: str
    base_sha256: str
    """Hash over the base's files: an adapter is only valid on the base it was trained on."""
    layer: int
    """Hooked layer; the adapter touches blocks 0 … layer."""
    description: str
    recipe: dict[str, Any]
    rows: int
    """Fine-tuning rows."""
    measured: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    """Named rates as {base, organism}: behaviour_dev, behaviour_test, held_out_hints, internalised, leak, facts, neutral_nll, …"""
    oracle: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    """By layer: share of the gap that exchanging the residual recovers, {sufficiency, necessity}."""
    gates: dict[str, Gate] = Field(default_factory=dict[str, Gate])
    status: Literal["calibrated", "uncalibrated", "failed"] = "uncalibrated"
    files: dict[str, str]


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_files(files: dict[str, str]) -> str:
    """One hash for a set of hashed files, independent of their order."""
    return hashlib.sha256("\n".join(f"{k} {v}" for k, v in sorted(files.items())).encode()).hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """Hash of every weight, configuration and tokenizer file of a model folder."""
    return {
        p.name: sha256_file(p)
        for p in sorted(folder.iterdir())
        if p.name != CARD and p.suffix in (".safetensors", ".json", ".jinja", ".model")
    }


def read_card(folder: Path) -> Card:
    """Read an organism's card and check its files.

    Raises:
        PrerequisiteError: no card. ValidationFailed: bad card, missing file or wrong hash.
    """
    card = _parse(folder, Card)
    check_files(folder, card.files)
    return card


def read_base_card(folder: Path) -> BaseCard:
    """Read a base's card and check its files; raises as `read_card`."""
    card = _parse(folder, BaseCard)
    check_files(folder, card.files)
    return card


def check_files(folder: Path, files: dict[str, str]) -> None:
    """Refuse a folder whose files are not the hashed ones."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ValidationFailed(
                f"{path} is missing although its card lists it; reinstall diffbench or rebuild with `bench organisms build`"
            )
        if sha256_file(path) != expected:
            raise ValidationFailed(
                f"{path} is not the file its card was measured on (sha256 differs: damaged or replaced); "
                "reinstall diffbench or rebuild with `bench organisms build`"
            )


C = TypeVar("C", Card, BaseCard)


def _parse(folder: Path, kind: type[C]) -> C:
    path = folder / CARD
    if not path.is_file():
        raise PrerequisiteError(f"there is no card in {folder}; build it with `bench organisms build`")
    try:
        return kind.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        raise ValidationFailed(
            f"{path} is not a valid card: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
