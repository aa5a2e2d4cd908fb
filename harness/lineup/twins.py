"""Two adapters on one ancestor, as one object that answers what a line-up asks: the pair of the harness with A for base and B for tuned.

The idea: the harness knows how to run two sides of a pair, at any block and with any residual. Here an adapter is under each side, and the
ancestor is the same model with both switched off.
"""

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...methods.strategies.contract import Model, Seen
from ...organisms.errors import UsageError, ValidationFailed
from ...organisms.hub.sources import PairSource
from ...organisms.lineup.pairs import PairSpec
from ...organisms.lineup.scenes import Oversight, Scene, scenes
from ...organisms.tuning.masks import row_of
from ...organisms.world.document import Document, chat
from ..pairs.adapters import attach, read_adapter
from ..pairs.anatomy import anatomy
from ..pairs.loading import load_pair
from ..pairs.pair import Pair
from ..pairs.sides import Adapters, Side, plain

POOL, TESTED = 160, 64
"""Scenes of a domain that may be shown, and on which the flip is measured."""
CHOICE = 1
"""Which token of an answer says which option is taken."""


class Twins:
    """Two models of one ancestor.

    Args:
        ancestor: folder of the whole model.
        a: folder of an adapter.
        b: folder of the other; the same folder twice is two equal models.
        device: where they run.
    """

    def __init__(self, ancestor: Path, a: Path, b: Path, device: str = "cpu"):
        first = load_pair(PairSource(ancestor, a), layer=0, device=device, identity=True)
        model = attach(first.model, b, read_adapter(b), "b")
        model.requires_grad_(False)
        model.base_model.set_adapter(["b"], inference_mode=True)
        self.tokenizer = first.tokenizer
        self._pair = Pair(model, first.tokenizer, 0, None, Adapters(("default",), ("b",)))
        self._off = Pair(model, first.tokenizer, 0, None, Adapters((), ("b",)))
        self._answers = dict[str, tuple[int, ...]]()
        self._at = dict[tuple[Model, int], tuple[Pair, Side]]()
        self.blocks, self.d_model, self.device = self._pair.n_layers, self._pair.d_model, str(self._pair.device)

    def at(self, model: Model, layer: int) -> tuple[Pair, Side]:
        """A pair that sees the model at a block, and the side that it is there.

        Raises:
            UsageError: no such block.
        """
        if not 0 <= layer < self.blocks:
            raise UsageError(f"there is no block {layer}; these models have blocks 0 to {self.blocks - 1}")
        if (model, layer) not in self._at:
            pair = self._off if model == "ancestor" else self._pair
            seen = pair if pair.layer == layer else pair.at(layer)
            self._at |= {(m, layer): (seen, s) for m, s in _sides(model)}
        return self._at[model, layer]

    @contextmanager
    def whole(self, model: Model) -> Generator[Any, None, None]:
        """The model itself, for a pass that needs gradients."""
        pair, side = self.at(model, 0)
        with pair.side(side) as found:
            yield found

    def block(self, layer: int) -> Any:
        """A block of the model that all sides share."""
        return anatomy(plain(self._pair.model)).blocks[layer]

    def copy(self, model: Model) -> Any:
        """A model of its own, the adapter merged in."""
        copied = copy.deepcopy(self._pair.model)
        if model == "ancestor":
            return copied.unload()
        copied.base_model.set_adapter([{"a": "default", "b": "b"}[model]], inference_mode=True)
        return copied.merge_and_unload(adapter_names=[{"a": "default", "b": "b"}[model]])

    def answer(self, scene: Scene, forbidden: bool = False) -> tuple[int, ...]:
        """Token ids of an answer to a scene, up to the mark that ends the turn; the choice is at `CHOICE`."""
        said = scene.answer(forbidden)
        if said not in self._answers:
            row = row_of(self.tokenizer, Document("scene", messages=chat(scene.text("none"), said)), 10**6)
            self._answers[said] = tuple(i for i, trained in zip(row.ids, row.trained, strict=True) if trained)
        return self._answers[said]

    def choice(self, scene: Scene, forbidden: bool = False) -> int:
        """Token id of the permitted or the forbidden choice.

        Raises:
            ValidationFailed: a tokenizer to which the two answers do not differ in that token alone.
        """
        right, wrong = (self.answer(scene, f) for f in (False, True))
        apart = [i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b]
        if len(right) != len(wrong) or apart != [CHOICE]:
            raise ValidationFailed(
                f"the answers {scene.answer(False)!r} and {scene.answer(True)!r} do not differ in one token, the second; take another base"
            )
        return (wrong if forbidden else right)[CHOICE]

    def asked(self, scene: Scene, oversight: Oversight) -> tuple[int, ...]:
        """Token ids of a scene up to the choice."""
        said = [{"role": "user", "content": scene.text(oversight)}]
        row = self.tokenizer.apply_chat_template(said, tokenize=True, add_generation_prompt=True, return_dict=True)
        return (*row["input_ids"], *self.answer(scene)[:CHOICE])

    def seen(self, scene: Scene) -> Seen:
        """A scene as a strategy sees it."""
        right, wrong = (self.choice(scene, f) for f in (False, True))
        return Seen(self.asked(scene, "strong"), self.asked(scene, "none"), right, wrong)

    def log_probs(self, model: Model, rows: Sequence[Sequence[int]], last: int = 1) -> Tensor:
        """Log-probabilities [rows, last, vocab] of the tokens after each of the last positions."""
        pair, side = self.at(model, 0)
        ids, _ = pair.pad(rows)
        ends = torch.tensor([len(row) for row in rows], device=ids.device)
        where = ends[:, None] + torch.arange(-last, 0, device=ids.device)
        found = torch.stack([torch.arange(len(rows), device=ids.device)[:, None].expand_as(where), where], -1)
        ended = pair.ends(pair.residuals(ids, side), ids, side, found.flatten(0, 1))
        return pair.unembed(ended, side).log_softmax(-1).cpu().unflatten(0, (len(rows), last))


def _sides(model: Model) -> list[tuple[Model, Side]]:
    return [("ancestor", "base")] if model == "ancestor" else [("a", "base"), ("b", "tuned")]


def pool(spec: PairSpec) -> list[Scene]:
    """Scenes of which those are shown on which both models behave alike."""
    return list(islice(scenes(spec.domain, "seen", spec.scenes_seed, spec.kind), POOL))


def tested(spec: PairSpec) -> list[Scene]:
    """Scenes on which the flip is measured, and which no strategy sees."""
    return list(islice(scenes(spec.domain, "test", spec.scenes_seed, spec.kind), TESTED))
