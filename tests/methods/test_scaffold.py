"""The package that `bench methods new` writes works as it stands: its method, its test, its entry point and its card."""

import importlib
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffbench.harness.studies.check_method import check_method
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import BUILTIN, load_method
from diffbench.methods.scaffold import FILES, write_package
from diffbench.organisms.errors import UsageError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .fakes import FakeProblem, planted


@pytest.fixture
def written(tmp_path: Path) -> MethodEntry:
    path = write_package("my_mean2", tmp_path)
    assert path == tmp_path / "my_mean2" / "my_mean2.py"
    assert {p.name for p in path.parent.iterdir()} == {name.format(name="my_mean2") for name in FILES}
    return load_method(str(path))


def test_it_is_named_after_its_file(written: MethodEntry) -> None:
    assert (written.name, written.cls.__name__, written.access) == ("my_mean2", "MyMean2", "activations")
    assert (written.paper, written.cost) == ("", "harvest")


def test_it_finds_a_planted_change_in_chat(written: MethodEntry) -> None:
    truth = planted(exclusive_rate=0.3, tokens=4000)
    shift = truth.residuals_T2d.diff(dim=1)[:, 0].mean(0)
    problem = FakeProblem({"chat": truth.residuals_T2d, "neutral": torch.zeros_like(truth.residuals_T2d)})
    (finding,) = written.run(written.configure({"skip": 0}), problem).findings
    torch.testing.assert_close(finding.direction, shift, rtol=1e-4, atol=1e-5)
    assert torch.cosine_similarity(finding.direction, shift, dim=0) > 0.999
    few = written.run(written.configure({"tokens": 100, "skip": 0}), problem)
    assert few.diagnostics == {"tokens": 100}


def test_first_positions_are_left_out(written: MethodEntry) -> None:
    residuals = torch.zeros(50, 2, 8)
    residuals[:, 1, 0], residuals[:3, 1, 1] = 1.0, 100.0
    problem = FakeProblem({"chat": residuals})
    (finding,) = written.run(written.configure({"skip": 3}), problem).findings
    assert finding.direction.tolist() == [1.0, *[0.0] * 7]


def test_it_passes_the_check(written: MethodEntry) -> None:
    report = check_method(written)
    assert report.ok, report.checks


@pytest.fixture
def importable(written: MethodEntry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(written.origin.removeprefix("file ")).parent
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in ("my_mean2", "test_my_mean2"):
        sys.modules.pop(name, None)


def test_its_test_passes_and_fails_when_the_method_is_broken(importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = importlib.import_module("test_my_mean2")
    test.test_it_finds_a_planted_change()
    test.test_it_finds_nothing_where_nothing_changed()
    monkeypatch.setattr(test.Planted, "activations", lambda self, text, **_: iter(()))
    with pytest.raises(AssertionError):
        test.test_it_finds_a_planted_change()


def test_its_entry_point_is_its_class(importable: Path) -> None:
    project = tomllib.loads((importable / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-mean2" and project["tool"]["setuptools"]["py-modules"] == ["my_mean2"]
    ((name, where),) = project["project"]["entry-points"]["diffbench.methods"].items()
    point = importlib.metadata.EntryPoint(name, where, "diffbench.methods")
    assert (name, point.load().name) == ("my_mean2", "my_mean2")


def test_installed_it_is_called_by_its_name(importable: Path) -> None:
    """Its distribution, as an installer writes it."""
    project = tomllib.loads((importable / "pyproject.toml").read_text())["project"]
    info = importable / "my_mean2-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    importlib.invalidate_caches()
    entry = load_method("my_mean2")
    assert (entry.name, entry.origin) == ("my_mean2", "package my-mean2 0.1.0")


def test_an_existing_folder_a_built_in_name_and_a_module_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        write_package("mine", tmp_path)
    assert not list((tmp_path / "mine").iterdir())
    for name in BUILTIN:
        with pytest.raises(UsageError, match="is a built-in method"):
            write_package(name, tmp_path)
    for name, why in (("json", "there is a module 'json' already"), ("class", "a word of Python's own")):
        with pytest.raises(UsageError, match=why):
            write_package(name, tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.sampled_from(["", "Mean", "2mean", "_mean", "a-b", "a/b", "../x", "mean\n", "möd"]), st.text()))
def test_a_name_that_is_no_module_is_refused(tmp_path: Path, name: str) -> None:
    if name.isidentifier() and name.isascii() and name == name.lower() and name[0] != "_":
        return
    with pytest.raises(UsageError, match="is not a method name"):
        write_package(name, tmp_path)
    assert not list(tmp_path.iterdir())
