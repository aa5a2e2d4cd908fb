"""What a method does to its own process, and what it looks for there, changes no score and finds nothing."""

import os
from pathlib import Path

import pytest
from diffbench.harness.protocol.effects import Protocol
from diffbench.harness.records.result import Result
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.stage import Stage
from diffbench.harness.worker.foreign import load
from diffbench.methods.contract import Budget
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method
from diffbench.organisms.organism import Organism

from .written import MEAN, method

LEAST = Protocol(controls=1, ks=(1,), strengths=(0.5,), draws=50, dev_tokens=100, test_tokens=100)

STEAL = """
problem._access = problem.access = "supervised"
type(self).access = "anchor"
try:
    batch, wanted = problem.labelled()
    return DiffResult([Finding((batch.residuals[:, 1] - batch.residuals[:, 0])[wanted >= 0].mean(0))])
except PermissionError:
    pass
"""
PATCH = """
import diffbench.harness.protocol.effects as effects, diffbench.harness.runs.cell, diffbench.harness.worker.host
for module in [m for name, m in sys.modules.items() if name.startswith("diffbench.")]:
    for name, thing in list(vars(module).items()):
        if callable(thing) and name in ("Scorer", "check_findings", "measured", "summarise"):
            setattr(module, name, lambda *a, **k: 1.0)
for name in [n for n, v in vars(effects).items() if callable(v) and not n.startswith("__")]:
    setattr(effects, name, lambda *a, **k: 1.0)
"""
WEIGHTS = """
with torch.no_grad():
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.is_floating_point():
            thing.mul_(.2)
    for batch in problem.activations("neutral", tokens=300):
        batch.residuals.mul_(.2)
    problem.lens(torch.ones(1, problem.d_model)).mul_(.2)
"""
HARNESS = """
problem.progress = problem.activations = None
problem.d_model, problem.layer, problem.seed = 3, 0, 9
del problem.activations, problem.progress
problem.d_model = 128
"""
SETTINGS = """
torch.set_default_dtype(torch.float64); torch.set_default_dtype(torch.float32)
torch.set_num_threads(7); torch.manual_seed(1); torch.set_grad_enabled(False)
os.environ["BENCH_CACHE"] = "/nowhere"
os.chdir("/")
"""
IMPORTED = "\nimport diffbench.harness.protocol.effects as effects\neffects.Scorer.score = effects.Scorer.null = None\n"


@pytest.fixture(scope="module")
def few(stage: Stage, organism: Organism) -> Stage:
    """The shared organism, scored with the least that is a score."""
    return Stage(organism, stage.pair, stage.texts, LEAST, 0.0)


@pytest.fixture(autouse=True)
def _not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)  # takes longer than all the rest


def cell(entry: MethodEntry, stage: Stage, scratch: Path | None = None, in_process: bool = False) -> Result:
    budget = Budget(tokens=3000)
    of = Cell(stage.organism, entry, entry.configure({}), 0, protocol=LEAST, budget=budget, in_process=in_process)
    return run_cell(of, stage, scratch=scratch).result


@pytest.fixture(scope="module")
def honest(few: Stage, tmp_path_factory: pytest.TempPathFactory) -> tuple[MethodEntry, Result]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)
        entry = method(tmp_path_factory.mktemp("honest"), MEAN)
        result = cell(entry, few)
    assert result.status == "ok", result.reason
    return entry, result


@pytest.mark.parametrize(
    "attack", [STEAL, PATCH, WEIGHTS, HARNESS, SETTINGS], ids="steal patch weights harness settings".split()
)
def test_an_attack_changes_neither_its_own_score_nor_the_next(
    tmp_path: Path, few: Stage, honest: tuple[MethodEntry, Result], attack: str
) -> None:
    entry, before = honest
    attacked = cell(method(tmp_path, attack + MEAN), few)
    assert attacked.status == "ok", attacked.reason
    after = cell(entry, few)
    for result in (attacked, after):
        assert (result.scores, result.samples, result.curves) == (before.scores, before.samples, before.curves)


def test_in_the_scorers_process_an_attack_pays_and_the_record_is_no_tables(
    tmp_path: Path, few: Stage, honest: tuple[MethodEntry, Result]
) -> None:
    method(tmp_path, STEAL.replace("type(self).access", "_") + MEAN)
    cheat = cell(load_method(str(tmp_path / "mine.py")), few, in_process=True)
    assert cheat.scores is not None and honest[1].scores is not None
    assert (cheat.scores.isolation.value or 0) > (honest[1].scores.isolation.value or 0) + 0.05
    assert cheat.identity.in_process and "--in-process" in (cheat.unpublished or "")
    assert honest[1].unpublished is None


def test_a_file_that_patches_the_scorer_when_it_is_imported_patches_nothing(
    tmp_path: Path, few: Stage, honest: tuple[MethodEntry, Result]
) -> None:
    method(tmp_path, MEAN)
    path = tmp_path / "mine.py"
    path.write_text(path.read_text() + IMPORTED)
    assert cell(load(str(path)), few).samples == honest[1].samples


LOOK = """
found, seen, todo = [], set(), [sys._getframe(), sys.modules, problem, os.environ, sys.argv, sys.path, os.getcwd(), *gc.get_objects()]
while todo:
    thing = todo.pop()
    if id(thing) in seen or len(seen) > 3_000_000:
        continue
    seen.add(id(thing))
    if isinstance(thing, (str, bytes)):
        found.append(thing if isinstance(thing, str) else thing.decode(errors="replace"))
        continue
    if type(thing).__name__ == "frame":
        todo += [thing.f_back, thing.f_locals, thing.f_globals]
    todo += gc.get_referents(thing)
for name in ("cmdline", "environ", "maps"):
    found.append(open(f"/proc/self/{name}").read())
for file in os.listdir("/proc/self/fd"):
    try: found.append(os.readlink(f"/proc/self/fd/{file}"))
    except OSError: pass
problem.scratch.mkdir(parents=True)
(problem.scratch / "found").write_text("\\n".join(found), errors="replace")
"""


def test_nothing_in_a_methods_process_names_the_organism_or_says_a_test_prompt(
    tmp_path: Path, few: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_OUT", "runs-of-gold-narrow")
    method(tmp_path, LOOK + MEAN)
    result = cell(load(str(tmp_path / "mine.py")), few, tmp_path / "scratch")
    assert result.status == "ok", result.reason
    (file,) = (tmp_path / "scratch").rglob("found")
    said = file.read_text()
    assert "A method file." in said and "PermissionError" in said  # it looks everywhere
    organism = few.organism
    assert organism.name not in said and organism.name.split("/")[1] not in said
    assert str(organism.pair.adapter) not in said and str(organism.pair.base) not in said
    prompts = [m.content for p in organism.behaviour.prompts for m in p.messages]
    assert not [p for p in prompts if p in said]
    assert os.getcwd() not in said.splitlines()[-20:]
