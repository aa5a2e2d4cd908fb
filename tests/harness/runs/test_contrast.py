"""`problem.contrast`: what two models write from their difference, within a method's access and budget, over the channel too."""

import pytest
import torch
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Access, AccessError, Budget


def problem(stage: Stage, access: Access = "+generations", tokens: int = 2000, seed: int = 0) -> Problem:
    return Problem(stage.pair, stage.texts, [], access, seed, Budget(tokens=tokens))


def rows(stage: Stage) -> list[list[int]]:
    return [row[:n] for row, n in zip(stage.texts.prompts(), (5, 3, 5, 4), strict=False)]


def test_rows_come_back_in_their_order_and_cost_the_budget(stage: Stage) -> None:
    p, asked = problem(stage), rows(stage)
    found = p.contrast(asked, 3)
    assert [0 < len(r) <= 3 for r in found] == [True] * 4
    assert p.tokens_used == sum(map(len, asked)) + sum(map(len, found))
    assert problem(stage).contrast(asked, 3) == found  # the seed decides
    alone = stage.pair.contrast([asked[1]], 1, 50.0, 1.0, 0)  # only the likeliest token is plausible
    assert alone == [[int(stage.pair.logits(torch.tensor([asked[1]]), "tuned", 1)[0, -1].argmax())]]


def test_what_is_amplified_is_the_difference(stage: Stage) -> None:
    """−1 gives the base's logits, 0 the fine-tuned model's, as many samples show."""
    [row] = rows(stage)[:1]
    many, ids = [row] * 256, torch.tensor([row])
    base, tuned = (stage.pair.logits(ids, side, 1)[0, -1].softmax(-1) for side in ("base", "tuned"))
    for amplify, expected in ((-1.0, base), (0.0, tuned)):
        drawn = torch.tensor([r[0] for r in stage.pair.contrast(many, 1, amplify, 1e-6, 0)])
        seen = torch.bincount(drawn, minlength=len(expected)) / len(drawn)
        assert float((seen - expected).abs().sum()) / 2 < 0.3


def test_access_bounds_and_budget_are_kept(stage: Stage) -> None:
    with pytest.raises(AccessError, match="generations"):
        problem(stage, "activations").contrast(rows(stage))
    for asked, said in (([[1]] * 257, "at most 256 rows"), ([[]], "1 to 512 tokens")):
        with pytest.raises(ValueError, match=said):
            problem(stage).contrast(asked)
    with pytest.raises(ValueError, match="the budget has 20 left"):
        problem(stage, tokens=20).contrast(rows(stage))
    with pytest.raises(ValueError, match="plausible"):
        problem(stage).contrast(rows(stage), plausible=0.0)
