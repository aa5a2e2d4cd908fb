"""Methods of files and of installed packages: described, configured and refused without a line of theirs being run here."""

import sys
from pathlib import Path

import pytest
import torch
from diffbench.harness.worker import foreign
from diffbench.harness.worker.foreign import load
from diffbench.harness.worker.host import run_method
from diffbench.harness.worker.limits import TimedOut
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError

from ...methods.fakes import FakeProblem

SOURCE = '''
import sys
from pydantic import BaseModel, ConfigDict, Field
from diffbench.methods.contract import DiffResult, Finding
import torch
sys.modules["imported_here"] = sys

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    scale: float = Field(default=2.0, gt=0)
    """How long."""

class Mine:
    """Points one way."""
    name = "mine"
    access = "+weights"
    paper = "a paper"
    stochastic = False
    Config = Options

    def __init__(self, config):
        self.config = config

    def diff(self, problem):
        return DiffResult([Finding(self.config.scale * torch.ones(problem.d_model))])
'''


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "bench_method_mine", raising=False)
    Path("mine.py").write_text(SOURCE)
    return Path("mine.py")


def test_a_file_is_described_as_when_it_is_imported_and_is_not(written: Path) -> None:
    there = load("mine.py")
    assert "imported_here" not in sys.modules and "bench_method_mine" not in sys.modules
    here = load_method("mine.py")
    sys.modules.pop("imported_here")
    assert there.facts() == here.facts() and there.version == here.version
    assert there.config_class.model_json_schema() == here.config_class.model_json_schema()
    assert there.configure({}).model_dump() == here.configure({}).model_dump() == {"scale": 2.0}
    assert there.configure({"scale": "3"}).model_dump() == {"scale": 3.0}
    assert there.file == (written.parent / "mine.py").resolve()


@pytest.mark.parametrize("options", [{"scale": -1}, {"scael": 1}, {"scale": "long"}])
def test_a_wrong_option_is_refused_in_the_same_words(written: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as here:
        load_method("mine.py").configure(options)
    sys.modules.pop("imported_here")
    with pytest.raises(UsageError) as there:
        load("mine.py").configure(options)
    assert str(there.value) == str(here.value)


def test_options_reach_the_method(written: Path) -> None:
    entry = load("mine.py")
    found = run_method(entry, entry.configure({"scale": 5}), FakeProblem({"chat": torch.ones(3, 2, 4)}))
    assert found.findings[0].direction.tolist() == [5.0] * 4


BAD = {
    "import a_package_that_is_not_installed": "mine.py does not import: ModuleNotFoundError",
    "def f(: pass": "mine.py does not import: SyntaxError",
    "x = 1": "mine.py defines 0 classes with a `diff` method",
    SOURCE + "\nMine.access = 'anchor'": "declare one of activations",
    SOURCE + "\nMine.name = 'pca'": "calls its method 'pca', which is a built-in",
    SOURCE + "\nMine.name = '../../etc'": "names a folder",
    SOURCE + "\nMine.paper = 'x' * 10**6": "paper: String should have at most",
    "import os\nos._exit(7)": "ended its process with exit status 7",
}


@pytest.mark.parametrize("source", BAD, ids=range(len(BAD)))
def test_what_is_no_method_is_refused_by_the_path_that_was_given(written: Path, source: str) -> None:
    written.write_text(source)
    with pytest.raises(DiffbenchError) as refused:
        load("mine.py")
    assert BAD[source] in str(refused.value) and str(Path.cwd()) not in str(refused.value)


def test_a_file_that_hangs_when_it_is_imported_is_given_up(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "SECONDS", -39.5)  # half a second with the grace
    written.write_text("while True: pass")
    with pytest.raises(TimedOut, match="computed for"):
        load("mine.py")


def test_a_package_is_found_by_its_entry_point_and_not_imported_here(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "theirs-1.2.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "theirs_method.py").write_text(SOURCE)
    info = tmp_path / "site" / "theirs-1.2.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[diffbench.methods]\nmine = theirs_method:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    entry = load("mine")
    assert "theirs_method" not in sys.modules
    assert entry.origin == "package theirs 1.2" and entry.version.startswith("theirs-1.2+")
    fake = FakeProblem({"chat": torch.ones(3, 2, 4)})
    assert run_method(entry, entry.configure({}), fake).findings
    (tmp_path / "site" / "theirs_method.py").write_text(SOURCE + "\n# another\n")
    with pytest.raises(PrerequisiteError, match="start the run again"):
        run_method(entry, entry.configure({}), fake)
