"""Paired residuals made of planted atoms, so that what changed is known exactly, and the diff problem that hands them out.

h^m_t = μ^m + Σ_j c_tj · a^m_j + noise: an atom is unchanged (a^ft = a^base), new (a^base = 0), lost (a^ft = 0), stretched (the base
has it at a third of the length) or turned (cos ½ between the models). Every atom is active on a token with the same probability.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from diffbench.methods.contract import Batch, Budget, Edit, Outputs, Text
from torch import Tensor
from torch.nn.functional import normalize

Kind = Literal["unchanged", "new", "lost", "stretched", "turned"]
CHANGED: tuple[Kind, ...] = ("new", "lost", "stretched", "turned")
STRETCH, COSINE, NOISE = 1 / 3, 0.5, 0.02
"""Length of a stretched atom in the base, cosine of a turned atom between the models, standard deviation of a coordinate's noise."""


@dataclass(frozen=True)
class Setting:
    """A distribution of residuals."""

    name: str
    active: float
    """Mean active atoms of a token."""
    d_model: int = 32
    unchanged: int = 60
    each: int = 4
    """Atoms of every other kind."""
    orthogonal: bool = False
    """Perfectly separable: no two atoms of a model overlap."""

    @property
    def kinds(self) -> list[Kind]:
        """Of every atom."""
        counts: dict[Kind, int] = {"unchanged": self.unchanged, **dict.fromkeys(CHANGED, self.each)}
        return [kind for kind, n in counts.items() for _ in range(n)]


@dataclass(frozen=True)
class Planted:
    """Residuals and what is behind them."""

    residuals_T2d: Tensor
    held_out_T2d: Tensor
    atoms_N2d: Tensor
    """Of base and fine-tuned; zero where a model lacks it."""
    kinds: list[Kind]

    def of(self, kind: Kind) -> Tensor:
        """Unit directions [n, d] of a kind's atoms in the fine-tuned model (in the base for lost ones)."""
        model = 0 if kind == "lost" else 1
        return normalize(self.atoms_N2d[[k == kind for k in self.kinds], model], dim=1)

    def nearest(self, rows_Kd: Tensor) -> list[Kind]:
        """Kind of the atom with the largest |cosine| to each row; a turned one counts by its change and both its directions."""
        base_Nd, ft_Nd = self.atoms_N2d.unbind(1)
        directions = normalize(torch.cat([base_Nd, ft_Nd, ft_Nd - base_Nd]), dim=1)
        best_K = (normalize(rows_Kd, dim=1) @ directions.T).abs().argmax(1) % len(self.kinds)
        return [self.kinds[i] for i in best_K.tolist()]


def planted(setting: Setting, tokens: int, held_out: int, seed: int) -> Planted:
    """Atoms, coefficients uniform in [1, 1.5], means and noise, all from `seed`."""
    g = torch.Generator().manual_seed(seed)
    kinds, d = setting.kinds, setting.d_model
    ft_Nd, other_Nd = (normalize(torch.randn(len(kinds), d, generator=g), dim=1) for _ in range(2))
    if setting.orthogonal:  # needs room for a second direction of each turned atom
        rows = torch.linalg.qr(torch.randn(d, d, generator=g)).Q
        ft_Nd, other_Nd = rows[: len(kinds)], rows[-len(kinds) :]
    across_Nd = normalize(other_Nd - (other_Nd * ft_Nd).sum(1, keepdim=True) * ft_Nd, dim=1)
    in_base: dict[Kind, Tensor] = {
        "unchanged": ft_Nd,
        "new": torch.zeros_like(ft_Nd),
        "lost": ft_Nd,
        "stretched": STRETCH * ft_Nd,
        "turned": COSINE * ft_Nd + (1 - COSINE**2) ** 0.5 * across_Nd,
    }
    base_Nd = torch.stack([in_base[kind][i] for i, kind in enumerate(kinds)])
    here_N1 = torch.tensor([[float(kind != "lost")] for kind in kinds])
    atoms_N2d = torch.stack([base_Nd, ft_Nd * here_N1], 1)
    shape = tokens + held_out, len(kinds)
    codes_TN = (torch.rand(shape, generator=g) < setting.active / len(kinds)) * (
        1 + 0.5 * torch.rand(shape, generator=g)
    )
    h_T2d = torch.einsum("tn,nmd->tmd", codes_TN, atoms_N2d) + torch.randn(2, d, generator=g)
    h_T2d += NOISE * torch.randn(h_T2d.shape, generator=g)
    return Planted(h_T2d[:tokens], h_T2d[tokens:], atoms_N2d, kinds)


@dataclass
class PlantedProblem:
    """A DiffProblem over residuals in memory: every text has the same distribution and nothing but residuals is given."""

    residuals_T2d: Tensor
    seed: int
    layer: int = 0
    device: str = "cpu"
    tokenizer: Any = None
    scratch: Path | None = None
    budget: Budget = field(init=False)
    d_model: int = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(tokens=len(self.residuals_T2d), seconds=3600)
        self.d_model = self.residuals_T2d.shape[2]

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """The first half is neutral, the second chat, the last tenth contrastive, from its end backwards."""
        half = len(self.residuals_T2d) // 2
        of: dict[Text, Tensor] = {
            "neutral": self.residuals_T2d[:half],
            "chat": self.residuals_T2d[half:],
            "contrastive": self.residuals_T2d.flip(0)[: half // 5],
        }
        for chunk in of[text][:tokens][start or 0 :].split(batch_tokens):
            yield Batch(chunk, torch.zeros(len(chunk), dtype=torch.int64), torch.arange(len(chunk)))

    def progress(self, done: int, total: int) -> None:
        """Nobody watches."""

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """Refused."""
        self._absent()

    def divergence(self, edits: Sequence[Edit], text: Text = "chat", tokens: int = 2000) -> list[float]:
        """Refused."""
        self._absent()

    def lens(self, directions: Tensor) -> Tensor:
        """Refused."""
        self._absent()

    def patchscope(self, directions: Tensor) -> Tensor:
        """Refused."""
        self._absent()

    def contrast(
        self, rows: Sequence[Sequence[int]], new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        """Refused."""
        self._absent()

    def weights(self) -> dict[str, Tensor]:
        """Refused."""
        self._absent()

    def labelled(self) -> tuple[Batch, Tensor]:
        """Refused."""
        self._absent()

    def _absent(self) -> NoReturn:
        raise NotImplementedError("planted residuals have no model behind them: only activations can be read")
