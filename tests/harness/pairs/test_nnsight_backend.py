"""nnsight runs the same passes to the same numbers, here and on (a stand-in of) NDIF, or says why it cannot."""

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.anatomy import PairError, anatomy
from diffbench.harness.pairs.engine import Engine
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.nnsight_backend import library, names
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.sides import SIDES, plain
from diffbench.harness.parallel import in_threads
from diffbench.organisms.errors import PrerequisiteError, UsageError
from diffbench.organisms.hub.sources import PairSource

from .kinds import IDS, save_adapter, save_base
from .ndif import Ndif

pytest.importorskip("nnsight", reason="nnsight, a dependency of diffbench, is not installed")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
KEEP = torch.tensor([3, 17, 39])
PROMPTS = [[5, 6, 7], [9], [8, 11, 12, 13]]


def answers(pair: Pair) -> dict[str, Any]:
    """Everything a backend answers, on both sides."""
    found: dict[str, Any] = {}
    for side in SIDES:
        h = pair.residuals(IDS, side)
        edited = h + torch.linspace(-1, 1, h.shape[-1])
        found |= {
            f"{side} residuals": h,
            f"{side} resumed": pair.resume(edited, IDS, side),
            f"{side} resumed where it is read": pair.resume(edited, IDS, side, KEEP),
            f"{side} logits": pair.logits(IDS, side),
            f"{side} logits where they are read": pair.logits(IDS, side, KEEP),
            f"{side} greedy": pair.generate(PROMPTS, side, 6),
            f"{side} patchscope": pair.patchscope(torch.eye(pair.d_model)[:2]),
        }
    return found


def check_equal(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Tensors to 1e-5, tokens exactly."""
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(theirs[name], value, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")
        else:
            assert theirs[name] == value, name


@pytest.mark.parametrize("kind", ["gemma2", "llama3", "qwen2"])
def test_a_second_engine_gives_the_same_numbers(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(tmp_path / "base", kind)
    adapter = save_adapter(tmp_path / "adapter", base, kind)
    own = load_pair(base, adapter, 2)
    ours, drawn = answers(own), own.generate(PROMPTS, "tuned", 6, seed=3)
    for name in ("residuals", "ends", "unembed", "logits", "generate"):  # from here on ours cannot have run
        monkeypatch.delattr(Engine, name)
    pair = load_pair(base, adapter, 2, backend="nnsight")
    check_equal(answers(pair), ours)
    assert pair.generate(PROMPTS, "tuned", 6, seed=3) == drawn
    assert torch.equal(
        pair.at(1).residuals(IDS, "tuned"),
        own.at(1)._engine.bodies["tuned"].model(input_ids=IDS, output_hidden_states=True).hidden_states[2],
    )


@pytest.mark.parametrize("made_of", ["two whole models", "a stack"])
def test_whatever_a_pair_is_made_of(tmp_path: Path, made_of: str) -> None:
    base = save_base(tmp_path / "base")
    lower = save_adapter(tmp_path / "lower", base)
    source = (
        PairSource(base, tuned=save_base(tmp_path / "tuned", seed=5))
        if made_of == "two whole models"
        else PairSource(base, save_adapter(tmp_path / "upper", base, seed=2, on=lower), on=lower)
    )
    check_equal(answers(load_pair(source, layer=1, backend="nnsight")), answers(load_pair(source, layer=1)))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    base = save_base(tmp_path / "base")
    return load_pair(base, save_adapter(tmp_path / "adapter", base), 1, backend="nnsight")


def test_blocks_above_the_hooked_layer_do_not_run(pair: Pair) -> None:
    ran: list[int] = []
    for n, block in enumerate(anatomy(plain(pair.model)).blocks):
        block.register_forward_pre_hook(lambda *_, n=n: ran.append(n))
    pair.residuals(IDS, "tuned")
    assert ran == [0, 1]


def test_threads_take_turns_with_one_model(pair: Pair) -> None:
    rows = [torch.arange(7 + n, 27 + n)[None] for n in range(12)]
    sides = ["base", "tuned"] * 6
    one_by_one = [pair.residuals(ids, side) for ids, side in zip(rows, sides, strict=True)]
    torch.set_num_threads(4)
    try:
        together = list(in_threads(lambda n: pair.residuals(rows[n], sides[n]), range(12), torch.device("cpu")))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(together, one_by_one, strict=True))


def test_the_model_is_whole_again_after_an_error(pair: Pair) -> None:
    before = {side: pair.logits(IDS, side) for side in SIDES}
    for keep in (0, torch.tensor([1])):
        with pytest.raises(RuntimeError):
            pair.resume(torch.zeros(2, 3, 5), IDS, "base", keep)
    assert all(torch.equal(pair.logits(IDS, side), before[side]) for side in SIDES)


def test_the_library_leaves_other_objects_alone(pair: Pair) -> None:
    pair.residuals(IDS, "base")
    assert not hasattr(5, "save")


def test_it_is_imported_only_where_it_is_asked_for() -> None:
    code = "import sys, diffbench.cli, diffbench.harness.pairs.loading, diffbench.harness.runs.cell; print('nnsight' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


GIVEN = {"base": "org/model", "adapter": "org/adapter"}


@pytest.fixture
def ndif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Ndif, None, None]:
    """A running stand-in of NDIF that has `GIVEN`, with nnsight's client pointed at it and the hub knowing every name."""
    from types import SimpleNamespace

    base = save_base(tmp_path / "base")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, repo: SimpleNamespace(id=repo))
    ndif = Ndif(GIVEN["base"], base, {GIVEN["adapter"]: save_adapter(tmp_path / "adapter", base)}, "a key")
    with ndif.running() as address:
        monkeypatch.setattr(library().CONFIG.API, "HOST", address)
        monkeypatch.setattr(library().CONFIG.API, "APIKEY", "a key")
        yield ndif


@pytest.mark.slow
def test_ndif_runs_both_sides_under_their_names(tmp_path: Path, ndif: Ndif) -> None:
    source = PairSource(tmp_path / "base", tmp_path / "adapter")
    pair = load_pair(source, layer=2, backend="nnsight", remote=GIVEN)
    for model in {id(m): m for m in pair._first.models.values()}.values():
        model.forward = None  # what is here cannot have run
    check_equal(answers(pair), answers(load_pair(source, layer=2)))
    pair.generate(PROMPTS, "tuned", 6, seed=3)
    assert {asked["model_key"] for asked in ndif.asked} == {
        'nnsight.modeling.transformers.TransformersModel:{"repo_id": "org/model", "revision": null, "task": "text-generation"}'
    }
    assert {asked["env"].get("peft") for asked in ndif.asked} == {None, "org/adapter"}


def test_a_sample_on_ndif_follows_the_seed(tmp_path: Path, ndif: Ndif) -> None:
    pair = load_pair(PairSource(tmp_path / "base", tmp_path / "adapter"), layer=2, backend="nnsight", remote=GIVEN)
    drawn = [pair.generate(PROMPTS, "tuned", 8, seed=seed) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("adapter", ["not applied", "another"])
def test_an_adapter_that_ndif_does_not_apply_is_noticed(tmp_path: Path, ndif: Ndif, adapter: str) -> None:
    other = save_adapter(tmp_path / "another", tmp_path / "base", seed=9)
    ndif.adapters[GIVEN["adapter"]] = other if adapter == "another" else None
    error, said = {
        "another": (PairError, "NDIF's tuned model is not the one that was loaded here"),
        "not applied": (PrerequisiteError, "did not run the model: .*base_layer"),
    }[adapter]
    with pytest.raises(error, match=said):
        load_pair(PairSource(tmp_path / "base", tmp_path / "adapter"), layer=2, backend="nnsight", remote=GIVEN)


def test_another_base_behind_the_name_is_noticed(tmp_path: Path, ndif: Ndif) -> None:
    other = save_base(tmp_path / "other", seed=7)
    source = PairSource(other, save_adapter(tmp_path / "its", other))
    with pytest.raises(PairError, match="NDIF's base model is not the one"):
        load_pair(source, layer=2, backend="nnsight", remote=GIVEN)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("no key", "wants a key and none is set"),
        ("wrong key", "this key is not known"),
        ("no server", "did not run the model"),
        ("not deployed", "org/model is not deployed"),
        ("no hub", "could not be looked up on the hub"),
    ],
)
def test_what_is_missing_on_the_way_to_ndif_is_said(
    tmp_path: Path, ndif: Ndif, monkeypatch: pytest.MonkeyPatch, trouble: str, said: str
) -> None:
    api = library().CONFIG.API
    if trouble == "no key":
        monkeypatch.setattr(api, "HOST", "https://api.ndif.us")
        monkeypatch.setattr(api, "APIKEY", None)
    elif trouble == "wrong key":
        monkeypatch.setattr(api, "APIKEY", "another")
    elif trouble == "no server":
        monkeypatch.setattr(api, "HOST", "http://127.0.0.1:9")
    elif trouble == "not deployed":
        ndif.name = "org/other"
    else:
        from nnsight.modeling import huggingface

        huggingface._ID_CACHE.clear()
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, repo: 1 / 0)
    with pytest.raises(PrerequisiteError, match=said) as refused:
        load_pair(PairSource(tmp_path / "base", tmp_path / "adapter"), layer=2, backend="nnsight", remote=GIVEN)
    assert refused.value.exit_code == 3 and "--remote" in str(refused.value)


def test_a_way_of_decoding_that_ndif_would_add_is_refused(tmp_path: Path, ndif: Ndif) -> None:
    (tmp_path / "base" / "generation_config.json").write_text('{"suppress_tokens": [5], "repetition_penalty": 1.3}')
    with pytest.raises(PrerequisiteError, match="sets suppress_tokens, and NDIF would obey it"):
        load_pair(PairSource(tmp_path / "base", tmp_path / "adapter"), layer=2, backend="nnsight", remote=GIVEN)


def test_a_repetition_penalty_of_the_deployment_has_no_say(tmp_path: Path, ndif: Ndif) -> None:
    ndif.model._module.generation_config.repetition_penalty = 5.0
    source = PairSource(tmp_path / "base", tmp_path / "adapter")
    pair = load_pair(source, layer=2, backend="nnsight", remote=GIVEN)
    ours = load_pair(source, layer=2)
    assert pair.generate(PROMPTS, "tuned", 12) == ours.generate(PROMPTS, "tuned", 12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"organism": "taboo/gold-narrow"}, "the base is an embedded organism"),
        ({"base": "./folder", "adapter": "org/adapter"}, "the base is ./folder"),
        ({"base": "org/model", "adapter": "/home/me/adapter"}, "the adapter is /home/me/adapter"),
        ({"base": "org/model", "adapter": "org/adapters/third"}, "the adapter is org/adapters/third"),
        ({"base": "org/model", "adapter": "org/adapter@v2"}, "cannot be asked for at a revision"),
        ({"base": "org/model", "adapter": "org/adapter", "on": "org/lower"}, "a stack"),
    ],
)
def test_what_has_no_name_on_ndif_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        names(given)


def test_a_revision_of_the_base_and_a_second_model_have_names() -> None:
    found = names({"base": "org/model@v1", "tuned": "org/tuned@v2"})
    assert (found.base, found.revision, found.tuned, found.tuned_revision) == ("org/model", "v1", "org/tuned", "v2")
