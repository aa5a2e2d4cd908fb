"""What a draw is made of: templates, then prompts; what it leaves undefined, and what is clipped."""

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import interval
from diffbench.harness.records.result import SCORES, BySide, Samples
from diffbench.leaderboard.statistics.resample import family, organism_draws
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result, make_samples, repeat
from .built import DRAWS


def test_templates_without_a_scored_prompt_are_not_drawn() -> None:
    """Of two templates one has none: the other is left, and its prompts are drawn, as in a record."""
    samples = make_samples(0.5, np.random.default_rng(0), prompts=4)
    gap = [*samples.gap[:2], 0.05, 0.05]
    column = samples.constant.model_copy(deep=True)
    for side in (column.sufficiency, column.necessity):
        side.effect = [*side.effect[:2], 0.05, 0.0]
        side.null = [*side.null[:2], 0.0, 0.0]
        side.null_controls = [sum(side.null) / sum(gap[:2])] * 16
    mitigation = [[*effect[:2], 0.0, 0.0] for effect in samples.mitigation]
    oracle = BySide(sufficiency=[*gap[:2], 0.0, 0.0], necessity=[*gap[:2], 0.0, 0.0])
    lists = {"gap": gap, "scored": [True, True, False, False], "constant": column, "mitigation": mitigation}
    cell = make_result(samples=samples.model_copy(update=lists | {"oracle": oracle}))
    drawn = organism_draws({"m": [cell]}, "o", 2000, 0)["m"].drawn
    assert np.isfinite(drawn).all() and drawn[1].std() > 0
    score = build_table([cell], draws=500).overall[0].scores["sufficiency"]
    assert score.low is not None and score.high is not None and np.isfinite([score.low, score.high]).all()


def test_prompts_of_one_template_are_drawn_together() -> None:
    """Copies of prompts narrow an interval if each counts as new, and do not if they stand for one template."""
    once = make_samples(0.5, np.random.default_rng(0))

    def width(samples: Samples, templates: list[int]) -> float:
        spread = organism_draws(
            {"m": [make_result(samples=samples.model_copy(update={"templates": templates}))]}, "o", 2000, 0
        )
        low, high = interval(spread["m"].drawn[SCORES.index("sufficiency")])
        return high - low

    n, four = len(once.gap), repeat(once, 4)
    wide = width(once, list(range(n)))
    assert width(four, list(range(n)) * 4) == pytest.approx(wide, rel=0.1)
    assert width(four, list(range(4 * n))) < 0.65 * wide


def test_scores_are_stated_in_their_range_and_drawn_beyond_it() -> None:
    """Findings that lead away twice as far as the gap: -1 is stated, with an interval that is cut there; no draw is."""
    samples = make_samples(0.0, np.random.default_rng(0))
    gap = np.asarray(samples.gap)
    column = samples.constant.model_copy(deep=True)
    column.sufficiency.effect = np.maximum(-2 * gap, gap - 1).tolist()
    samples = samples.model_copy(
        update={"constant": column, "oracle": samples.oracle.model_copy(update={"sufficiency": list(gap / 4)})}
    )
    cell = make_result(samples=samples)
    assert build_table([cell], draws=DRAWS).overall[0].scores["sufficiency"] == (-1, -1, -1)
    drawn = organism_draws({"m": [cell]}, "o", DRAWS, 0)["m"].drawn[SCORES.index("sufficiency")]
    assert drawn.max() < -1 and drawn.std() > 0


def test_a_public_organism_is_of_the_family_that_its_kind_is() -> None:
    """All of the hub would else be one cluster, and ten organisms of four families would count as one."""
    named = (
        "hub/taboo-gold-gemma2-9b",
        "hub/fact-cake-bake-gemma3-1b-mix1",
        "hub/em-bad-medical-qwen25-7b",
        "taboo/gold-narrow-s1",
        "own",
    )
    assert [family(n) for n in named] == ["taboo", "false_facts", "emergent_misalignment", "taboo", "own"]
