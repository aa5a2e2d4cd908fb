"""A sweep of layers: a cell a layer, the anchors with them, one table, one figure; what a layer carries shows where nothing can score."""

import json
from pathlib import Path
from typing import Any

import diffbench as db
import pytest
from diffbench.harness.commands.cells import save_layers
from diffbench.harness.commands.settings import RunFile, names_of_methods, run_file
from diffbench.harness.records.making import Failure
from diffbench.harness.records.result import SCORES, Result, Score
from diffbench.harness.runs.records import Record
from diffbench.harness.runs.run import exit_code
from diffbench.harness.views import layers
from diffbench.harness.views.progress import finished_before
from diffbench.harness.views.results import listing_data
from diffbench.organisms.errors import UsageError
from matplotlib.figure import Figure

from .factories import make_result
from .test_cli import bench, short  # noqa: F401


def at(layer: int, method: str, oracle: float = 0.9, **scores: float) -> Result:
    """A cell at a layer; one whose oracle is below .4 has no scores."""
    made = make_result(method=method, layer=layer)
    if oracle < 0.4:
        failure = Failure(type="NotScorable", message="weak", oracle={"sufficiency": oracle, "necessity": 0.9})
        return made.model_copy(update={"scores": None, "status": "not_applicable", "failure": failure})
    assert made.scores
    changed = dict[str, Score]()
    for name in SCORES:
        score: Score = getattr(made.scores, name)
        anchors = score.anchors.model_copy(update={"oracle": oracle})
        changed[name] = score.model_copy(update={"value": scores.get(name, 0.5), "anchors": anchors})
    return made.model_copy(update={"scores": made.scores.model_copy(update=changed)})


SWEEP = [
    at(layer, method, oracle, sufficiency=value)
    for layer, oracle in ((2, 0.1), (5, 0.6), (8, 0.9))
    for method, value in (("mean_diff", 0.3), ("supervised", 0.8), ("oracle", 1.0))
]


@pytest.mark.parametrize(
    ("given", "layers_"), [("4,8, 12", [4, 8, 12]), (7, [7]), ([3, 3, 1], [3, 1]), ("5", [5])], ids=str
)
def test_layers_are_given_as_seeds_are(given: Any, layers_: list[int]) -> None:
    assert run_file({"layer": given}).layer == layers_


def test_a_layer_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match=r"option layer: .*valid integer.*'last'"):
        run_file({"layer": "4,last"})


def test_a_sweep_has_the_anchors_and_one_layer_has_not() -> None:
    assert names_of_methods(RunFile(method=["mean_diff"], layer=[1])) == ["mean_diff"]
    assert names_of_methods(RunFile(method=["oracle,mean_diff"], layer=[1, 2])) == ["oracle", "mean_diff", "supervised"]


def test_the_oracle_is_the_share_that_a_layer_carries_and_others_are_scores() -> None:
    found = layers.points(SWEEP, "sufficiency")
    assert list(found) == ["oracle", "supervised", "mean_diff"]
    assert {k: p.value for k, p in found["oracle"].items()} == {2: 0.1, 5: 0.6, 8: 0.9}
    assert {k: p.value for k, p in found["supervised"].items()} == {2: None, 5: 0.8, 8: 0.8}
    both = layers.points(SWEEP, "isolation")["oracle"]
    assert both[2].value == pytest.approx(2 * 0.1 * 0.9 / 1.0)


def test_seeds_of_a_method_are_one_point() -> None:
    some = [*SWEEP, at(5, "supervised", sufficiency=0.6)]
    assert layers.points(some, "sufficiency")["supervised"][5].value == pytest.approx(0.7)


def test_a_seed_that_did_not_score_leaves_no_mean_of_the_others() -> None:
    some = [*SWEEP, at(5, "supervised", 0.1)]
    assert layers.points(some, "sufficiency")["supervised"][5].value is None


def test_two_pairs_of_one_name_are_two_organisms(tmp_path: Path) -> None:
    two = [make_result(layer=n, organism_sha256=c * 64) for n, c in ((2, "a"), (5, "b"))]
    assert layers.swept(two) == []
    swept = [make_result(layer=n, organism_sha256=c * 64) for n in (2, 5) for c in "ab"]
    assert [[r.identity.organism_sha256[0] for r in of] for _, of in layers.by_organism(swept)] == [
        ["a"] * 2,
        ["b"] * 2,
    ]
    shown = list(layers.table(swept).columns[0].cells)
    assert [name.split()[-1] for name in shown] == ["(aaaaaaaa)"] * 2 + ["(bbbbbbbb)"] * 2
    files = {path for _, of in layers.by_organism(swept) for path in layers.save(of, tmp_path)}
    assert files == set(tmp_path.iterdir()) and len(files) == 4


def test_a_row_says_its_layer_where_an_organism_has_several(capsys: pytest.CaptureFixture[str]) -> None:
    finished_before(SWEEP[:1])
    assert "layer" not in capsys.readouterr().err
    finished_before([SWEEP[0], SWEEP[3]])
    assert ["layer 2" in line or "layer 5" in line for line in capsys.readouterr().err.splitlines()] == [True, True]
    assert list(db.table(SWEEP)["layer"]) == [r.identity.layer for r in SWEEP]
    assert [line["layer"] for line in listing_data([Record(Path("r"), r, ()) for r in SWEEP])] == [2] * 3 + [5] * 3 + [
        8
    ] * 3


def test_a_recalled_sweep_draws_its_figure(tmp_path: Path) -> None:
    save_layers(SWEEP, tmp_path)
    drawn = sorted(tmp_path.rglob("by_layer-*"))
    assert [p.suffix for p in drawn] == [".png", ".svg"]
    save_layers([*SWEEP, at(5, "random")], tmp_path)
    assert len(list(tmp_path.rglob("by_layer-*"))) == 4


def test_one_layer_is_no_sweep() -> None:
    assert layers.swept(SWEEP) == [SWEEP[0].identity.pair]
    assert not layers.swept([r for r in SWEEP if r.identity.layer == 5])


def test_the_figure_has_a_panel_a_measure_and_a_line_a_method() -> None:
    figure = Figure()
    layers.draw(SWEEP, figure)
    assert [axes.get_title() for axes in figure.axes] == list(layers.MEASURES)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert list(drawn["oracle: share of the gap"]) == [0.1, 0.6, 0.9] and list(drawn["supervised"]) == [0.8, 0.8]


@pytest.mark.slow
def test_a_sweep_runs_a_cell_a_layer_and_writes_the_figure(tmp_path: Path) -> None:
    said = bench("run", "-m", "random", "-o", "taboo", "--layer", "1,3")
    assert "taboo/gold-narrow" in said and "share of the gap that the layer carries" in said
    assert {p.suffix for p in (tmp_path / "runs" / "taboo" / "gold-narrow").glob("by_layer-*")} == {".png", ".svg"}
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("result.json")]
    cells = {(r["identity"]["layer"], r["identity"]["method"]) for r in records}
    assert cells == {(layer, m) for layer in (1, 3) for m in ("random", "oracle", "supervised")}
    assert "finished before" in bench("run", "-m", "random", "-o", "taboo", "--layer", "1,3")


def test_a_layer_of_a_sweep_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    assert "taboo/gold-narrow has blocks 0 to 4" in bench(
        "run", "-m", "random", "-o", "taboo", "--layer", "1,5", code=2
    )
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize(
    ("statuses", "own", "code"),
    [
        ({2: "not_applicable", 5: "ok"}, True, 0),
        ({2: "not_applicable", 5: "not_applicable"}, True, 4),
        ({2: "not_applicable"}, False, 0),
        ({2: "failed", 5: "ok"}, True, 1),
    ],
)
def test_a_layer_that_carries_too_little_is_a_result_if_another_scores(
    statuses: dict[int, Any], own: bool, code: int
) -> None:
    found = list[Result]()
    for layer, status in statuses.items():
        made = make_result(layer=layer, status=status)
        source = {"base": "b"} if own else {"organism": "taboo/gold-narrow"}
        found.append(made.model_copy(update={"provenance": made.provenance.model_copy(update={"source": source})}))
    assert exit_code(found) == code


def test_a_pair_that_no_layer_scores_is_not_saved_by_another_of_its_name() -> None:
    found = list[Result]()
    for mark, status in (("a", "ok"), ("b", "not_applicable")):
        made = make_result(status=status, organism_sha256=mark * 64)  # pyright: ignore[reportArgumentType]
        found.append(
            made.model_copy(update={"provenance": made.provenance.model_copy(update={"source": {"base": "b"}})})
        )
    assert exit_code(found) == 4
