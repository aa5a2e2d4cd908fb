"""One order of methods on two sets is 1, its reverse −1, none has an interval around 0; and the numbers are those of the tables."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

import typer
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.organisms.errors import PrerequisiteError
from typer.testing import CliRunner

from benchmarks import tiers
from benchmarks.tiers import Tier, compare, markdown

from .factories import make_result, write_result

RNG = np.random.default_rng(0)
NAMES = [f"m{i}" for i in range(12)]


def tier(name: str, scores: np.ndarray, noise: float, families: int = 8) -> Tier:
    drawn = np.random.default_rng(len(name)).normal(scale=noise, size=(len(scores), families))
    return Tier(name, NAMES[: len(scores)], [f"f{i}" for i in range(families)], scores[:, None] + drawn)


def test_an_order_that_holds_and_one_that_is_turned_round() -> None:
    scores = np.linspace(0, 1, 12)
    same, turned = (compare(tier("a", scores, 0.1), tier("bb", s, 0.1), 500) for s in (scores, scores[::-1]))
    assert same.rho > 0.9 and 0.7 < same.low <= same.rho and same.p < 0.001 and min(same.halves) > 0.8
    assert turned.rho < -0.9 and turned.high < -0.7


def test_without_any_relation_the_interval_holds_0() -> None:
    scores = np.zeros(12)
    none = compare(tier("a", scores, 0.3), tier("bb", scores, 0.3), 500)
    assert none.low < 0 < none.high and none.p > 0.05 and max(none.halves) < 0.4


def test_methods_are_matched_by_name_and_their_places_are_said() -> None:
    a = Tier("a", ["x", "y", "z", "w", "only"], ["f"], np.array([[0.1], [0.4], [0.3], [0.2], [0.9]]))
    b = Tier("b", ["w", "z", "y", "x"], ["g"], np.array([[0.2], [0.35], [0.3], [0.0]]))
    found = compare(a, b, 50)
    assert found.rho == pytest.approx(0.8) and np.isnan(found.halves).all()
    lines = markdown(found).splitlines()
    assert "over 4 methods: **.80** [–, –]" in lines[0]
    assert lines[4:] == [
        "| `y` | .40 | 1 | .30 | 2 |",
        "| `z` | .30 | 2 | .35 | 1 |",
        "| `w` | .20 | 3 | .20 | 3 |",
        "| `x` | .10 | 4 | .00 | 4 |",
    ]


def test_too_little_for_an_order_is_refused() -> None:
    with pytest.raises(PrerequisiteError, match="a and b have 3 methods"):
        compare(Tier("a", NAMES[:3], ["f"], RNG.random((3, 1))), Tier("b", NAMES[:3], ["f"], RNG.random((3, 1))))
    with pytest.raises(PrerequisiteError, match="1 and 0 families count"):
        compare(Tier("a", NAMES, ["f"], RNG.random((12, 1))), Tier("b", NAMES, [], np.empty((12, 0))))


def test_from_records_a_family_is_the_mean_of_its_organisms_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"one": ["f/a", "f/b", "g/a"], "two": ["h/a"]}
    scores = {"delta": 0.8, "l1": 0.6, "pca": 0.4, "dsf": 0.2}
    for organisms in sets.values():
        for o in organisms:
            for method, q in scores.items():
                write_result(tmp_path / "runs", make_result(method, o, 0, q if o != "f/b" else q / 2))
    table = build_table([r for r in tiers.usable(tmp_path / "runs") if r.identity.organism in sets["one"]], sets["one"])
    at = {(r.method, r.organism): r.scores["isolation"].value or 0 for r in table.cells}
    own = Tier.of(table)
    assert own.families == ["f", "g"]
    row = own.values[own.methods.index("delta")]
    assert row == pytest.approx([(at["delta", "f/a"] + at["delta", "f/b"]) / 2, at["delta", "g/a"]])

    monkeypatch.setattr(tiers, "members", sets.__getitem__)
    app, page = typer.Typer(), tmp_path / "tiers.md"
    app.command()(tiers.main)
    page.write_text("# Page\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nend\n")
    done = CliRunner().invoke(app, ["one", "two", str(tmp_path / "runs"), "--page", str(page)])
    assert done.exit_code == 0 and "over 4 methods: **1.00** [–, –]" in page.read_text()
