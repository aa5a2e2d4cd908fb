"""The participation ratio is what was planted, and organisms that tell nothing apart are counted where they are."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

import typer
from diffbench.organisms.errors import PrerequisiteError
from typer.testing import CliRunner

from benchmarks import diversity
from benchmarks.diversity import markdown, participation_ratio, scores_of

from .factories import make_null, make_result, write_result

RNG = np.random.default_rng(0)


def orthogonal(methods: int, n: int) -> np.ndarray:
    """[methods, n] columns of mean 0 and length 1, at right angles."""
    drawn = RNG.normal(size=(methods, n))
    return np.linalg.qr(drawn - drawn.mean(0))[0]


@pytest.mark.parametrize("n", [1, 2, 6, 16])
def test_n_independent_organisms_of_one_spread_have_a_ratio_of_n(n: int) -> None:
    planted = 0.5 + 0.1 * orthogonal(17, n) + RNG.uniform(size=n)
    assert participation_ratio(planted) == pytest.approx(n)
    assert participation_ratio(np.repeat(planted, 3, 1)) == pytest.approx(n), "copies are no new organisms"


def test_one_ranking_in_other_units_is_one_organism() -> None:
    ranking = RNG.uniform(size=(12, 1))
    assert participation_ratio(0.1 + ranking * np.array([[0.2, -0.5, 0.9]])) == pytest.approx(1)


def test_a_quiet_organism_counts_little_unless_all_spreads_are_made_equal() -> None:
    values = orthogonal(9, 2) * np.array([1.0, 0.1])
    assert participation_ratio(values) == pytest.approx((1 + 0.01) ** 2 / (1 + 0.0001))
    assert participation_ratio(values, equal=True) == pytest.approx(2)
    flat = np.hstack([values, np.full((9, 3), 0.4)])
    assert participation_ratio(flat, equal=True) == pytest.approx(2), "one that spreads nobody is not counted"
    assert np.isnan(participation_ratio(np.ones((5, 4)))) and np.isnan(participation_ratio(np.ones((5, 4)), True))


@pytest.mark.parametrize("shape", [(5, 12), (12, 5)])
def test_it_is_the_eigenvalues_of_the_covariance_and_of_the_correlations(shape: tuple[int, int]) -> None:
    values = RNG.uniform(size=shape)
    for matrix, equal in ((np.cov(values, rowvar=False), False), (np.corrcoef(values, rowvar=False), True)):
        eigen = np.linalg.eigvalsh(matrix)
        assert participation_ratio(values, equal) == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum())


def test_organisms_that_tell_nothing_apart_are_counted_by_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four contestants: on a/easy all are nearly perfect, on b/hard nobody is anything; anchors, nulls and half-run methods have no say."""
    names = ["a/easy", "a/good", "b/hard", "null/benign"]
    quality = {"a/easy": (1.0, 1.0, 1.0, 1.0), "a/good": (0.9, 0.1, 0.6, 0.3), "b/hard": (0.0, 0.0, 0.0, 0.0)}
    for organism, each in quality.items():
        for method, q in zip(("one", "two", "three", "four"), each, strict=True):
            write_result(tmp_path, make_result(method, organism, quality=q))
        write_result(tmp_path, make_result("oracle", organism, access="anchor", quality=1.0))
        write_result(tmp_path, make_result("labels", organism, access="supervised", quality=1.0))
    for method in ("one", "two", "three", "labels"):
        write_result(tmp_path, make_null(method, "null/benign", [0.5]))
    write_result(tmp_path, make_result("four", "null/benign", status="failed"))  # which does not say that it is a null
    write_result(tmp_path, make_result("half", "b/hard", quality=1.0))
    found = scores_of(diversity.usable(tmp_path), names)
    assert found.methods == ["four", "one", "three", "two"] and found.organisms == ["a/easy", "a/good", "b/hard"]
    assert found.unreached == ["b/hard"]
    monkeypatch.setattr(diversity, "SATURATED", 0.8)
    assert found.saturated == ["a/easy"]
    lines = markdown(found).splitlines()
    assert any(line.startswith("| a | 2 | 0 | 1 |") for line in lines)
    assert any(line.startswith("| **all** | 3 | 1 | 1 |") for line in lines)
    assert lines[-1] == "4 methods. 2 of 3 organisms tell nothing apart: a/easy, b/hard."
    with pytest.raises(PrerequisiteError, match="0 methods have a seed on all of the 5 organisms"):
        scores_of(diversity.usable(tmp_path), [*names, "c/none"])


def test_the_command_reads_a_set_and_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "members", lambda name: ["a/x", "b/y"])
    for organism, shift in (("a/x", 0.0), ("b/y", 0.3)):
        for i, method in enumerate(("one", "two", "three")):
            write_result(tmp_path, make_result(method, organism, quality=abs(shift - 0.3 * i)))
    app = typer.Typer()
    app.command()(diversity.main)
    shown = CliRunner().invoke(app, [str(tmp_path)])
    assert shown.exit_code == 0 and "| **all** | 2 |" in shown.output
    monkeypatch.undo()
    assert CliRunner().invoke(app, [str(tmp_path), "--set", "core-v9"]).exit_code == 2
    assert CliRunner().invoke(app, [str(tmp_path), "--set", "small-v2"]).exit_code == 2, "it names nobody yet"


def test_public_organisms_are_counted_by_what_they_hide() -> None:
    names = ["hub/taboo-moon-gemma2-9b", "hub/fact-cake-bake-qwen25-7b", "taboo/gold-narrow"]
    rows = markdown(diversity.Scores(["a", "b", "c"], names, RNG.uniform(size=(3, 3)))).splitlines()
    assert [row.split("|")[1:3] for row in rows if row.startswith(("| taboo", "| false_facts"))] == [
        [" taboo ", " 2 "],
        [" false_facts ", " 1 "],
    ]
