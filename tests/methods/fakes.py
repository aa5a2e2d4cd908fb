"""A diff problem made of planted sparse features, so that the truth a method should find is known exactly.

h^m_t = μ^m + Σ_j c_tj · atoms^m_j + noise: shared atoms are equal in both models, exclusive ones are zero in the base.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffbench.methods.contract import Batch, Budget, Text
from torch import Tensor


@dataclass(frozen=True)
class Planted:
    """Residuals and the directions behind them."""

    residuals_T2d: Tensor
    exclusive_Ed: Tensor
    """Unit directions only the fine-tuned model has."""


def planted(
    d: int = 32,
    n_shared: int = 64,
    n_exclusive: int = 1,
    tokens: int = 8192,
    active: int = 6,
    exclusive_rate: float = 0.05,
    seed: int = 0,
) -> Planted:
    """Each token has `active` shared atoms on average and each exclusive atom with probability `exclusive_rate`."""
    g = torch.Generator().manual_seed(seed)
    atoms_Nd = torch.randn(n_shared + n_exclusive, d, generator=g)
    atoms_Nd /= atoms_Nd.norm(dim=1, keepdim=True)
    rates = torch.tensor([active / n_shared] * n_shared + [exclusive_rate] * n_exclusive)
    codes_TN = (torch.rand(tokens, len(rates), generator=g) < rates) * (
        1 + 0.5 * torch.rand(tokens, len(rates), generator=g)
    )
    base_Td = codes_TN[:, :n_shared] @ atoms_Nd[:n_shared]
    ft_Td = base_Td + 1.5 * codes_TN[:, n_shared:] @ atoms_Nd[n_shared:]
    noise = 0.02 * torch.randn(tokens, 2, d, generator=g)
    return Planted(torch.stack([base_Td, ft_Td], 1) + noise + torch.randn(2, d, generator=g), atoms_Nd[n_shared:])


@dataclass
class FakeProblem:
    """A DiffProblem over tensors in memory; `texts` maps each text to its residuals [tokens, 2, d_model]."""

    texts: dict[Text, Tensor]
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    layer: int = 0
    device: str = "cpu"
    tokenizer: Any = None
    asked: list[tuple[str, int | None]] = field(default_factory=list[tuple[str, int | None]])
    """Texts asked for, with how many tokens."""

    @property
    def d_model(self) -> int:
        """Residual width."""
        return next(iter(self.texts.values())).shape[2]

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None
    ) -> Iterator[Batch]:
        """At most `tokens` residuals of a text, in order."""
        self.asked.append((text, tokens))
        for chunk in self.texts[text][:tokens].split(batch_tokens):
            yield Batch(chunk, torch.zeros(len(chunk), dtype=torch.int64), torch.arange(len(chunk)))

    def labelled(self) -> tuple[Batch, Tensor]:
        """Not for these methods."""
        raise AssertionError("an unsupervised method asked for labels")

    def progress(self, done: int, total: int) -> None:
        """Ignored."""


def problem_of(residuals_T2d: Tensor, **options: Any) -> FakeProblem:
    """The same distribution for every text: a third of the tokens each."""
    neutral, chat, contrastive = residuals_T2d.tensor_split(3)
    return FakeProblem({"neutral": neutral, "chat": chat, "contrastive": contrastive}, **options)
