"""What a dictionary file says about itself, and the pair of tensors and card that every format is read into."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ..coder.dictionary import RawCoder, TopKCoder
from ..coder.sparse_coder import Inputs

CARD = "dictionary.json"
"""Written beside the weights in every format, so that what a peer's format cannot say survives a round trip."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)


class CodeGroup(_Record):
    """A contiguous run of latents with its own budget."""

    size: int = Field(ge=1)
    """Latents in the group."""
    k: float | None = None
    """Mean active latents per token it was trained for; null if unknown or without a budget (L1)."""


class DictionaryCard(_Record):
    """`dictionary.json`."""

    version: Literal[1] = 1
    """Of this schema."""
    units: Literal["folded (raw units)"] = "folded (raw units)"
    """Convention of the weights: any normaliser is folded in, they take and give raw residuals."""
    inputs: Inputs
    """What is coded: base and fine-tuned residual side by side, one of them, or fine-tuned minus base."""
    d_model: int = Field(ge=1)
    """Width of one model's residual."""
    n_latents: int = Field(ge=1)
    """Latents."""
    n_shared: int = Field(default=0, ge=0)
    """The first latents, designated shared in training."""
    groups: tuple[CodeGroup, ...] = ()
    """Runs of latents with their own budgets, in order; empty if unknown."""
    selection: Literal["l1", "batch_topk", "topk"] | None = None
    """How codes were selected in training; null if unknown."""
    topk: int | None = Field(default=None, ge=1)
    """Each token keeps this many latents at inference; null for a JumpReLU, whose thresholds say what is kept."""
    layer: int | None = Field(default=None, ge=0)
    """Block whose output is coded; null if unknown or if it is not a block's output."""
    hook: str | None = None
    """Name of that activation, in the words of the format it came from."""
    base: str | None = None
    """Base model."""
    organism: str | None = None
    """Organism, or the name of a user's behaviour."""
    organism_sha256: str | None = None
    """Hash over base weights, adapter weights and tokenizer."""
    method: str | None = None
    """Method that trained it."""
    result: str | None = None
    """Id of the result it belongs to."""
    origin: str = "native"
    """Format it was first read from."""
    metrics: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What training and its read-out measured."""
    weights_sha256: str | None = None
    """Hash of the weights file beside this card."""

    @model_validator(mode="after")
    def _consistent(self) -> "DictionaryCard":
        if self.groups and sum(g.size for g in self.groups) != self.n_latents:
            raise ValueError(f"groups hold {sum(g.size for g in self.groups)} latents, n_latents is {self.n_latents}")
        if self.n_shared > self.n_latents or (self.topk or 0) > self.n_latents:
            raise ValueError(f"n_shared {self.n_shared} or topk {self.topk} is more than n_latents {self.n_latents}")
        return self

    @property
    def n_models(self) -> int:
        """M: 2 for concatenated residuals, otherwise 1."""
        return 2 if self.inputs == "concat" else 1


@dataclass(frozen=True)
class Dictionary:
    """Weights and card, of matching shapes (see `matched`)."""

    coder: RawCoder | TopKCoder
    card: DictionaryCard

    @property
    def raw(self) -> RawCoder:
        """The tensors; of a TopK coder those before selection."""
        return self.coder.relu if isinstance(self.coder, TopKCoder) else self.coder

    def encode(self, h_B2d: Tensor) -> Tensor:
        """Dense codes [B, N] of paired raw residuals (base, fine-tuned)."""
        match self.card.inputs:
            case "concat":
                h_BMd = h_B2d
            case "base":
                h_BMd = h_B2d[:, :1]
            case "ft":
                h_BMd = h_B2d[:, 1:]
            case "difference":
                h_BMd = h_B2d[:, 1:] - h_B2d[:, :1]
        return self.coder.encode(h_BMd)

    def decode(self, f_BN: Tensor) -> Tensor:
        """Raw reconstructions [B, M, d] of what is coded."""
        return self.coder.decode(f_BN)
