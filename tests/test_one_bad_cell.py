"""Several cells of which one cannot run: it is told with its reason, the others are run, and the exit code is 1."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.runs.stage import Stage
from diffbench.organisms import registry
from diffbench.organisms.organism import Organism
from safetensors.torch import load_file, save_file

from .conftest import save_pair
from .test_cli import METHOD, bench, short  # noqa: F401


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights of the adapter cut short": (lambda d: cut(d / "adapter" / "adapter_model.safetensors"), "adapter"),
    "weights of the base cut short": (lambda d: cut(d / "base" / "model.safetensors"), "base"),
    "no weights": (lambda d: (d / "base" / "model.safetensors").unlink(), "no model.safetensors"),
    "an adapter that is not there": (lambda d: shutil.rmtree(d / "adapter"), "adapter"),
    "an adapter of another kind": (lambda d: edited(d / "adapter" / "adapter_config.json", peft_type="IA3"), "IA3"),
    "an adapter of another width": (
        lambda d: edited(d / "adapter" / "adapter_config.json", target_modules=["q_proj"]),
        "does not land",
    ),
    "a configuration of no model": (lambda d: edited(d / "base" / "config.json", model_type="none_such"), "none_such"),
    "a configuration that is not JSON": (lambda d: (d / "base" / "config.json").write_text("{"), "base"),
    "a configuration that is a list": (lambda d: (d / "base" / "config.json").write_text("[]"), "base"),
    "an adapter's configuration that is not JSON": (
        lambda d: (d / "adapter" / "adapter_config.json").write_bytes(b"\xff"),
        "adapter",
    ),
    "a tokenizer that is not JSON": (lambda d: (d / "base" / "tokenizer.json").write_text("{"), "base"),
    "a tokenizer's configuration that is not JSON": (
        lambda d: (d / "base" / "tokenizer_config.json").write_text("{"),
        "base",
    ),
    "a tokenizer's configuration that is a list": (
        lambda d: (d / "base" / "tokenizer_config.json").write_text("[]"),
        "base",
    ),
    "a configuration of no size": (lambda d: edited(d / "base" / "config.json", hidden_size=0), "base"),
    "a context of no length": (lambda d: edited(d / "base" / "config.json", max_position_embeddings="long"), "base"),
    "no tokenizer": (lambda d: (d / "base" / "tokenizer.json").unlink(), "base"),
    "a template that does not parse": (
        lambda d: (d / "base" / "chat_template.jinja").write_text("{% for m in messages %}"),
        "the chat template of",
    ),
    "a template that refuses": (
        lambda d: (d / "base" / "chat_template.jinja").write_text("{{ raise_exception('no users') }}"),
        "no users",
    ),
    "no behaviour file": (lambda d: (d / "behaviour.json").unlink(), "cannot read"),
    "a behaviour file that is none": (lambda d: (d / "behaviour.json").write_text("{}"), "is not a behaviour file"),
    "a behaviour at a layer that is none": (lambda d: edited(d / "behaviour.json", layer=9), "layer 9"),
    "a card that is not YAML": (lambda d: (d / "own.yaml").write_text("base: ["), "is not YAML"),
    "a card that is not text": (lambda d: (d / "own.yaml").write_bytes(b"base: \xff"), "is not UTF-8"),
    "a card that multiplies": (lambda d: (d / "own.yaml").write_text("base: &a [x]\non: *a\n"), "write the value out"),
    "a card without a change": (lambda d: (d / "own.yaml").write_text("base: b\nbehaviour: c\n"), "adapter"),
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair of one's own as a folder, with its card."""
    folder = tmp_path_factory.mktemp("whole")
    save_pair(folder, "qwen2")
    (folder / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: behaviour.json\n")
    return folder


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.slow
def test_a_pair_that_cannot_be_used_stops_no_other(tmp_path: Path, whole: Path, kind: str) -> None:
    damage, reason = DAMAGES[kind]
    shutil.copytree(whole, tmp_path / "bad")
    damage(tmp_path / "bad")
    out = bench("run", "-m", "oracle", "-o", "bad/own.yaml,taboo", "--limit", "9", code=1)
    said = " ".join(out.split())
    assert reason in said and "diffbench-" not in said
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("result.json")]
    assert ("taboo/gold-narrow", "ok") in [(r["identity"]["organism"], r["status"]) for r in records]
    for r in records:
        assert r["status"] == "ok" or reason in r["reason"]


def test_a_family_file_that_raises_stops_no_organism(tmp_path: Path) -> None:
    (tmp_path / "mood.py").write_text("raise RuntimeError('half written')\n")
    out = bench("run", "-m", "oracle", "-o", "mood.py,taboo", "--limit", "9", code=1)
    assert "mood.py was left out" in out and "half written" in out and "1.00 [1.00, 1.00]" in out


@pytest.mark.slow
def test_a_method_that_does_not_import_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "good.py").write_text(METHOD)
    out = bench("run", "-m", "bad.py,good.py", "-o", "taboo", "--limit", "9", code=1)
    assert "bad.py was left out" in out and "a_package_that_is_not_installed" in out and "last_token" in out


def test_all_means_the_others_where_one_organism_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bases/tiny-gemma2", "taboo/gold-narrow", "taboo/gold-mixed"):
        shutil.copytree(registry.ZOO / name, tmp_path / "zoo" / name)
    monkeypatch.setattr(registry, "ZOO", tmp_path / "zoo")
    cut(tmp_path / "zoo" / "taboo" / "gold-narrow" / "adapter_model.safetensors")
    out = bench("run", "-m", "oracle", "-o", "all", "--limit", "9", code=1)
    assert "taboo/gold-narrow was left out" in out and "sha256 differs" in " ".join(out.split())
    assert "taboo/gold-mixed" in out


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_a_pair_that_no_memory_holds_stops_no_other(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    load = Stage.load

    def tight(organism: Organism, *rest: Any) -> Stage:
        if organism.name == "taboo/gold-mixed":
            raise error
        return load(organism, *rest)

    monkeypatch.setattr(Stage, "load", tight)
    out = bench("run", "-m", "oracle", "-o", "taboo/gold-mixed,taboo", "--limit", "9", code=1)
    assert "the memory does not hold this pair" in out and "1.00 [1.00, 1.00]" in out


@pytest.mark.slow
def test_pairs_that_share_a_behaviour_are_measured_each_on_its_own_models(tmp_path: Path, whole: Path) -> None:
    """A ladder of adapters has one behaviour file: their rows once all came from the first pair's models."""
    for name, scale in (("one", 1.0), ("two", 0.5)):
        shutil.copytree(whole, tmp_path / name)
        weights = tmp_path / name / "adapter" / "adapter_model.safetensors"
        save_file({k: v * scale for k, v in load_file(weights).items()}, weights)

    def rates(*names: str, out: str) -> list[float]:
        cards = ",".join(f"{n}/own.yaml" for n in names)
        found = json.loads(bench("run", "-m", "oracle", "-o", cards, "--out", out, "--json"))
        return [r["behaviour"]["b1_test"] for r in (found if isinstance(found, list) else [found])]

    alone = rates("one", out="a") + rates("two", out="b")
    assert alone[0] != alone[1] and rates("one", "two", out="c") == alone


def test_a_wrong_name_stops_everything_before_anything_runs(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "bad")
    (tmp_path / "bad" / "own.yaml").write_text("base: [")
    assert "did you mean 'taboo'" in bench("run", "-m", "random", "-o", "bad/own.yaml,null,tabu", code=2)
    assert not list(tmp_path.rglob("result.json"))
