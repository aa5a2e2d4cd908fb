"""Shipped controls: the same scores as measured ones, for the pair they were measured on alone."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.cli import app
from diffbench.harness.commands import controls as command
from diffbench.harness.protocol.controls import NULLS, Controls
from diffbench.harness.protocol.effects import Scorer
from diffbench.harness.records.control_pack import ControlPack, ControlPackError, matching
from diffbench.harness.records.settings import PROTOCOL_V2
from diffbench.harness.runs.cell import Cell
from diffbench.harness.runs.stage import Machine, Stage, _controlled, shipped_controls
from diffbench.methods.contract import Finding
from diffbench.methods.registry import load_method
from diffbench.organisms import registry
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.organism import CONTROLS as FILE
from diffbench.organisms.organism import Organism
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from ...conftest import SHORT

FEW = SHORT.model_copy(update={"controls": 3, "dev_tokens": 40, "test_tokens": 40})


@pytest.fixture(scope="module")
def pack(stage: Stage) -> ControlPack:
    return Scorer(stage.pair, stage.organism.behaviour, stage.texts, FEW).controls.packed({"of": "gold"})


@pytest.mark.slow
def test_shipped_controls_score_as_measured_ones_and_are_not_measured(
    stage: Stage, pack: ControlPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack.write(tmp_path / FILE)
    shipped = matching(tmp_path / FILE, {"of": "gold"})
    given = stage.pair, stage.organism.behaviour, stage.texts, FEW
    measured, known = Scorer(*given), Scorer(*given, shipped=shipped)
    for n in (1, 3, 16):
        noise = torch.randn(n, stage.pair.d_model, generator=torch.Generator().manual_seed(n))
        one = measured.score(measured.directions([Finding(d) for d in noise])).samples
        with monkeypatch.context() as patch:
            patch.setattr(Controls, "_draws", lambda *_: pytest.fail("measured"))
            other = known.score(known.directions([Finding(d) for d in noise])).samples
        for side in ("sufficiency", "necessity"):
            ours, theirs = (getattr(s.constant, side) for s in (one, other))
            np.testing.assert_allclose(ours.null, theirs.null, atol=1e-6)
            np.testing.assert_allclose(ours.null_controls, theirs.null_controls, atol=1e-6)
        np.testing.assert_allclose(one.mitigation_controls, other.mitigation_controls, atol=1e-6)
    count, worst = known.controls.measured_again(pack, 2)
    isotropic = len(pack.nulls) // 2
    assert count == isotropic * (2 + 2 * 3) + isotropic * (2 + 2 * 2) and worst < 1e-6


@pytest.mark.slow
def test_what_scores_stand_on_is_checked_wherever_it_was_changed(stage: Stage, pack: ControlPack) -> None:
    scorer = Scorer(stage.pair, stage.organism.behaviour, stage.texts, FEW)
    for what in ("sufficiency mean", "necessity shares", "volumes"):
        wrong = copy.deepcopy(pack)
        wrong.nulls["isotropic", (1,)][what] = wrong.nulls["isotropic", (1,)][what] - 0.5
        assert scorer.controls.measured_again(wrong, 1)[1] > 0.01, what
    del wrong.nulls["mixture", (1,)]
    with pytest.raises(ValidationFailed, match="no mixture controls of 1 findings"):
        scorer.controls.measured_again(wrong, 1)
    wrong.nulls = {("isotropic", (500,)): wrong.nulls["isotropic", (1,)]}
    with pytest.raises(ValidationFailed, match="no controls of any number of findings"):
        scorer.controls.measured_again(wrong, 1)


def test_another_file_of_controls_is_another_result(tmp_path: Path, organism: Organism, pack: ControlPack) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(organism.adapter, folder)
    (folder / FILE).unlink(missing_ok=True)
    here = replace(organism, pair=replace(organism.pair, adapter=folder))
    method = load_method("random")

    def id_(layer: int = 2, dtype: str | None = None) -> str:
        return Cell(here, method, method.configure({}), 0, machine=Machine(dtype=dtype)).identity(layer).id()

    without, elsewhere, rounded = id_(), id_(1), id_(2, "bfloat16")
    pack = replace(pack, key={**_controlled(here, 2, "torch.float32", PROTOCOL_V2), "read": ["a"], "sinks": None})
    pack.write(folder / FILE)
    shipped = id_()
    pack.nulls["isotropic", (1,)]["volumes"] += 0.01
    pack.write(folder / FILE)
    assert len({without, shipped, id_()}) == 3
    # of another layer or precision they are measured, so the file decides nothing there
    assert (id_(1), id_(2, "bfloat16")) == (elsewhere, rounded)
    pack.nulls["isotropic", (1,)]["volumes"] -= 0.01


def test_a_record_of_an_organism_with_shipped_controls_names_them() -> None:
    """Published ids hold the file's hash."""
    for name in (f"{p.parts[-3]}/{p.parts[-2]}" for p in registry.ZOO.glob(f"*/*/{FILE}")):
        o = registry.load_organism(name)
        assert o.layer is not None
        assert shipped_controls(o, o.layer, "float32", False, PROTOCOL_V2) == o.controls_sha256, name


def test_controls_of_anything_else_count_for_nothing(pack: ControlPack, tmp_path: Path) -> None:
    pack.write(tmp_path / FILE)
    assert matching(tmp_path / FILE, {"of": "silver"}) is None and matching(tmp_path / "none", {"of": "gold"}) is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def without_an_array(path: Path) -> None:
    arrays = load_file(path)
    del arrays["isotropic 1 volumes"]
    save_file(arrays, path, {"key": json.dumps({"of": "gold"})})


def not_finite(path: Path) -> None:
    arrays = load_file(path)
    arrays["isotropic 1 volumes"][0] = np.nan
    save_file(arrays, path, {"key": json.dumps({"of": "gold"})})


def of_another_length(path: Path) -> None:
    arrays = load_file(path)
    arrays["isotropic 1 volumes"] = arrays["isotropic 1 volumes"][:1]
    save_file(arrays, path, {"key": json.dumps({"of": "gold"})})


def of_no_length(path: Path) -> None:
    arrays = load_file(path)
    arrays["isotropic 1 volumes"] = np.zeros((), np.float32)
    save_file(arrays, path, {"key": json.dumps({"of": "gold"})})


def without_a_key(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [cut, without_an_array, not_finite, of_another_length, of_no_length, without_a_key])
def test_a_damaged_file_is_refused(pack: ControlPack, tmp_path: Path, damage: object) -> None:
    pack.write(tmp_path / FILE)
    damage(tmp_path / FILE)  # type: ignore[operator]
    with pytest.raises(ControlPackError, match="delete it, and build it with `bench controls build`"):
        ControlPack.read(tmp_path / FILE)


@pytest.mark.slow
def test_built_by_command_verified_and_told_when_they_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = tmp_path / "zoo"
    for part in ("bases", "subliminal/fox-narrow", "null/base-identical"):
        shutil.copytree(registry.SHIPPED / part, zoo / part)
    monkeypatch.setattr(registry, "ZOO", zoo)

    def bench(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["controls", *words])
        return done.exit_code, done.output

    path = zoo / "subliminal/fox-narrow" / FILE
    path.unlink(missing_ok=True)
    assert bench("verify", "subliminal/fox-narrow")[0] == 3
    for command_ in ("verify", "build"):
        code, said = bench(command_, "null/base-identical")
        assert code == 2 and "nothing is hidden" in said
    for wrong_list in ("", "0", "1,0", "1-3", "9" * 5000):
        code, said = bench("build", "subliminal/fox-narrow", "--findings", wrong_list)
        assert code == 2 and "is not a comma list of whole numbers from 1" in " ".join(said.split()), said
    code, said = bench("build", "subliminal/fox-narrow", "--draws", "3", "--findings", "1, 16,12")
    assert code == 0 and "subliminal/fox-narrow: 3 controls" in said, said
    assert ControlPack.read(path).nulls.keys() == {(kind, ks) for kind in NULLS for ks in ((1,), (1, 3, 10))}
    code, said = bench("verify", "subliminal/fox-narrow", "--sample", "1", "--json")
    assert code == 0 and json.loads(said)["largest_difference"] <= command.TOLERANCE, said
    wrong = ControlPack.read(path)
    for some in wrong.nulls.values():
        some["volumes"] = some["volumes"] + 0.01
    wrong.write(path)
    code, said = bench("verify", "subliminal/fox-narrow", "--sample", "1")
    assert code == 4 and "build them again" in said, said


def test_controls_are_those_of_all_that_decides_them(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of each part of the key changes it; how many controls there are and how intervals are drawn does not."""

    def key(**protocol: Any) -> dict[str, Any]:
        changed = stage.protocol.model_copy(update=protocol)
        return Stage(stage.organism, stage.pair, stage.texts, changed, 0.0).control_key

    usual = key()
    changed = {"settings": key(aim=0.5), "read": key(dev_tokens=1)}
    assert key(controls=9, draws=7) == usual
    module = "diffbench.harness.runs.stage."
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}prompts_sha256", lambda o: "other")
        changed["prompts"] = key()
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}VERSION", "other")
        changed["procedure"] = key()
    with monkeypatch.context() as patch:
        patch.setattr(stage.pair, "layer", 1)
        changed["layer"] = key()
    with monkeypatch.context() as patch:
        patch.setattr(stage.pair, "sinks", SimpleNamespace(rule="other"))
        changed["sinks"] = key()
    with monkeypatch.context() as patch:
        patch.setattr(stage.pair, "dtype", torch.bfloat16)
        changed["dtype"] = key()
    other = replace(stage.organism, sha256="0" * 64)
    changed["organism"] = Stage(other, stage.pair, stage.texts, stage.protocol, 0.0).control_key
    assert changed.keys() == usual.keys()
    for part, found in changed.items():
        assert found[part] != usual[part], part
