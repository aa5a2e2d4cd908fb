"""The simulation knows its truth, the interval in use covers it, and the page says what the record says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.protocol.bootstrap import effective, shares, template_interval, template_weights
from diffbench.harness.protocol.intervals import weights

from benchmarks.coverage import __main__ as command
from benchmarks.coverage import cells, tables
from benchmarks.coverage.world import SIDES, Layout, Truth, effects, organism, scores

RECORD = Path(__file__).parent.parent / "docs" / "coverage.json"


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth()


def test_an_edit_that_goes_all_the_way_has_all_of_the_effect_and_overshoot_loses() -> None:
    """Rates .2 and .5: to .35 half, to .5 all, to .8 none, beyond 1 no further; the wrong way stops at 0."""
    gap, room = np.array(0.3), np.array(0.5)
    moved = np.array([0.0, 0.5, 1.0, 2.0, 9.0, -9.0])
    assert effects(gap, room, moved) / gap == pytest.approx([0, 0.5, 1, 0, (0.3 - 0.5) / 0.3, -2 / 3])


@pytest.mark.parametrize("icc", [0.0, 0.9])
def test_the_truth_is_what_many_templates_come_to(truth: Truth, icc: float) -> None:
    layout, rng = Layout(20_000, (1, 3), icc, controls=1), np.random.default_rng(0)
    o, n = organism(rng, 1, layout), len(layout.template)
    shares = dict(zip(SIDES, (0.45, 0.7), strict=True))
    effect = {s: effects(o.gap, o.room[s], m + cells.METHOD_SPREAD * layout.scatter(rng, 1)) for s, m in shares.items()}
    found = scores(o, effect, np.full((1, n), 1 / n), np.ones((1, 1)))
    assert found["R"].item() == pytest.approx(truth.of(*shares.values())["R"], abs=0.01)
    null = [organism(rng, 1, Layout(60, (1, 3), icc, 400)).null_controls[s].mean() for s in SIDES]
    span = (truth.of(1.0, 1.0)["R"] - np.mean(null)) / truth.of(1.0, 1.0)["S"]  # oracle − null
    assert null == pytest.approx([0.043, 0.043], abs=0.02) and span == pytest.approx(0.886 - 0.043, abs=0.02)


def test_prompts_that_belong_together_are_not_taken_for_independent(truth: Truth) -> None:
    """12 templates of 6 prompts with ICC .9: the ordinary bootstrap contains the truth half of the time, ours nearly always."""
    layout, rng, draws = Layout(12, (6, 6), 0.9), np.random.default_rng(0), 1000
    template = layout.template.tolist()
    controls = weights(16, draws, rng)
    drawn = {"templates": template_weights(template, draws, rng), "prompts": weights(len(template), draws, rng)}
    o = organism(rng, 200, layout)
    effect = {s: effects(o.gap, o.room[s], 0.5 + cells.METHOD_SPREAD * layout.scatter(rng, 200)) for s in SIDES}
    once = [np.full((1, n), 1 / n) for n in (len(template), 16)]
    points = scores(o, effect, *once)["S"][:, 0].tolist()
    goal, inside = truth.of(0.5, 0.5)["S"], {}
    for name, w in drawn.items():
        values = scores(o, effect, w, controls)["S"]
        ends = [
            template_interval(*of, template, g) or (0, 0) for *of, g in zip(values, points, o.gap.tolist(), strict=True)
        ]
        inside[name] = np.mean([low <= goal <= high for low, high in ends])
    assert inside["templates"] > 0.9 and inside["prompts"] < 0.75


def test_the_simulation_draws_what_the_protocol_draws() -> None:
    """Its vectorised copy of the interval and of the effective number are the protocol's."""
    rng, template = np.random.default_rng(0), Layout(9, (1, 4), 0.5).template
    gap, values = rng.random((3, len(template))), rng.random((3, 500))
    worth = cells.effective_numbers(template, gap)
    assert worth == pytest.approx([effective(template.tolist(), g) for g in gap.tolist()])
    ordered, points = np.sort(values, axis=1), np.array([0.4, 0.5, 0.6])
    low, high = cells.at_shares(ordered, *shares(ordered, points, worth))
    each = zip(values, points.tolist(), gap.tolist(), strict=True)
    theirs = [template_interval(v, p, template.tolist(), g) for v, p, g in each]
    assert np.stack([low, high], 1) == pytest.approx(np.array(theirs))


def rows(**coverage: list[float]) -> list[command.Row]:
    return [{"interval": n, "coverage": c, "width": len(n)} for n, of in coverage.items() for c in of]


def test_the_choice_follows_the_rule() -> None:
    """The first that meets the goal; else the nearest, and of two within half a point the narrower."""
    assert command.chosen(rows(a=[0.9, 0.95], b=[0.93, 0.97], c=[0.95]), "abc") == "b"
    assert command.chosen(rows(a=[0.90], b=[0.912], c=[0.86]), "abc") == "b"
    assert command.chosen(rows(wide=[0.912], few=[0.908]), ("wide", "few")) == "few"


def test_everything_is_counted_once(truth: Truth) -> None:
    found = list(cells.measured(Layout(5, (1, 2), 0.5, 4), truth, 20, 0))
    assert len(found) == len(cells.METHODS) * len(cells.CANDIDATES) * 4
    assert all(r["coverage"] + r["too_low"] <= 1 + 1e-3 for r in found)
    table = list(tables.measured(tables.Grid(7, (1, 2), 2, Layout(5, (1, 2), 0.5, 4)), truth, 10, 0))
    assert len(table) == 2 * (len(tables.CANDIDATES) + 1) + 1
    record = {"cells": found, "tables": table, "seed": 0}
    assert command.unpacked(json.loads(json.dumps(command.packed(record)))) == record


def test_the_page_shows_the_record_and_the_interval_in_use_is_the_chosen_one() -> None:
    record, page = command.unpacked(json.loads(RECORD.read_text())), RECORD.with_suffix(".md").read_text()
    assert command.markdown(record) in page and record["repetitions"] >= 2000
    deciding = [r for r in record["cells"] if r["templates"] >= command.ENOUGH and command.decides(r)]
    assert command.chosen(deciding, cells.CANDIDATES) == "bias-corrected expanded percentile, templates by weight"
