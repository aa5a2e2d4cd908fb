"""What a diffing method receives and what it must give back.

A method is any class with `name`, `access`, `Config` and `diff(problem) -> DiffResult`; no base class. It never learns
which organism it looks at and never sees test prompts: `problem` carries all it may know, and handles beyond its declared
`access` raise. Arrays are fp32; `d_model` is the residual width at the hooked layer.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..organisms.errors import ValidationFailed

Access = Literal["activations", "+generations", "+weights", "supervised", "anchor"]
"""What a method may touch. `supervised` sees behaviour labels (an upper bound), `anchor` is the harness's own reference."""
Text = Literal["neutral", "chat", "contrastive"]
MAX_FINDINGS = 16
MOST_DIVERGED = 5_000
"""Tokens of a text that `divergence` reads at most: its edits see residuals that the budget does not count."""
MAX_CLAIMS, MAX_LINE = 16, 500
"""Most claims of a result, and most characters of one."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of controls, invisible formatting, half characters and line breaks."""
LENGTHS = (1e-12, 1e12)
"""Lengths that fp32 can square; a shorter or longer vector would count as none. 0 is allowed: nothing was found."""
Edit = Callable[[Tensor], Tensor]
"""Paired residuals [rows, pos, 2, d_model] → the residual [rows, pos, d_model] that is put in their place."""


class Batch(NamedTuple):
    """Paired residuals of the same tokens."""

    residuals: Tensor
    """[tokens, 2, d_model]: index 0 base, 1 fine-tuned, raw residual units."""
    ids: Tensor
    """[tokens] token ids."""
    positions: Tensor
    """[tokens] position of each token in its text."""


class Outputs(NamedTuple):
    """What both models say of the same tokens, beside their residuals."""

    logits: Tensor
    """[tokens, 2, vocab]: next-token logits, index 0 base, 1 fine-tuned."""
    batch: Batch


@dataclass(frozen=True)
class Budget:
    """What a method may spend; a method that runs out returns what it has and says so in `diagnostics`."""

    tokens: int = 60_000
    """Distinct tokens a method may harvest, over all texts."""
    seconds: float = 600.0
    """Wall clock a method may use."""


@dataclass(frozen=True)
class Gate:
    """On which tokens a finding is active: `residual @ read > threshold`, on the model being intervened on."""

    read: Tensor
    """[d_model] read-out weights, raw residual units."""
    threshold: float


@dataclass(frozen=True)
class Finding:
    """One claimed direction of change, in raw residual units, pointing from base to fine-tuned."""

    direction: Tensor
    """[d_model]."""
    gate: Gate | None = None
    score: float = 0.0
    """The method's own ranking score."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    """Free-form, JSON-serialisable."""


@dataclass
class DiffResult:
    """Ranked findings (best first, at most 16) and what the method wants recorded."""

    findings: list[Finding]
    diagnostics: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON-serialisable facts about the fit (explained variance, L0, dead share, …)."""
    dictionary: dict[str, Tensor] | None = None
    """Optional tensors to save beside the findings."""
    patch: bool = False
    """Anchors only: exchange the whole residual instead of using findings."""
    claims: list[str] = field(default_factory=list[str])
    """What the method says has changed, in words: at most 16 sentences of at most 500 characters, the surest first. None at all is an
    answer too: nothing is claimed."""
    confidences: list[float] = field(default_factory=list[float])
    """For each claim how probable its method holds it to be that it is right, in [0, 1]; empty: it does not say."""


@runtime_checkable
class DiffProblem(Protocol):
    """A base and a fine-tuned model at one layer, seen through handles."""

    layer: int
    """Hooked layer: residuals are the output of this block."""
    d_model: int
    seed: int
    device: str
    budget: Budget
    tokenizer: Any
    scratch: Path | None
    """Folder for checkpoints, kept until the cell is finished; None: nothing is kept."""

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """One pass over at most `tokens` paired residuals of harvest text (never dev or test prompts), text by text.

        With `start` the first so many of them are passed over, and what was read of this text before costs no budget again: so
        several epochs, and a run that goes on where it was killed, read the same tokens in the same order (0: from the beginning).
        """
        ...

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """As `activations`, with the logits of both whole models; batches are small because a vocabulary is wide."""
        ...

    def divergence(self, edits: Sequence[Edit], text: Text = "chat", tokens: int = 2000) -> list[float]:
        """Mean KL(fine-tuned ‖ hybrid) in nats a token for each edit, on harvest text after the first position.

        A hybrid is the fine-tuned model's upper blocks run on what the edit makes of both models' residuals: the base's
        residual gives the whole gap, the fine-tuned one's gives 0. The first tokens of the text are read, at most `MOST_DIVERGED`,
        whatever was harvested; they cost no budget.
        """
        ...

    def lens(self, directions: Tensor) -> Tensor:
        """Logit lens: final norm and unembedding of directions [n, d_model] → [n, vocab], mean over the vocabulary removed."""
        ...

    def patchscope(self, directions: Tensor) -> Tensor:
        """Next-token log-probabilities [n, vocab] when a direction [n, d_model], scaled to the mean residual norm, replaces
        the base's residual at the last position of identity prompts ("cat -> cat; road -> road; ?"); mean over prompts."""
        ...

    def contrast(
        self, rows: Sequence[Sequence[int]], new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        """Access `+generations` only: a continuation of each row of token ids, sampled from the difference of the two models.

        Each token is drawn with logits tuned + amplify · (tuned − base) from those whose fine-tuned probability is at least `plausible`
        times the largest: a difference alone is largest where neither model would ever go. It stops where a text ends, and goes on where
        a turn does. What is read and written counts as tokens of the budget. ValueError: more than 256 rows, 512 tokens of a row or 128
        new ones.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Access `+weights` only: ΔW [out, in] (fine-tuned minus base) of every changed linear layer up to the hooked block,
        by name, e.g. "layers.2.mlp.down_proj"."""
        ...

    def labelled(self) -> tuple[Batch, Tensor]:
        """Supervised access only: residuals of dev prompts with the answers the behaviour gives, and of neutral text; and
        [tokens] the id of the token that the behaviour says next, −1 where it is not due."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Report work done, for the progress bar."""
        ...


@runtime_checkable
class Method(Protocol):
    """A diffing method: construct with its `Config`, call `diff` once per cell."""

    name: str
    access: Access
    Config: type[BaseModel]

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Find what changed. Must be deterministic given `problem.seed`."""
        ...


class NoConfig(BaseModel):
    """Configuration of a method without options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AccessError(PermissionError):
    """A method asked for more than its declared access tier."""


class FindingError(ValidationFailed):
    """A method returned something the contract does not allow."""


def check_findings(result: object, d_model: int) -> DiffResult:
    """Return `result` if it honours the contract, with every tensor on CPU in fp32.

    Raises:
        FindingError: wrong type or shape, numbers that are not finite, lengths outside `LENGTHS`, none or too many findings, claims that
            are no short lines of text.
    """
    if not isinstance(result, DiffResult):
        raise FindingError(
            f"diff() returned {type(result).__name__}, not DiffResult; return methods.contract.DiffResult(findings=[…])"
        )
    if not result.patch and not result.findings:
        raise FindingError(
            "diff() returned no findings; return at least one direction (a zero vector if nothing was found)"
        )
    if len(result.findings) > MAX_FINDINGS:
        raise FindingError(f"diff() returned {len(result.findings)} findings; keep the best {MAX_FINDINGS}")
    findings = [_check_finding(i, f, d_model) for i, f in enumerate(result.findings)]
    dictionary = result.dictionary or {}
    for name, tensor in dictionary.items():
        if not isinstance(tensor, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FindingError(f"dictionary[{name!r}] is {type(tensor).__name__}, not a tensor")
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in dictionary.items()}
    diagnostics, claims = _json(result.diagnostics, "diagnostics"), check_claims(result.claims)
    confidences = check_confidences(result.confidences, len(claims))
    return DiffResult(findings, diagnostics, copies or None, result.patch, claims, confidences)


def check_claims(claims: object) -> list[str]:
    """`claims` if they are a list of at most `MAX_CLAIMS` lines (`check_line`); FindingError if they are not."""
    if not isinstance(claims, list | tuple):
        raise FindingError(f"claims is {type(claims).__name__}, not a list of strings; give a list, one claim an item")
    if len(claims) > MAX_CLAIMS:  # pyright: ignore[reportUnknownArgumentType]
        raise FindingError(f"{len(claims)} claims; keep the surest {MAX_CLAIMS}")  # pyright: ignore[reportUnknownArgumentType]
    return [check_line(claim, f"claim {i}") for i, claim in enumerate(claims)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def check_confidences(confidences: object, claims: int) -> list[float]:
    """`confidences` if there is one in [0, 1] for each claim, falling, or none at all; FindingError if not."""
    if not isinstance(confidences, list | tuple):
        raise FindingError(
            f"confidences is {type(confidences).__name__}, not a list of numbers; give one for each claim"
        )
    found = [_finite(c, f"confidence {i}") for i, c in enumerate(confidences)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if len(found) not in (0, claims):
        raise FindingError(f"{len(found)} confidences for {claims} claims; give one for each claim, or none at all")
    if wrong := next((c for c in found if not 0 <= c <= 1), None):
        raise FindingError(f"a confidence is {wrong:g}; it is a probability, from 0 to 1")
    if found != sorted(found, reverse=True):
        raise FindingError("confidences rise along the claims; put the surest claim first")
    return found


def check_line(value: object, what: str) -> str:
    """`value` if it is one short line of text, without spaces at its ends.

    Raises:
        FindingError: no string, an empty or too long one, characters that are not seen.
    """
    if not isinstance(value, str):
        raise FindingError(f"{what} is {type(value).__name__}, not a string; say it in words")
    text = value.strip(" ")
    if not text:
        raise FindingError(f"{what} is empty; leave it out")
    if len(text) > MAX_LINE:
        raise FindingError(f"{what} has {len(text):,} characters; say it in at most {MAX_LINE}")
    if unseen := next((c for c in text if unicodedata.category(c) in UNSEEN), None):
        raise FindingError(
            f"{what} holds the character U+{ord(unseen):04X}, a control, a line break or one that is not seen; "
            "write one line of plain text"
        )
    return text


def _json(value: object, what: str) -> dict[str, Any]:
    """`value` as JSON would give it back."""
    try:
        parsed = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise FindingError(
            f"{what} is not JSON ({error}); use plain numbers, strings, lists and dicts, no NaN"
        ) from error
    if not isinstance(parsed, dict):
        raise FindingError(f"{what} is {type(value).__name__}, not a dict")
    return parsed  # pyright: ignore[reportUnknownVariableType]


def _check_finding(index: int, finding: object, d_model: int) -> Finding:
    if not isinstance(finding, Finding):
        raise FindingError(f"finding {index} is {type(finding).__name__}, not Finding(direction, …)")

    def vector(value: object, name: str) -> Tensor:
        try:
            tensor = torch.as_tensor(value).detach().to("cpu", torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FindingError(f"finding {index}: {name} is {type(value).__name__}, not a tensor of numbers") from error
        if tensor.shape != (d_model,):
            raise FindingError(
                f"finding {index}: {name} has shape {list(tensor.shape)}, expected [{d_model}] (the residual width at the hooked layer)"
            )
        if not torch.isfinite(tensor).all():
            raise FindingError(f"finding {index}: {name} contains NaN or infinity; drop that finding or fix the method")
        length = float(tensor.double().norm())
        if length and not LENGTHS[0] <= length <= LENGTHS[1]:
            raise FindingError(
                f"finding {index}: {name} has length {length:.3g}, which single precision cannot square; rescale it to between "
                f"{LENGTHS[0]:g} and {LENGTHS[1]:g} (a direction's length means nothing; a gate's threshold scales with its read-out)"
            )
        return tensor

    gate = finding.gate
    if gate is not None:
        if not isinstance(gate, Gate):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FindingError(f"finding {index}: gate is {type(gate).__name__}, not Gate(read, threshold)")
        gate = Gate(vector(gate.read, "gate.read"), _finite(gate.threshold, f"finding {index}: gate.threshold"))
    evidence = _json(finding.evidence, f"finding {index}: evidence")
    return Finding(
        vector(finding.direction, "direction"), gate, _finite(finding.score, f"finding {index}: score"), evidence
    )


def _finite(value: object, what: str) -> float:
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise FindingError(f"{what} is {type(value).__name__}, not a number") from error
    if not math.isfinite(number):
        raise FindingError(f"{what} is {number}; use a finite number")
    return number
