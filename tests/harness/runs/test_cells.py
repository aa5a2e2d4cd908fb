"""Cells: identity, resume, verification, failures, and nothing half-written."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffbench.harness.pairs.preflight import check_device
from diffbench.harness.records.loading import finished, load_result
from diffbench.harness.records.result import Result
from diffbench.harness.runs import cell as cell_module
from diffbench.harness.runs import provenance
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.folder import FINDINGS, RESULT, read_findings, run_folder, write_run
from diffbench.harness.runs.run import plan, run
from diffbench.harness.runs.stage import Stage
from diffbench.harness.runs.verify import verify
from diffbench.methods.contract import DiffResult, Finding
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.organism import Organism
from safetensors import SafetensorError

from ...conftest import SHORT


class Quiet:
    """A watcher that counts."""

    def __init__(self) -> None:
        self.ran, self.cached = 0, 0

    def loading(self, organism: str) -> None: ...

    def cell(self, cell: Cell, index: int, total: int) -> None:
        self.ran += 1

    def progress(self, phase: str, done: int, total: int) -> None: ...

    def done(self, cell: Cell, result: Result, folder: Path, cached: bool) -> None:
        self.cached += cached


def cell(organism: Organism, entry: MethodEntry, seed: int = 0, **options: object) -> Cell:
    return Cell(organism, entry, entry.configure(options), seed, protocol=SHORT)


def write_method(folder: Path, body: str) -> MethodEntry:
    path = folder / "mine.py"
    path.write_text(
        "import torch\nfrom diffbench.methods.contract import DiffResult, Finding\n"
        f"class Mine:\n    name = 'mine'\n    access = 'activations'\n    def diff(self, problem):\n        {body}\n"
    )
    return load_method(str(path))


def test_the_same_cell_twice_is_the_same_to_the_bit(stage: Stage, organism: Organism) -> None:
    first, second = (run_cell(cell(organism, load_method("mean_diff"), tokens=2000), stage).result for _ in range(2))
    assert first.id == second.id and first.status == "ok"
    assert (first.scores, first.samples, first.curves) == (second.scores, second.samples, second.curves)


def test_whatever_changes_a_number_changes_the_id(organism: Organism) -> None:
    mean_diff = load_method("mean_diff")
    cells = [
        cell(organism, mean_diff),
        cell(organism, mean_diff, seed=1),
        cell(organism, mean_diff, tokens=2000),
        cell(organism, load_method("random")),
        Cell(organism, mean_diff, mean_diff.configure({}), 0),
    ]
    ids = [c.identity(2).id() for c in cells] + [cells[0].identity(3).id()]
    assert len(set(ids)) == len(ids)
    assert cells[0].identity(2).id() == cell(organism, mean_diff).identity(2).id()


@pytest.mark.slow
def test_a_finished_cell_is_not_run_again_unless_asked(tmp_path: Path, organism: Organism) -> None:
    method = load_method("random")

    def go(overwrite: bool, seeds: list[int]) -> Quiet:
        watch = Quiet()
        assert all(
            r.status == "ok" and r.provenance.stochastic
            for r in run(
                plan(
                    [organism], [(method, method.configure({}))], seeds, tmp_path, overwrite=overwrite, protocol=SHORT
                ),
                watch,
                str,
            )
        )
        return watch

    assert (go(False, [0]).ran, go(False, [0]).ran, go(False, [0]).cached) == (1, 0, 1)
    assert (go(False, [0, 1]).ran, go(True, [0]).ran) == (1, 1)
    folders = list((tmp_path / "taboo" / "gold-narrow" / "random").iterdir())
    assert len(folders) == 2 and all(
        (f / name).is_file() for f in folders for name in (RESULT, "findings.safetensors", "dose_response.png")
    )


def test_a_record_keeps_no_more_digits_than_were_measured() -> None:
    """At any depth; whole numbers, truth values and names are as they were."""
    third = torch.ones(1, dtype=torch.float64).div(3).item()
    diff = DiffResult(
        [Finding(torch.ones(2), score=third, evidence={"latent": 1234567, "open": [third, True], "as": ("a", None)})],
        {"loss": {"loss": 2e9 * third}},
    )
    said = cell_module.told(diff)["diagnostics"]
    found = {"score": 0.333333, "latent": 1234567, "open": [0.333333, True], "as": ["a", None]}
    assert said == {"loss": {"loss": 666667000.0}, "findings": [found]}


@pytest.mark.slow
def test_where_a_method_keeps_its_checkpoints_does_not_name_the_organism(tmp_path: Path, organism: Organism) -> None:
    seen = "{'scratch': str(problem.scratch)}"
    entry = write_method(tmp_path, f"return DiffResult([Finding(torch.ones(problem.d_model))], diagnostics={seen})")
    (result,) = run(
        plan([organism], [(entry, entry.configure({}))], [0], tmp_path / "runs", protocol=SHORT), Quiet(), str
    )
    scratch = Path(result.diagnostics["scratch"]).relative_to(tmp_path / "runs")
    assert scratch.parts[0] == ".work" and not any(part in str(scratch) for part in organism.name.split("/"))
    assert not (tmp_path / "runs" / scratch).exists()


def test_what_draws_nothing_runs_with_the_first_seed_only(tmp_path: Path, organism: Organism) -> None:
    methods = [(m, m.configure({})) for m in map(load_method, ("random", "mean_diff", "pca"))]
    several, one = (plan([organism], methods, seeds, tmp_path) for seeds in ([3, 4], [3]))
    assert [(c.method.name, c.seed) for c in several.cells] == [
        ("random", 3),
        ("random", 4),
        ("mean_diff", 3),
        ("pca", 3),
    ]
    assert (several.once, one.once) == (["mean_diff", "pca"], []) and len(one.cells) == 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, stage: Stage, organism: Organism) -> Path:
    """A run folder made with the short protocol."""
    outcome = run_cell(cell(organism, load_method("random")), stage)
    folder = run_folder(tmp_path_factory.mktemp("runs"), organism.name, "random", outcome.result.id)
    write_run(folder, outcome.result, outcome.diff, "log")
    return folder


@pytest.fixture
def short_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.harness.runs.verify.PROTOCOL_V2", SHORT)


EDITED = (
    "scores.isolation.value",
    "scores.sufficiency.anchors.mixture",
    "scores.necessity_constant.unclipped",
    "samples.templates.3",
    "samples.gap.3",
    "samples.constant.sufficiency.effect.3",
    "samples.constant.necessity.null_controls.1",
    "samples.mixture.necessity.0",
    "samples.oracle.sufficiency.0",
    "samples.mitigation_controls.0",
    "choices.0.test_gain",
    "choices.0.test_kl_high",
    "curves.0.gain.0",
    "curves.0.strengths.0",
    "behaviour.b1_test",
    "readings.0.score",
)
"""A number of every part of a record that follows from the findings."""


@pytest.mark.usefixtures("short_protocol")
def test_verify_measures_everything_again_that_follows_from_the_findings(saved: Path) -> None:
    """And names each number that is another, and no other."""
    original = (saved / RESULT).read_text()
    record = json.loads(original)
    for where in EDITED:
        *above, last = [int(name) if name.isdigit() else name for name in where.split(".")]
        at = record
        for name in above:
            at = at[name]
        at[last] += 1 if isinstance(at[last], int) else -0.01 if at[last] > 0.5 else 0.01
    record["readings"][0]["promotes"][0] = "gold"
    try:
        (saved / RESULT).write_text(json.dumps(record))
        outcome = verify(saved)
    finally:
        (saved / RESULT).write_text(original)
    found = {re.sub(r"\[(\d+)\]", r".\1", where) for where, *_ in outcome.differences}
    assert found == {*EDITED, "readings.0.promotes.0"} and outcome.compared > 500 and not outcome.ok


@pytest.mark.usefixtures("short_protocol")
@pytest.mark.slow
def test_verify_refuses_an_edited_identity_and_exchanged_findings(
    saved: Path, stage: Stage, organism: Organism
) -> None:
    original = (saved / RESULT).read_text()
    try:
        (saved / RESULT).write_text(
            original.replace('"seeds":{"method":0', '"seeds":{"method":7').replace('"method": 0', '"method": 7')
        )
        with pytest.raises(ValidationFailed, match="not the hash of identity"):
            verify(saved)
    finally:
        (saved / RESULT).write_text(original)
    other = run_cell(cell(organism, load_method("random"), seed=5), stage)
    write_run(saved.parent / "other", load_result(saved / RESULT), other.diff, "log")
    assert not verify(saved.parent / "other").ok
    write_run(saved.parent / "other", other.result, other.diff, "log")
    (saved.parent / "other" / FINDINGS).replace(saved.parent / "foreign")
    own = (saved / FINDINGS).read_bytes()
    try:
        (saved.parent / "foreign").replace(saved / FINDINGS)
        with pytest.raises(ValidationFailed, match="belongs to result"):
            verify(saved)
    finally:
        (saved / FINDINGS).write_bytes(own)


@pytest.mark.usefixtures("short_protocol")
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (
            "organism",
            "taboo/leaf-narrow",
            "which is no organism of the zoo|organism is taboo/leaf-narrow in the result",
        ),
        ("tier", "hub", "tier is hub in the result and tiny here"),
        ("access", "supervised", "random is built in and has 'activations'"),
        ("protocol", "v2", "v2 is .* and no other"),
        ("protocol", "v1", "is none of this diffbench's"),
        ("method_version", "99", "came with diffbench"),
        ("code_sha256", "f" * 64, None),
    ],
)
@pytest.mark.slow
def test_verify_refuses_what_it_can_know_to_be_another_and_says_what_it_cannot(
    saved: Path, organism: Organism, field: str, value: str, told: str | None
) -> None:
    """The forger recomputes the id, and the owner of the findings file."""
    claim = load_result(saved / RESULT)
    forged = claim.identity.model_copy(update={field: value})
    findings = read_findings(saved)
    made = {"provenance": claim.provenance.model_copy(update={"access": forged.access})}
    folder = saved.parent / f"forged-{field}-{value[:9].replace('/', '-')}"
    write_run(folder, claim.model_copy(update={"identity": forged, "id": forged.id(), **made}), findings, "log")
    if told is not None:
        with pytest.raises((ValidationFailed, UsageError), match=told):
            verify(folder, organism)
    else:
        outcome = verify(folder, organism)
        assert outcome.ok and "made by other source (ffffffffffff)" in outcome.unknown[0]
        assert verify(saved).unknown == []


def test_another_protocol_is_named(saved: Path) -> None:
    with pytest.raises(ValidationFailed, match="protocol_sha256"):
        verify(saved)


BAD = {
    "raise RuntimeError('no luck')": r"mine raised RuntimeError: no luck",
    "raise SystemExit(0)": "mine raised SystemExit",
    "next(problem.activations('chatt'))": "no text 'chatt'; did you mean 'chat'",
    "return [1, 2]": "returned list, not DiffResult",
    "return DiffResult([])": "no findings",
    "return DiffResult([Finding(torch.full((problem.d_model,), float('nan')))])": "NaN or infinity",
    "return DiffResult([Finding(torch.ones(3))])": r"shape \[3\], expected \[128\]",
    "return DiffResult([Finding(torch.ones(problem.d_model))] * 17)": "17 findings; keep the best 16",
    "return DiffResult([Finding('gold')])": "direction",
    "problem.labelled()": "labels",
    "return DiffResult([], patch=True)": "only the oracle may",
    "return DiffResult([Finding(torch.ones(problem.d_model), score=float('nan'))])": "score is nan",
    "return DiffResult([Finding(torch.ones(problem.d_model), evidence={'x': torch.ones(2)})])": "evidence is not JSON",
    "return DiffResult([Finding(torch.ones(problem.d_model))], {'loss': float('inf')})": "diagnostics is not JSON",
    "return DiffResult([Finding(torch.ones(problem.d_model))], dictionary={'w': 3})": "not a tensor",
    "return DiffResult([Finding(torch.ones(problem.d_model), gate=(1, 2))])": "gate is tuple",
}


@pytest.mark.parametrize("body", BAD)
def test_a_bad_method_fails_its_cell_with_the_reason(
    tmp_path: Path, stage: Stage, organism: Organism, body: str
) -> None:
    import re

    result = run_cell(cell(organism, write_method(tmp_path, body)), stage).result
    assert result.status == "failed" and result.scores is None
    assert re.search(BAD[body], result.reason or ""), result.reason
    write_run(tmp_path / "run", result, None, "")
    assert finished(tmp_path / "run" / RESULT, result.id) is None  # a failure is saved, but tried again
    assert load_result(tmp_path / "run" / RESULT).failure is not None


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["harvest", "score", "write"])
def test_an_interrupt_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, organism: Organism, phase: str
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    target = {
        "harvest": "diffbench.harness.runs.problem.Problem._paired",
        "score": "diffbench.harness.protocol.effects.Scorer.score",
        "write": "diffbench.harness.runs.folder.save_file",
    }[phase]
    method = load_method("mean_diff")
    random_ = load_method("random")
    cells = plan(
        [organism],
        [(random_, random_.configure({})), (method, method.configure({"tokens": 500}))],
        [0],
        tmp_path,
        protocol=SHORT,
    )
    results = run(cells, Quiet(), str)
    assert next(results).status == "ok"
    monkeypatch.setattr(target, interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert len(list(tmp_path.rglob(RESULT))) == 1
    assert not [p for p in tmp_path.rglob(".*") if p.is_dir() and any(p.iterdir())]


def test_a_full_disk_is_said_and_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage, organism: Organism
) -> None:
    outcome = run_cell(cell(organism, load_method("random")), stage)

    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("diffbench.harness.runs.folder.save_file", full)
    with pytest.raises(PrerequisiteError, match="No space left"):
        write_run(tmp_path / "runs" / "x", outcome.result, outcome.diff, "")
    assert not list((tmp_path / "runs").iterdir())


def test_cuda_without_a_device_is_a_missing_prerequisite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(PrerequisiteError, match="no CUDA device"):
        check_device("cuda")


def test_the_source_hash_covers_what_is_imported_and_nothing_else(tmp_path: Path) -> None:
    def names(start: Path) -> set[str]:
        return {str(path.relative_to(provenance.ROOT)) for path in provenance._sources(start)}

    cell_files = names(Path(cell_module.__file__))
    assert {
        "harness/runs/cell.py",
        "harness/protocol/effects.py",
        "harness/protocol/clean_runs.py",
        "methods/contract.py",
    } <= cell_files
    assert not {"cli.py", "harness/views/render.py", "harness/zoo/report.py", "methods/linear.py"} & cell_files
    delta = load_method("delta").file
    assert delta and {"methods/crosscoders.py", "methods/coder/sparse_ops.py", "methods/coder/training.py"} <= names(
        delta
    )
    assert "methods/linear.py" not in names(delta)
    mine = write_method(tmp_path, "return DiffResult([])").file
    assert mine and names(mine) == names(Path(provenance.ROOT / "methods" / "contract.py"))
    hashes = {provenance.source_hash(f) for f in (delta, load_method("pca").file, None)}
    assert len(hashes) == 3
