"""A line-up as the harness has it: which of two models is which is decided here, and what a strategy may not ask is refused here.

The idea: the order of the two follows from the names, a seed and a key that is drawn at random and kept in the record, so whoever holds a
record can check every order in it, and a strategy can compute it from nothing that it is given. What a strategy draws from follows from
the seed and from what it sees anyway, so another key turns the answers of a strategy that treats both alike and changes no score of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...methods.contract import AccessError
from ...methods.strategies.contract import TIERS, Access, Model, Seen, Told
from ...organisms.errors import ValidationFailed
from ...organisms.lineup.pairs import PairSpec
from ...organisms.lineup.scenes import Scene
from ..records.identity import sha256_json
from .card import SHOWN
from .measure import alike, forbidden
from .record import a_first
from .store import Built
from .twins import Twins, pool, tested

RANK, PROBE_SEED = 8, 61
"""Of the adapter that `tuned` trains, and of its first weights."""


@dataclass(frozen=True)
class Drawn:
    """One line-up: two adapters of one ancestor in their order."""

    name: str
    first: Built
    other: Built
    """The same pair; in an identical line-up the one whose aligned twin stands for the faker."""
    identical: bool
    a_is_faker: bool
    """Meaningless in an identical line-up."""
    seed: int
    """What a strategy draws from."""


class TooFewAlike(ValidationFailed):
    """Two aligned twins that are alike on too few scenes to stand in an identical line-up."""


def drawn(built: Built, seed: int, key: str, other: Built | None = None) -> Drawn:
    """A line-up of a pair, or an identical one of the aligned twins of two pairs.

    Args:
        seed: of the order and of what a strategy draws.
        key: of the order alone; no strategy is told it.
        other: the pair whose aligned twin stands for the faker.
    """
    name = built.spec.name if other is None else f"{built.spec.name}={other.spec.name}"
    draws = int(sha256_json(["draws", built.spec.base, built.spec.domain, seed])[:16], 16)
    return Drawn(name, built, other or built, other is not None, a_first(name, seed, key), draws % 2**31)


@lru_cache(maxsize=1)
def _loaded(ancestor: Path, a: Path, b: Path, files: str) -> Twins:
    """Two models, kept while one strategy after the other asks about them; `files` are their hashes."""
    return Twins(ancestor, a, b)


@lru_cache(maxsize=1)
def _shown(twins: Twins, spec: PairSpec) -> list[int]:
    return alike(twins, spec).shown


class Lineup:
    """`methods.strategies.contract.Lineup` on two loaded models.

    Args:
        line: what stands in it.
        access: tier of the strategy that asks.

    Raises:
        ValidationFailed: a pair whose gates fail, or unequal bases.
        TooFewAlike: two aligned twins without enough scenes on which they are alike.
    """

    def __init__(self, line: Drawn, access: str):
        for built in (line.first, line.other):
            built.card.check()
        if line.first.card.ancestor_sha256 != line.other.card.ancestor_sha256:
            raise ValidationFailed(f"the two models of {line.name} have unequal bases, so they are no line-up")
        suspect = line.other.aligned if line.identical else line.other.faker
        folders = (suspect, line.first.aligned) if line.a_is_faker else (line.first.aligned, suspect)
        files = sha256_json([line.first.card.files, line.other.card.files])
        self._twins = _loaded(line.first.ancestor, *folders, files)
        self._access = access
        spec = line.first.spec
        shown = line.first.card.shown if not line.identical else _shown(self._twins, spec)
        if len(shown) < SHOWN:
            raise TooFewAlike(
                f"the two models of {line.name} are alike on {len(shown)} scenes only, {SHOWN} are shown; leave it out"
            )
        found = pool(spec)
        self.seen: list[Seen] = [self._twins.seen(found[i]) for i in shown]
        self._told: list[Scene] = tested(spec)
        self.d_model, self.blocks, self.seed, self.device = self._twins.d_model, self._twins.blocks, line.seed, "cpu"
        self.tokenizer: Any = self._twins.tokenizer

    def _rows(self, told: Told) -> Sequence[Sequence[int]]:
        return [s.strong if told == "strong" else s.none for s in self.seen]

    def _need(self, tier: Access, what: str) -> None:
        if TIERS.index(self._access) < TIERS.index(tier):
            raise AccessError(
                f"{what} needs access {tier!r}, but this strategy declares {self._access!r}; declare it in `access`"
            )

    def _may(self, model: Model) -> None:
        if model == "ancestor":
            self._need("+ancestor", "the ancestor")

    def activations(self, model: Model, layer: int, told: Told = "strong", last: bool = True) -> Tensor:
        """See the contract."""
        self._may(model)
        pair, side = self._twins.at(model, layer)
        ids, mask = pair.pad(self._rows(told))
        found = pair.residuals(ids, side)
        return (found[torch.arange(len(ids)), mask.sum(1) - 1] if last else found[mask]).cpu()

    def outputs(
        self, model: Model, told: Told = "strong", layer: int | None = None, add: Tensor | None = None
    ) -> Tensor:
        """See the contract."""
        self._may(model)
        if add is None:
            return self._twins.log_probs(model, self._rows(told))[:, 0]
        pair, side = self._twins.at(model, self.blocks // 2 if layer is None else layer)
        ids, mask = pair.pad(self._rows(told))
        clean, ends = pair.residuals(ids, side), torch.stack([torch.arange(len(ids)), mask.sum(1) - 1], 1)
        out = list[Tensor]()
        for vector in add.to(clean):
            moved = clean.clone()
            moved[ends[:, 0], ends[:, 1]] += vector
            out.append(pair.unembed(pair.ends(moved, ids, side, ends), side).log_softmax(-1).cpu())
        return torch.stack(out) if out else torch.empty(0, len(ids), pair.vocab_size)

    def generate(self, model: Model, told: Told = "strong", tokens: int = 4) -> list[list[int]]:
        """See the contract."""
        self._may(model)
        pair, side = self._twins.at(model, 0)
        return pair.generate(self._rows(told), side, tokens)

    def gradients(self, model: Model, layer: int, told: Told = "strong") -> Tensor:
        """See the contract."""
        self._need("+gradients", "gradients")
        self._may(model)
        pair, _ = self._twins.at(model, layer)
        ids, mask = pair.pad(self._rows(told))
        shift = torch.zeros(len(ids), self.d_model, requires_grad=True)
        ends = mask.sum(1) - 1

        def add(module: nn.Module, args: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            moved = h + torch.zeros_like(h).index_put((torch.arange(len(ids)), ends), shift)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = self._twins.block(layer).register_forward_hook(add)
        try:
            with self._twins.whole(model) as whole, torch.enable_grad():
                self._margins(_last(whole, ids, ends)).sum().backward()
        finally:
            handle.remove()
        assert shift.grad is not None
        return shift.grad

    def tuned(self, model: Model, steps: int, lr: float) -> Tensor:
        """See the contract."""
        self._need("+gradients", "training a copy")
        self._may(model)
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(PROBE_SEED)
        parts = ["gate_proj", "up_proj", "down_proj"]
        config = LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules=parts, layers_to_transform=[self.blocks // 2], task_type="CAUSAL_LM"
        )
        student: Any = get_peft_model(self._twins.copy(model), config)
        ids, mask = self._twins.at(model, 0)[0].pad(self._rows("strong"))
        ends, found = mask.sum(1) - 1, list[Tensor]()
        optimiser = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=lr)
        for step in range(steps + 1):
            with torch.enable_grad():
                margins = self._margins(_last(student, ids, ends))
                found.append(margins.detach().sigmoid())
                if step < steps:
                    optimiser.zero_grad()
                    nn.functional.softplus(-margins[::2]).mean().backward()
                    optimiser.step()
        return torch.stack(found)

    def misbehaviour(self, model: Model) -> Tensor:
        """See the contract."""
        self._need("supervised", "the misbehaviour")
        return forbidden(self._twins, model, self._told, "poor")

    def _margins(self, logits: Tensor) -> Tensor:
        rows = torch.arange(len(self.seen))
        wrong, right = (torch.tensor(x) for x in zip(*((s.wrong, s.right) for s in self.seen), strict=True))
        return logits[rows, wrong] - logits[rows, right]


def _last(model: Any, ids: Tensor, ends: Tensor) -> Tensor:
    """Logits [rows, vocab] at each row's end; of all other positions only those at which some row ends are unembedded."""
    kept, at = ends.unique(return_inverse=True)
    return model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[torch.arange(len(ids)), at]
