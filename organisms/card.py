"""The card of an organism or a base: what it is, how it was made, what was measured of it, and every file's hash."""

import hashlib
import shlex
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import PrerequisiteError, ValidationFailed

CARD = "card.json"
OWN = "own"
"""Family of the cards of users' own pairs."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
BEHAVIOUR = "behaviour.json"
"""Of an organism on a real model; the families of the embedded tier make theirs."""
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

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """What is said twice is said alike."""
        begin = f"{self.family}/{self.member}-{self.variant}"
        if self.family != OWN and self.name != begin and not self.name.startswith(f"{begin}-"):
            raise ValueError(f"its family, member and variant make {begin}, and its name is {self.name}")
        if self.recipe.get("layer", self.layer) != self.layer:
            raise ValueError(f"its layer is {self.layer}, and its recipe says {self.recipe['layer']}")
        if (self.status == "failed") != bool(self.failures):
            raise ValueError(f"its status is {self.status}, and {'; '.join(self.failures) or 'all its gates hold'}")
        return self

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


def read_card(folder: Path, given: str = "") -> Card:
    """Read an organism's card and check its files.

    Args:
        given: what `bench organisms build` calls it; empty: what the card says.

    Raises:
        PrerequisiteError: no card. ValidationFailed: bad card, missing file or wrong hash.
    """
    card = _parse(folder, Card)
    needed = (*ADAPTER_FILES, BEHAVIOUR) if card.tier != "tiny" else ADAPTER_FILES
    if lacking := [name for name in needed if name not in card.files]:
        raise ValidationFailed(f"{folder / CARD} has no hash of {lacking[0]}; {again(card, given)}")
    check_files(folder, card.files, again(card, given))
    return card


def building(card: Card) -> str:
    """The command that makes an organism."""
    if card.tier == "tiny":
        return f"bench organisms build {card.name}"
    seed = f"-s{card.seed}" if card.seed else ""
    blocks = f" --blocks {card.recipe['blocks']}" if "blocks" in card.recipe else ""
    name = f"{card.family}/{card.member}-{card.variant}{seed}"
    return f"bench organisms build {name} --base {shlex.quote(card.base)}{blocks}"


def again(card: Card, given: str = "") -> str:
    """How a damaged organism is mended."""
    command = f"bench organisms build {given}" if given else building(card)
    return f"reinstall diffbench, or build it again with `{command} --overwrite`"


def read_base_card(folder: Path) -> BaseCard:
    """Read a base's card and check its files; raises as `read_card`."""
    card = _parse(folder, BaseCard)
    check_files(folder, card.files, again_base(card.name))
    return card


def again_base(name: str) -> str:
    """How a damaged base of the embedded tier is mended."""
    return f"reinstall diffbench, or build it again with `bench organisms build --base {name} --overwrite`"


def check_files(folder: Path, files: dict[str, str], mend: str) -> None:
    """Refuse a folder whose files are not the hashed ones, saying how to `mend` it."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ValidationFailed(f"{path} is missing although its card lists it; {mend}")
        if sha256_file(path) != expected:
            raise ValidationFailed(
                f"{path} is not the file its card was measured on (sha256 differs: damaged or replaced); {mend}"
            )


C = TypeVar("C", Card, BaseCard)


def _parse(folder: Path, kind: type[C]) -> C:
    path = folder / CARD
    if not path.is_file():
        raise PrerequisiteError(f"there is no card in {folder}; build it with `bench organisms build`")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValidationFailed(
            f"{path} is not a valid card: {f'{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}; "
            "reinstall diffbench, or build it again with `bench organisms build` and --overwrite"
        ) from error
