"""Off-axis PCA finds a change that the base has no word for, though a larger one lies along what the base varies in.

Run with `python -m pytest`.
"""

import torch
from diffbench.methods.contract import Batch
from offaxis_pca import OffaxisPca, Options


class Planted:
    """A diff problem in memory: the base varies mostly along one axis, the change lies mostly along that axis too, and partly off it."""

    d_model, seed, layer, device = 16, 0, 1, "cpu"

    def __init__(self, strength: float) -> None:
        generator = torch.Generator().manual_seed(0)
        axes = torch.linalg.qr(torch.randn(self.d_model, 2, generator=generator)).Q
        self.loud, self.direction = axes.unbind(1)
        base = torch.randn(2000, self.d_model, generator=generator)
        base += 30 * torch.randn(2000, 1, generator=generator) * self.loud
        due = (torch.arange(len(base)) % 2 == 0).float()[:, None]
        change = 5 * torch.randn(2000, 1, generator=generator) * self.loud + 2 * due * self.direction
        self.residuals = torch.stack([base, base + strength * change], 1)  # [tokens, 2, d_model]

    def activations(self, text, batch_tokens=500, tokens=None, start=None):
        for rows in self.residuals[:tokens].split(batch_tokens):
            yield Batch(rows, torch.zeros(len(rows), dtype=torch.int64), torch.arange(1, len(rows) + 1))

    def progress(self, done, total):
        pass


def cosine(a, b):
    return float(torch.cosine_similarity(a, b, dim=0))


def test_it_finds_what_the_base_has_no_word_for():
    problem = Planted(1.0)
    first = OffaxisPca(Options(base_components=1)).diff(problem).findings[0]
    assert cosine(first.direction, problem.direction) > 0.99


def test_without_that_step_it_finds_the_loud_axis():
    problem = Planted(1.0)
    first = OffaxisPca(Options(base_components=0)).diff(problem).findings[0]
    assert abs(cosine(first.direction, problem.loud)) > 0.95


def test_it_finds_nothing_where_nothing_changed():
    assert not any(f.direction.any() for f in OffaxisPca(Options()).diff(Planted(0.0)).findings)
