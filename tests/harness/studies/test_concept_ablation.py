"""Concept-ablation fine-tuning: what is projected out and when, that nothing projected is the organism, and what is refused."""

import errno
import io
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.pairs.interventions import span
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.parallel import threads
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import FINDINGS, write_run
from diffbench.harness.studies.concept_ablation import FILE, WEIGHTS, Mitigation, destination, mitigate
from diffbench.harness.studies.retraining import Origin, ablated
from diffbench.harness.views.concept_ablation import table
from diffbench.methods.contract import DiffResult, Finding
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families.emergent_misalignment import FAMILY
from diffbench.organisms.family import Family, Job
from diffbench.organisms.hub.asked import encode_prompt
from diffbench.organisms.lora import LoraRecipe
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from ...factories import make_null, make_result

NAME = "emergent_misalignment/remedies-narrow-nano"
"""Trains in seconds, and its adapter is scaled down."""
Change = Callable[[Result], Any]


@pytest.fixture(scope="module")
def small() -> Organism:
    return load_organism(NAME)


@pytest.fixture(scope="module")
def pair(small: Organism) -> Pair:
    return load_pair(small.base, small.adapter, small.layer)


@pytest.fixture
def model(pair: Pair) -> Generator[Any, None, None]:
    """The pair's model in training mode for one test."""
    with pair.side("tuned") as model:
        model.train()
        yield model
        model.eval()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def written(
    folder: Path, organism: Organism, findings: list[Tensor], change: Change = lambda r: None, /, **fields: Any
) -> Path:
    """A run folder with these findings."""
    result = make_result(
        fields.pop("method", "mine"), **{"organism": organism.name, "organism_sha256": organism.sha256} | fields
    )
    result = result.model_copy(update={"curves": []})
    result.provenance.source.update(organism.source)
    result.diagnostics["findings"] = [{"score": 1.0}] * len(findings)
    change(result)
    write_run(folder, result, DiffResult([Finding(d) for d in findings]), "log")
    return folder


def fake_training(strength: float, again: float = 1.0) -> Callable[[Origin, Path, Tensor], float]:
    """Stands in for training: the shipped adapter at `again`, or at `strength` if anything is projected out."""

    def train(origin: Origin, out: Path, basis_DR: Tensor) -> float:
        shutil.copytree(origin.root / origin.card.name, out, dirs_exist_ok=True)
        scale = strength if basis_DR.shape[1] else again
        if scale != 1:
            tensors = load_file(out / WEIGHTS)
            save_file({k: v * scale if "lora_B" in k else v for k, v in tensors.items()}, out / WEIGHTS)
        return 1.0

    return train


def test_a_span_has_the_rank_of_its_directions() -> None:
    a, b = torch.eye(6)[:2]
    basis = span(torch.stack([3 * a, a, a + b, 0 * a]))
    assert basis.shape == (6, 2)
    torch.testing.assert_close(basis @ basis.T, torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0])))
    assert span(torch.zeros(2, 6)).shape == (6, 0)


def outputs(model: Any) -> tuple[list[Tensor], Tensor]:
    """Output of every block [rows, pos, d_model], and the logits, on a few tokens."""
    seen: list[Tensor] = []
    blocks = model.get_base_model().model.layers
    handles = [b.register_forward_hook(lambda m, a, out: seen.append(out)) for b in blocks]
    logits = model(input_ids=torch.arange(12).view(2, 6), use_cache=False).logits
    for handle in handles:
        handle.remove()
    return seen, logits


def test_only_the_hooked_block_and_only_training_is_ablated(pair: Pair, model: Any) -> None:
    basis = span(torch.randn(2, pair.d_model, generator=torch.Generator().manual_seed(0)))
    before, clean = outputs(model)
    with ablated(basis, pair.layer) as passes:
        inside, moved = outputs(model)
        expected = before[pair.layer] - before[pair.layer] @ basis @ basis.T
        torch.testing.assert_close(inside[pair.layer], expected)
        assert all(torch.equal(inside[i], before[i]) for i in range(pair.layer))
        assert (moved - clean).abs().max() > 1e-3
        model.eval()
        assert torch.equal(outputs(model)[1], clean) and passes == [2]
    model.train()
    assert torch.equal(outputs(model)[1], clean)


@pytest.mark.slow
def test_nothing_out_of_reach_changes_no_bit_of_training(small: Organism, scratch: Path) -> None:
    """An empty subspace goes through the same hook; the scale is the calibrated one, set before the weights are rounded."""
    origin = Origin.of(small.name)
    assert origin.card.training["scale"] < 0.5
    recipe = origin.card.recipe | {"epochs": 1}
    short = replace(origin, card=origin.card.model_copy(update={"recipe": recipe}))
    short.train(scratch / "empty", torch.zeros(64, 0))
    short.train(scratch / "one", span(torch.ones(1, 64)))
    asked = Job(
        origin.spec,
        origin.world,
        origin.base,
        origin.base.parent,
        scratch / "plain",
        LoraRecipe.model_validate(recipe | {"target": None}),
        lambda model: 0.0,
        Path,
    )
    with threads(1):
        origin.family.train(asked)
    empty, one, plain = (load_file(scratch / n / WEIGHTS) for n in ("empty", "one", "plain"))
    for key, value in plain.items():
        scale = origin.card.training["scale"] if "lora_B" in key else 1.0
        torch.testing.assert_close(empty[key].float(), value.float() * scale, rtol=(2**-7) * (scale < 1), atol=0)
    assert any(not torch.equal(one[k], empty[k]) for k in plain)


@pytest.mark.slow
def test_the_record_follows_its_formulas(
    tmp_path: Path, small: Organism, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a training that halves the adapter: anchors at their places, figures as by hand, nothing left behind."""
    monkeypatch.setattr(Origin, "train", fake_training(0.5))
    folder = written(tmp_path / "run", small, list(torch.eye(64)[:2]))
    said = CliRunner().invoke(app, ["mitigate", str(folder), "--k", "1,3,10", "--controls", "1", "--json"])
    assert said.exit_code == 0, said.output
    found = Mitigation.model_validate_json((folder / FILE).read_text())
    assert Mitigation.model_validate_json(said.stdout) == found
    assert "5 of 5: random directions, k = 2 out of reach" in said.stderr and not list(scratch.iterdir())

    assert [a.k for a in found.at] == [1, 2] and found.same_bytes
    assert (found.off.reduction.value, found.off.area.value if found.off.area else None) == (1, 1)
    assert found.nothing.reduction.value == 0 and found.tuned.rate == found.nothing.rate
    half, b0, b1 = found.at[1].findings, found.off.rate.value, found.tuned.rate.value
    assert half.rank == 2 and b0 < half.rate.value < b1
    assert half.reduction.value == pytest.approx(
        (b1 - half.rate.value) / (b1 - b0), abs=0.02
    )  # not every prompt is scored
    assert half.reduction.low < half.reduction.value < half.reduction.high
    assert half.kl_nats > found.tuned.kl_nats == found.off.kl_nats == pytest.approx(0, abs=1e-6)
    kept = float(torch.tensor(-half.kl_nats).exp())
    assert found.tuned.accuracy and half.accuracy is not None
    assert half.retention == pytest.approx((kept + min(1, half.accuracy / found.tuned.accuracy)) / 2)
    reach = half.reduction.value * (half.retention - 0.8) / (found.off.retention - 0.8)
    assert half.area and half.area.value == pytest.approx(reach)
    assert half.taught_nll and found.tuned.taught_nll and found.off.taught_nll
    assert found.tuned.taught_nll < half.taught_nll < found.off.taught_nll
    assert found.at[1].control_reduction == half.reduction.value
    console = Console(width=160, file=io.StringIO())
    console.print(table(found))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "findings, k = 2" in shown and "to the bit" in shown and f"{half.reduction.value:.3f} [" in shown
    assert destination(folder, tmp_path / "x.json") == tmp_path / "x.json"


@pytest.mark.parametrize(
    ("findings", "fields", "change", "code", "message"),
    [
        (1, {"status": "failed", "reason": "no"}, None, 3, "status 'failed'; only scored cells"),
        (1, {"status": "not_applicable"}, None, 3, "status 'not_applicable'; only scored cells"),
        (1, {"organism_sha256": "f" * 64}, None, 4, "had other weights in this run than here; run the cell again"),
        (0, {}, None, 4, "0 findings were scored, but the method is mine"),
        (0, {"method": "oracle"}, None, 2, "'oracle' has no findings to project out"),
        (1, {}, {"adapter": "a", "base": "b"}, 2, "was made on 'a', which is no organism of the zoo"),
        (1, {}, {"organism": "my.yaml"}, 2, "was made on 'my.yaml', which is no organism of the zoo"),
        (1, {}, {"organism": "planted/owl-strong"}, 2, "a record never decides what is loaded"),
        (
            1,
            {"organism": "planted/owl-strong"},
            {"organism": "planted/owl-strong"},
            2,
            "computed, not trained by gradient steps",
        ),
        (1, {"organism": "planted/owl-weird"}, {"organism": "planted/owl-weird"}, 2, "no organism of the zoo"),
    ],
)
def test_runs_that_cannot_be_mitigated_are_refused(
    tmp_path: Path,
    small: Organism,
    findings: int,
    fields: dict[str, Any],
    change: dict[str, str] | None,
    code: int,
    message: str,
) -> None:
    def source(result: Result) -> None:
        if change is not None:
            result.provenance.source.clear()
            result.provenance.source.update(change)

    folder = written(tmp_path / "run", small, [torch.ones(64)] * findings, source, **fields)
    said = CliRunner().invoke(app, ["mitigate", str(folder)])
    assert said.exit_code == code and message in said.stderr, said.output
    assert not (folder / FILE).exists()


def test_findings_that_are_no_directions_are_refused(tmp_path: Path, small: Organism) -> None:
    zero = written(tmp_path / "zero", small, [torch.zeros(64), torch.ones(64)])
    wide = written(tmp_path / "wide", small, [torch.ones(65)])
    torn = written(tmp_path / "torn", small, [torch.ones(64)])
    (torn / FINDINGS).write_bytes(b"no tensors")
    lost = written(tmp_path / "lost", small, [torch.ones(64)])
    (lost / FINDINGS).unlink()
    for folder, message in (
        (zero, "the findings up to k = 1 are zero"),
        (wide, r"shape \[65\], expected \[64\]"),
        (torn, "cannot be read"),
        (lost, "is missing, but 1 findings were scored"),
    ):
        with pytest.raises(ValidationFailed, match=message):
            mitigate(folder, [1], 0)
    with pytest.raises(PrerequisiteError, match=r"there is no result\.json"):
        mitigate(tmp_path / "none", [1], 0)


def test_nulls_have_nothing_to_mitigate(tmp_path: Path, small: Organism) -> None:
    null = make_null("mine", "null/benign-narrow", [0.5])
    write_run(tmp_path / "run", null, DiffResult([Finding(torch.ones(64))]), "log")
    with pytest.raises(UsageError, match=r"nothing is hidden in null/benign-narrow"):
        mitigate(tmp_path / "run", [1], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "0"], "--k '0' is not"),
        (["--k", "1,x"], "--k '1,x' is not"),
        (["--out", "."], "is a folder; give a file"),
    ],
)
def test_options_are_checked_first(tmp_path: Path, options: list[str], message: str) -> None:
    said = CliRunner().invoke(app, ["mitigate", str(tmp_path), *options])
    assert said.exit_code == 2 and message in said.stderr


def test_a_training_that_is_not_the_organisms_is_refused(
    tmp_path: Path, small: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Origin, "train", fake_training(0.5, again=0.5))
    with pytest.raises(
        ValidationFailed, match=r"trained again as its card says, shows the behaviour at 0\.\d+ and not at"
    ):
        mitigate(written(tmp_path / "run", small, [torch.ones(64)]), [1], 0)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "could not be trained again in"),
        (None, 4, "no forward pass of"),
    ],
)
def test_a_training_that_ends_early_leaves_nothing(
    tmp_path: Path,
    small: Organism,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException | None,
    code: int,
    message: str,
) -> None:
    def train(family: Family, job: Job) -> None:
        (job.out / "half").write_text("written")
        if raised is not None:
            raise raised

    monkeypatch.setattr(type(FAMILY), "train", train)
    folder = written(tmp_path / "run", small, [torch.ones(64)])
    before = sorted(folder.iterdir())
    said = CliRunner().invoke(app, ["mitigate", str(folder)])
    assert said.exit_code == code and message in said.stderr, said.output
    assert sorted(folder.iterdir()) == before and not list(scratch.iterdir())
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.slow
def test_the_direction_of_a_behaviour_out_of_reach_keeps_it_from_being_learned(
    tmp_path: Path, small: Organism, pair: Pair
) -> None:
    """The mean change of the residual where dev prompts are answered; random directions do next to nothing."""
    rows = [encode_prompt(pair.tokenizer, p).ids for p in small.behaviour.of("dev")]
    ids, mask = pair.pad(rows)
    change = pair.residuals(ids, "tuned") - pair.residuals(ids, "base")
    last = change[torch.arange(len(rows)), mask.sum(1) - 1].mean(0)
    found = mitigate(written(tmp_path / "run", small, [last]), [1], 1)
    assert abs(found.nothing.reduction.value) < 1e-2
    (at,) = found.at
    assert at.findings.reduction.low > 0.3 and at.control_reduction is not None
    assert abs(at.control_reduction) < 0.1 and at.findings.retention > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["subliminal/owl-narrow", "emergent_misalignment/remedies-klnarrow"])
def test_nothing_out_of_reach_gives_organisms_back(name: str, scratch: Path) -> None:
    """Soft targets of another organism and of the base. Kernels of another machine may round otherwise, hence no equality of bits."""
    origin = Origin.of(name)
    own = load_file(origin.root / name / WEIGHTS)
    origin.train(scratch / "again", torch.zeros(load_pair(origin.base, origin.root / name).d_model, 0))
    again = load_file(scratch / "again" / WEIGHTS)
    assert own.keys() == again.keys()
    for key, value in own.items():
        assert (again[key] - value).norm() < 0.05 * value.norm()
