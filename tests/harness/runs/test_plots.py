"""A drawing names all that is in it, and its parts keep out of each other's way."""

from itertools import combinations
from pathlib import Path

import pytest
from diffbench.harness.records.result import Choice, Curve
from diffbench.harness.runs.folder import write_run
from diffbench.harness.runs.plots import SIZE, dose_response, save
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...factories import make_result


def drawn(curves: list[Curve], choices: list[Choice]) -> Figure:
    figure = Figure(figsize=SIZE)
    FigureCanvasAgg(figure)
    dose_response(make_result().model_copy(update={"curves": curves, "choices": choices}), figure)
    figure.canvas.draw()
    return figure


def curve(op: str, k: int, gated: bool) -> Curve:
    fields = {"strengths": [1, 2], "rate": [0.1, 0.5], "gain": [0.1, 0.9], "kl_nats": [0.01, 0.2]}
    return Curve.model_validate({"op": op, "k": k, "gated": gated, **fields})


def choice(side: str, gated: bool) -> Choice:
    gains = {"dev_gain": 0.5, "test_gain": 0.5, "test_rate": 0.5, "dev_kl_nats": 0.1, "test_kl_nats": 0.1}
    fields = {"side": side, "op": "add", "k": 1, "strength": 1, "tau_nats": 0.3, "test_kl_high": 0.1, **gains}
    return Choice.model_validate({"column": "gated" if gated else "constant", "gated": gated, **fields})


@pytest.mark.parametrize("side", ["sufficiency", "necessity"])
def test_what_only_one_side_has_is_named(side: str) -> None:
    op = "add" if side == "sufficiency" else "ablate"
    figure = drawn([curve(op, 3, False)], [choice(side, True)])
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(named) == sorted(
        ["chosen for a budget, gated", f"{'ablate' if op == 'ablate' else 'add or subtract'}, k=3"]
    )


@pytest.mark.parametrize("ks", [(1,), (1, 3, 10)])
def test_nothing_lies_over_another_part_or_outside(ks: tuple[int, ...]) -> None:
    curves = [curve(op, k, gated) for op in ("add", "subtract", "ablate") for k in ks for gated in (False, True)]
    choices = [choice(side, gated) for side in ("sufficiency", "necessity") for gated in (False, True)]
    figure = drawn(curves, choices)
    parts = [*(axes.get_tightbbox() for axes in figure.axes), figure.legends[0].get_window_extent()]
    assert all(not a.overlaps(b) for a, b in combinations(parts, 2))
    width, height = figure.bbox.size
    assert all(p.x0 >= 0 and p.y0 >= 0 and p.x1 <= width and p.y1 <= height for p in parts)


@pytest.mark.drawn
def test_a_run_folder_has_the_drawing_of_its_own_record(tmp_path: Path) -> None:
    result = make_result(quality=0.7)
    write_run(tmp_path / "run", result, None, "log")
    save(result, tmp_path)
    assert (tmp_path / "run" / "dose_response.svg").read_bytes() == (tmp_path / "dose_response.svg").read_bytes()


@pytest.mark.drawn
def test_a_result_gives_the_same_files_each_time_and_another_one_others(tmp_path: Path) -> None:
    results = [make_result(quality=q) for q in (0.5, 0.5, 0.9)]
    for folder, result in zip("abc", results, strict=True):
        (tmp_path / folder).mkdir()
        save(result, tmp_path / folder)
    for suffix in ("png", "svg"):
        a, b, c = ((tmp_path / folder / f"dose_response.{suffix}").read_bytes() for folder in "abc")
        assert a == b != c
