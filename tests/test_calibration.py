"""The calibration study: the truth it compares with is exact, its shortcut changes nothing, its page says what was measured."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffbench.harness.protocol.effects import Scorer
from diffbench.methods.contract import Finding

from benchmarks import calibration
from benchmarks.calibration_page import Point, Record, markdown

TINY = calibration.QUICK.protocol.model_copy(update={"controls": 3, "ks": (1,)})


@pytest.fixture(scope="module")
def known() -> calibration.Known:
    return calibration.Known("planted/owl-strong", TINY)


def test_the_causal_share_of_the_truth_is_one_and_at_right_angles_zero(known: calibration.Known) -> None:
    share = [known.causal_share(known.at(c, 0)[None]) for c in (1.0, 0.6, 0.0)]
    assert share[0] == pytest.approx(1, abs=1e-4) and share[2] == pytest.approx(0, abs=1e-4) and 0.05 < share[1] < 0.6
    assert float(known.at(0.6, 0) @ known.truth) == pytest.approx(0.6, abs=1e-5)
    several = torch.stack([known.at(0.0, 1), known.truth, known.at(0.0, 2)])
    assert known.causal_share(several) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_remembered_controls_are_those_that_would_be_measured(known: calibration.Known) -> None:
    fast = known.scorer(TINY)
    slow = Scorer(known.stage.pair, known.stage.organism.behaviour, known.stage.texts, TINY)
    for cosine, gate in ((1.0, "right"), (0.6, "right"), (0.6, "wrong"), (0.6, "absent")):
        finding = slow.directions([Finding(known.at(cosine, 0), known.gates[gate])])
        ours, theirs = fast.score(finding), slow.score(finding)
        assert [(c.op, c.gated, c.k, c.strength) for c in ours.choices] == [
            (c.op, c.gated, c.k, c.strength) for c in theirs.choices
        ]
        # remembered options leave smaller batches, whose sums some processors round otherwise
        mine, others = (s.samples.gated or s.samples.constant for s in (ours, theirs))
        for side in ("sufficiency", "necessity"):
            for name in ("effect", "null", "null_controls"):
                one, other = (getattr(getattr(column, side), name) for column in (mine, others))
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_page_holds_means_of_what_was_measured(tmp_path: Path) -> None:
    def point(study: str, x: float, series: str, seed: int, isolation: float | None) -> Point:
        return Point(
            organism="planted/a",
            study=study,  # type: ignore[arg-type]
            x=x,
            series=series,
            seed=seed,
            causal_share=x,
            isolation=isolation,
            low=None,
            high=None,
            sufficiency=isolation,
            necessity=isolation,
        )

    points = [
        *(
            point("angle", 0.5, gate, seed, 0.2 + 0.2 * seed)
            for gate in ("absent", "right", "wrong")
            for seed in (0, 1)
        ),
        *(point("noise", 2.0, series, 0, 0.7) for series in ("one finding", "10 findings")),
        point("rank", 3, "k = 1", 0, None),
        point("dose", 4, "added to the base", 0, -0.2).model_copy(update={"isolation": None, "necessity": None}),
    ]
    (tmp_path / "calibration.md").write_text("before\n<!-- measured: begin -->\n<!-- measured: end -->\nafter\n")
    calibration.write(points, TINY, tmp_path)
    page = (tmp_path / "calibration.md").read_text()
    assert page.startswith("before") and page.endswith("after\n")
    assert re.search(r"\| 0\.5 \| 0\.50 \[0\.50, 0\.50\] \| 0\.30 \[0\.20, 0\.40\] \|", page)
    assert "| 3 | 0.00 |" in page, "a score without a scale counts as nothing found"
    assert "| dose | share of the gap closed, added to the base |" in page and "| 4 | -0.20 |" in page
    assert markdown(Record.model_validate_json((tmp_path / "calibration.json").read_text())) in page
    drawn = {p.name for p in (tmp_path / "figures").iterdir()}
    assert drawn == {f"calibration{s}.png" for s in ("", "-angle", "-noise-rank", "-dose")}
    assert set(re.findall(r"\]\(figures/(.*?)\)", page)) == drawn
