"""A text is continued under the edit that scoring measures."""

import torch
from diffbench.harness.inspection.continuing import continued
from diffbench.harness.pairs.interventions import Directions, Edits, Option, edits
from diffbench.harness.pairs.sides import SIDES, Side
from diffbench.harness.pairs.sinks import Sinks
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate
from diffbench.organisms.hub.asked import encode_prompt

SCALE = 60.0


def prompt(stage: Stage) -> list[int]:
    return encode_prompt(stage.pair.tokenizer, stage.organism.behaviour.of("dev")[0]).ids


def some_edits(stage: Stage, option: Option, seed: int = 0) -> Edits:
    d = stage.pair.d_model
    draw = torch.randn(2, d, generator=torch.Generator().manual_seed(seed))
    return edits([option], Directions.of([Finding(draw[0], Gate(draw[1], 0.0))], centre=torch.zeros(d)), SCALE)


def by_scoring(stage: Stage, side: Side, row: list[int], tokens: int, made: Edits) -> list[int]:
    """Greedily, a token at a time, by the seam of scoring: residuals once, edited, and the blocks above."""
    pair, out = stage.pair, list[int]()
    for _ in range(tokens):
        ids = torch.tensor([[*row, *out]])
        h = pair.residuals(ids, side)
        move = made.lengths[0] * made.moves[0](h)
        if pair.sinks is not None:
            move = move.masked_fill(pair.sinks.still(h, ids, side)[..., None], 0.0)
        out.append(int(pair.resume(h + move, ids, side, keep=1)[0, -1].argmax()))
        if pair.tokenizer.decode(out[-1:]) in ("<end>", "<eos>"):
            break
    return out


def test_an_answer_is_the_one_that_the_seam_of_scoring_gives(stage: Stage) -> None:
    row = prompt(stage)
    options = [Option("add", 1, False, 0.7), Option("subtract", 1, True, 0.9), Option("ablate", 1, False, 1.0)]
    for side in SIDES:
        plain = continued(stage.pair, row, side, 8)
        changed = [continued(stage.pair, row, side, 8, edits=some_edits(stage, o)) for o in options]
        assert changed == [by_scoring(stage, side, row, 8, some_edits(stage, o)) for o in options]
        assert any(answer != plain for answer in changed)
        assert continued(stage.pair, row, side, 8) == plain  # nothing of an edit is left behind


def test_a_first_position_and_an_outlier_are_left_alone_as_in_scoring(stage: Stage) -> None:
    row, pair = prompt(stage), stage.pair
    made = some_edits(stage, Option("add", 1, False, 1.5), seed=3)
    free = continued(pair, row, "base", 6, edits=made)
    pair.sinks = Sinks.of(pair, [row])
    try:
        assert continued(pair, row, "base", 6, edits=made) == by_scoring(stage, "base", row, 6, made)
        pair.sinks.most = dict.fromkeys(SIDES, 0.0)  # everything is an outlier: nothing moves
        assert continued(pair, row, "base", 6, edits=made) == continued(pair, row, "base", 6) != free
    finally:
        pair.sinks = None


def test_a_strength_of_zero_and_one_seed_give_the_same_answer(stage: Stage) -> None:
    row = prompt(stage)
    nothing = some_edits(stage, Option("add", 1, False, 0.0))
    assert continued(stage.pair, row, "tuned", 8, seed=5) == continued(stage.pair, row, "tuned", 8, 5, nothing)
