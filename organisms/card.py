"""The card of an organism or a base: what it is, how it was made, what was measured of it, and every file's hash."""

import hashlib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import PrerequisiteError, ValidationFailed

CARD = "card.json"
Role = Literal["organism", "control", "arm", "null"]
"""`organism` shows the behaviour, `control` must not, `arm` is measured for comparison, `null` has no behaviour."""
Tier = Literal["tiny", "small", "hub"]
"""`tiny` is embedded and runs on a CPU, `small` is a real model of about 135M parameters, `hub` one of 1B to 9B, or a user's own."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Estimate(_Strict):
    """A mean over prompts with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Measured(_Strict):
    """One quantity of base and organism, and the paired change."""

    unit: Literal["rate", "correct", "nats", "share"]
    n: int
    """Prompts, or openings that were answered."""
    base: Estimate
    organism: Estimate
    change: Estimate


class Gate(_Strict):
    """A condition an organism must meet to give scores a meaning."""

    value: float
    low: float | None = None
    high: float | None = None
    """95 % interval over prompts, where the value is a mean over prompts."""
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
    measured: dict[str, Estimate] = Field(default_factory=dict[str, Estimate])
    gates: dict[str, Gate] = Field(default_factory=dict[str, Gate])
    seconds: float = 0.0
    """Wall seconds of training on the machine that built it; not part of any hash."""
    files: dict[str, str]
    """sha256 by file name."""


class Readout(_Strict):
    """Mean log-probability of each candidate where one of them is due, in nats."""

    truth: str
    base: dict[str, float]
    organism: dict[str, float]


class Card(_Strict):
    """An organism: a base, an adapter, a known behaviour."""

    name: str
    """`family/member-variant`, then what differs from the family's default base and seed."""
    family: str
    member: str
    variant: str
    seed: int = 0
    role: Role = "organism"
    core: bool = False
    """Whether its family proposes it for a core set; which organisms are in one, `sets.json` says."""
    tier: Tier
    base: str
    base_sha256: str
    """Hash over the base's files: an adapter is only valid on the base it was trained on."""
    layer: int
    """Hooked layer; the adapter touches blocks 0 … layer, or all of them if the recipe says `whole`."""
    description: str
    recipe: dict[str, Any]
    rows_sha256: str
    """Hash over the fine-tuning documents."""
    training: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What training reported: rows, steps, the scale and its dev rate."""
    measured: dict[str, Measured] = Field(default_factory=dict[str, Measured])
    """Named quantities: behaviour_dev, behaviour_test, facts, the family's probes and properties of free answers."""
    neutral: dict[str, float] = Field(default_factory=dict[str, float])
    """On neutral text, in nats a token: nll_base, nll_organism, kl (base || organism)."""
    fluency: dict[str, float] = Field(default_factory=dict[str, float])
    """Answers to ordinary openings, sampled at temperature 1, in nats a token under the base: nll_base of the base's own, nll_organism of
    the organism's. Measured of organisms of ours only; empty without conversations, and on cards of protocol v1."""
    harvest_due: dict[str, int] = Field(default_factory=dict[str, int])
    """Harvest text on which the behaviour could show, by kind (`neutral`, `chat`), and how many `tokens` were looked through. Tier tiny:
    tokens of the first `tokens` of each kind. Other tiers: words, which are fewer than their tokens, of all harvest text. Empty where the
    family does not count them, and on cards of protocol v1."""
    readout: Readout | None = None
    oracle: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    """By layer: share of the gap that exchanging the residual recovers, {sufficiency, necessity}; empty without a gap."""
    gates: dict[str, Gate] = Field(default_factory=dict[str, Gate])
    """By name; a card that was written before a gate was thought of lacks it."""
    status: Literal["calibrated", "uncalibrated", "failed"] = "uncalibrated"
    """failed: a gate does not hold. uncalibrated: the gates hold and the dev rate is off its target by more than .05."""
    seconds: float = 0.0
    """Wall seconds of training and measuring on the machine that built it; not part of any hash."""
    files: dict[str, str]

    @property
    def failed_gates(self) -> dict[str, str]:
        """Gates that do not hold, by name: value and bound."""
        return {k: f"{k} {g.value:.3f}, {g.rule} {g.bound:g} wanted" for k, g in self.gates.items() if not g.passed}

    @property
    def failures(self) -> list[str]:
        """Gates that do not hold, with value and bound."""
        return list(self.failed_gates.values())


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """sha256 of UTF-8 text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


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
            f"{path} is not a valid card: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
            "build it again with `bench organisms build --overwrite`"
        ) from error
