"""What rows share runs once, and every position gets the numbers that it has in its row alone."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from diffbench.harness.pairs import pair as module
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.sides import SIDES
from diffbench.harness.pairs.trees import grown, layout, planted

from .kinds import CONFIGS, save_adapter, save_base

ROWS = [[5, 6, 7, 8, 9, 10], [5, 6, 7, 11], [5, 6, 7, 8, 12], [5, 13, 14], [15, 16]]


def test_a_tree_holds_each_row_and_each_shared_beginning_once() -> None:
    tree = grown(ROWS, range(4))
    assert [[tree.ids[n] for n in path] for path in tree.paths] == ROWS[:4]
    assert len(tree.ids) == 6 + 1 + 1 + 2 and tree.parents[0] == -1 and not tree.chain
    assert grown(ROWS, [0]).chain


def test_rows_are_put_together_where_that_costs_least() -> None:
    rng = random.Random(0)
    for _ in range(60):
        rows = [[1] + [rng.randint(0, 2) for _ in range(rng.randint(0, 6))] for _ in range(rng.randint(1, 6))]
        rows = [list(r) for r in dict.fromkeys(map(tuple, rows))]
        worth = rng.choice([2.0, 10.0, 100.0])
        trees = planted(rows, worth)
        assert sorted(itertools.chain(*(t.rows for t in trees))) == list(range(len(rows)))
        order = sorted(range(len(rows)), key=lambda i: rows[i])
        ways = (
            [grown(rows, order[a:b]) for a, b in itertools.pairwise((0, *cuts, len(order)))]
            for n in range(len(order))
            for cuts in itertools.combinations(range(1, len(order)), n)
        )
        cost = [sum(len(t.ids) * (worth + len(t.ids)) for t in way) for way in (trees, *ways)]
        assert cost[0] == pytest.approx(min(cost))


def test_rows_that_begin_otherwise_stand_in_trees_of_their_own() -> None:
    assert sorted(sorted(t.rows) for t in planted(ROWS, 1e9)) == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_tree_gives_what_each_row_gives_alone(tmp_path: Path, kind: str) -> None:
    window = {"sliding_window": 64} if getattr(CONFIGS[kind], "sliding_window", None) else {}
    base = save_base(tmp_path / "base", kind, **window)
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base, kind), 1)
    assert pair.worth is not None
    trees = planted(ROWS, 1e9)
    ids, _ = pair.pad([t.ids for t in trees])
    told = layout(trees, ids.shape[1], pair.dtype, pair.device)
    for side in SIDES:
        h = pair.residuals(ids, side, told)
        moved = h + 0.3 * h.norm(dim=-1, keepdim=True) * torch.linspace(-1, 1, pair.d_model)
        where = [(t, n) for t, tree in enumerate(trees) for path in tree.paths for n in path]
        got = pair.unembed(pair.ends(moved, ids, side, torch.tensor(where), told), side)
        own: list[torch.Tensor] = []
        for row in (r for tree in trees for r in tree.rows):
            alone = torch.tensor([ROWS[row]])
            h = pair.residuals(alone, side)
            h = h + 0.3 * h.norm(dim=-1, keepdim=True) * torch.linspace(-1, 1, pair.d_model)
            own.append(pair.resume(h, alone, side)[0])
        torch.testing.assert_close(got, torch.cat(own), rtol=1e-4, atol=1e-4)


def test_texts_longer_than_a_window_stay_rows(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "mistral", sliding_window=6)
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 1)
    assert any(not t.chain for t in pair.plant(ROWS)) and all(t.chain for t in pair.plant([[*r, 20] for r in ROWS]))


def test_a_model_that_is_not_to_be_told_of_trees_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base")
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 1)
    real = module.Engine.residuals

    def deaf(self: module.Engine, ids: torch.Tensor, side: module.Side, told: object = None) -> torch.Tensor:
        return real(self, ids, side)

    monkeypatch.setattr(module.Engine, "residuals", deaf)
    assert pair.worth is None and all(t.chain for t in pair.plant(ROWS))
