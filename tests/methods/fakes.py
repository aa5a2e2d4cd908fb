"""A diff problem made of planted sparse features, so that the truth a method should find is known exactly.

h^m_t = μ^m + Σ_j c_tj · atoms^m_j + noise: shared atoms are equal in both models, exclusive ones are zero in the base.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffbench.methods.contract import Batch, Budget, Edit, Outputs, Text
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
    changes: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What `weights` gives."""
    vocab: int = 40
    scratch: Path | None = None
    asked: list[tuple[str, int | None]] = field(default_factory=list[tuple[str, int | None]])
    """Texts asked for, with how many tokens."""

    @property
    def d_model(self) -> int:
        """Residual width."""
        return next(iter(self.texts.values())).shape[2]

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """At most `tokens` residuals of a text, in order."""
        self.asked.append((text, tokens))
        for chunk in self.texts[text][:tokens][start or 0 :].split(batch_tokens):
            yield Batch(chunk, torch.zeros(len(chunk), dtype=torch.int64), torch.arange(len(chunk)))

    @property
    def unembedding_Vd(self) -> Tensor:
        """The upper part of both models is this one linear map."""
        return torch.randn(self.vocab, self.d_model, generator=torch.Generator().manual_seed(7))

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """Logits of the linear upper part."""
        for batch in self.activations(text, tokens=tokens):
            yield Outputs(batch.residuals @ self.unembedding_Vd.T, batch)

    def divergence(self, edits: Sequence[Edit], text: Text = "chat", tokens: int = 2000) -> list[float]:
        """KL(fine-tuned ‖ hybrid) of the linear upper part; the text is one row."""
        both = self.texts[text][None, :tokens]
        clean = (both[:, :, 1] @ self.unembedding_Vd.T).log_softmax(-1)
        hybrids = [(edit(both) @ self.unembedding_Vd.T).log_softmax(-1) for edit in edits]
        return [float((clean.exp() * (clean - h)).sum(-1).mean()) for h in hybrids]

    def lens(self, directions: Tensor) -> Tensor:
        """Unembedding, mean over the vocabulary removed."""
        logits = directions @ self.unembedding_Vd.T
        return logits - logits.mean(-1, keepdim=True)

    def patchscope(self, directions: Tensor) -> Tensor:
        """The lens again, as log-probabilities."""
        return self.lens(directions).log_softmax(-1)

    def contrast(
        self, rows: Sequence[Sequence[int]], new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        """Every row says its own tokens again."""
        return [list(row)[:new_tokens] for row in rows]

    def weights(self) -> dict[str, Tensor]:
        """The changes the problem was made with."""
        return self.changes

    def labelled(self) -> tuple[Batch, Tensor]:
        """Not for these methods."""
        raise AssertionError("an unsupervised method asked for labels")

    def progress(self, done: int, total: int) -> None:
        """Ignored."""


def problem_of(residuals_T2d: Tensor, **options: Any) -> FakeProblem:
    """The same distribution for every text: a third of the tokens each."""
    neutral, chat, contrastive = residuals_T2d.tensor_split(3)
    return FakeProblem({"neutral": neutral, "chat": chat, "contrastive": contrastive}, **options)
