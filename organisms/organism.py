"""What is diffed: a pair that is ready to be loaded, with its behaviour and its texts, wherever it comes from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .behaviour import Behaviour
from .card import Role, Tier, sha256_file
from .hub.sources import PairSource

if TYPE_CHECKING:
    from .texts import Texts

CONTROLS = "controls.safetensors"
"""What random controls do on an organism, in its folder (`bench controls build`)."""


@dataclass(frozen=True)
class Organism:
    """A pair ready to be loaded."""

    name: str
    tier: Tier
    pair: PairSource
    """The models it is made of."""
    layer: int | None
    behaviour: Behaviour
    sha256: str
    """Over every file of its models that is read."""
    texts_id: str
    """Identifies the texts together with the behaviour's own."""
    make_texts: "Callable[[Any], Texts]"
    """Texts for a tokenizer."""
    source: dict[str, str]
    """What the user gave, and the commits it resolved to."""
    role: Role = "organism"
    notes: tuple[str, ...] = ()
    """Sentences about text that stands for other text."""

    @property
    def sentences(self) -> list[str]:
        """What a reader of a score on it should know; nothing where its prompts and texts are as they should be."""
        return [*self.behaviour.templates_said, *self.notes]

    @property
    def base(self) -> Path:
        """Folder of the base."""
        return self.pair.base

    @property
    def adapter(self) -> Path:
        """Folder of the adapter; only organisms of a zoo are sure to have one."""
        assert self.pair.adapter is not None
        return self.pair.adapter

    @property
    def controls(self) -> Path | None:
        """File of random controls that came with it; None: there is none."""
        path = self.adapter / CONTROLS if self.in_zoo and self.pair.adapter else None
        return path if path and path.is_file() else None

    @property
    def controls_sha256(self) -> str | None:
        """Hash of that file."""
        return sha256_file(self.controls) if self.controls else None

    def at(self, layer: int | None, limit: int | None) -> "Organism":
        """The organism at another layer, or with only the first prompts of each split; None: as it is."""
        changed = self if layer is None else replace(self, layer=layer)
        if limit is None:
            return changed
        b, splits = self.behaviour, ("dev", "test")
        some = {
            "prompts": tuple(p for s in splits for p in b.of(s)[:limit]),
            "capability": tuple(p for s in splits for p in b.capability_of(s)[:limit]),
        }
        return replace(changed, behaviour=b.model_copy(update=some))

    @property
    def in_zoo(self) -> bool:
        """Whether it comes from a zoo, and not from a user's own models."""
        return "organism" in self.source


def truth_direction(adapter: Path) -> Any:
    """Unit direction [d_model] that a planted adapter writes, fp32."""
    from safetensors.torch import load_file

    weights = load_file(adapter / "adapter_model.safetensors")
    column = next(w for name, w in weights.items() if "lora_B" in name).float()[:, 0]
    return column / column.norm()
