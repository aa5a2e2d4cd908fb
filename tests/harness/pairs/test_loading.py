"""What is known before weights are read, and what a folder may hold beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs import loading, preflight
from diffbench.harness.pairs.adapters import delta_weights
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.preflight import check_memory, free_on_host
from diffbench.harness.pairs.sides import SIDES, Residents, share
from diffbench.organisms.errors import PrerequisiteError, UsageError
from diffbench.organisms.hub.sources import PairSource
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from .kinds import CONFIGS, IDS, edit, save_adapter, save_base
from .test_kinds_of_pairs import full_fine_tune

GIB = 2**30


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return save_adapter(tmp_path / "adapter", base)


def of_size(folder: Path, bytes_: int, kind: str = "F32") -> Path:
    """A folder whose weights file says that it holds so much, in its header alone."""
    folder.mkdir()
    header = json.dumps({"w": {"dtype": kind, "shape": [bytes_], "data_offsets": [0, bytes_]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free bytes of the host and of one CUDA device."""
    free = {"host": 64 * GIB, "cuda": 16 * GIB}
    monkeypatch.setattr(preflight, "free_on_host", lambda: free["host"])
    monkeypatch.setattr(preflight, "free_on", lambda device: free["cuda"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return free


@pytest.mark.parametrize(
    ("each", "fits"),
    [([10 * GIB], True), ([10 * GIB, 10 * GIB], True), ([60 * GIB], False), ([26 * GIB, 26 * GIB], "in turns")],
)
def test_memory_of_an_accelerator_is_planned_from_headers(
    tmp_path: Path, memory: dict[str, int], each: list[int], fits: bool | str
) -> None:
    folders = [of_size(tmp_path / str(n), size) for n, size in enumerate(each)]
    if fits:
        assert check_memory(folders, torch.bfloat16, "cuda") is (fits == "in turns")
    else:
        with pytest.raises(
            PrerequisiteError,
            match=r"need 34\.5 GiB in bfloat16 and 16\.0 GiB are free on cuda; --device-map auto spreads it over devices, "
            r"a model of at most 7\.5 billion parameters fits",
        ):
            check_memory(folders, torch.bfloat16, "cuda")
        assert check_memory(folders, torch.bfloat16, "cuda", "auto") is False


def test_two_models_that_the_host_cannot_hold_do_not_take_turns(tmp_path: Path, memory: dict[str, int]) -> None:
    folders = [of_size(tmp_path / str(n), 26 * GIB) for n in range(2)]
    memory["host"] = 20 * GIB
    with pytest.raises(PrerequisiteError, match=r"16\.0 GiB are free on cuda"):
        check_memory(folders, torch.bfloat16, "cuda")


def test_packed_weights_stay_as_they_are_and_floats_take_the_dtype(tmp_path: Path, memory: dict[str, int]) -> None:
    memory["host"] = 12 * GIB
    assert check_memory([of_size(tmp_path / "packed", 10 * GIB, "U8")], torch.float32, "cpu") is False
    with pytest.raises(PrerequisiteError, match=r"need 23\.0 GiB in float32.*--dtype bfloat16 halves it"):
        check_memory([of_size(tmp_path / "halves", 10 * GIB, "BF16")], torch.float32, "cpu")


def test_the_same_weights_in_one_more_file_are_not_counted(base: Path, adapter: Path, memory: dict[str, int]) -> None:
    shutil.copy(base / "model.safetensors", base / "consolidated.safetensors")
    memory["host"] = int(1.2 * (base / "model.safetensors").stat().st_size)
    assert load_pair(base, adapter, 2).layer == 2


def test_a_container_has_the_memory_that_it_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CGROUP", tmp_path)
    (tmp_path / "memory.stat").write_text("anon 300\nfile 9000\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_on_host() == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert free_on_host() > 10**6


@pytest.mark.parametrize("options", [{"device": "gpu"}, {"dtype": "bf16"}, {"dtype": "float64"}])
def test_an_option_that_means_nothing_is_a_usage_error(base: Path, adapter: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=rf"--{next(iter(options))} .*use "):
        load_pair(base, adapter, 2, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_here_is_a_missing_prerequisite(base: Path, adapter: Path) -> None:
    with pytest.raises(PrerequisiteError, match="torch sees no CUDA device"):
        load_pair(base, adapter, 2, "cuda")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_loaded_on_request(base: Path, adapter: Path, dtype: str) -> None:
    pair = load_pair(base, adapter, 2, dtype=dtype)
    assert pair.dtype == getattr(torch, dtype)
    far = (pair.logits(IDS, "tuned") - load_pair(base, adapter, 2).logits(IDS, "tuned")).abs().max()
    assert 0 < far < 0.05


def test_a_layer_that_does_not_exist_is_refused_before_weights_are_read(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("weights were read"))
    for layer in (-1, 4):
        with pytest.raises(PairError, match=f"layer {layer} does not exist; the model has blocks 0 to 3"):
            load_pair(base, adapter, layer)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_damaged_file_of_weights_is_told_by_its_name(base: Path, adapter: Path, keep: int) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="60KB")
    shard = sorted(base.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(PairError, match=f"{shard.name} is damaged.*fetch it again"):
        load_pair(base, adapter, 2)


def test_a_header_longer_than_the_format_allows_is_not_read(base: Path, adapter: Path) -> None:
    (base / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(PairError, match=r"model\.safetensors is damaged: .*1,152,921,504,606,846,976 bytes"):
        load_pair(base, adapter, 2)


def test_a_model_with_an_adapter_in_its_folder_is_refused(base: Path, adapter: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, base)
    with pytest.raises(PairError, match="holds an adapter beside a model, and loading would apply it"):
        load_pair(base, adapter, 2)


CODE: dict[str, dict[str, Any]] = {
    "a tokenizer of its own": {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.T", None]}},
    "a model of its own": {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"},
    },
    "code of another repository": {"model_type": "mine", "auto_map": {"AutoConfig": "evil/repo--mine.C"}},
}


@pytest.mark.parametrize("kind", CODE)
def test_code_that_a_base_brings_is_not_run_and_nobody_is_asked(
    tmp_path: Path, base: Path, adapter: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(base / ("tokenizer_config.json" if "AutoTokenizer" in str(CODE[kind]) else "config.json"), **CODE[kind])
    (base / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *a: pytest.fail("asked on the terminal"))
    with pytest.raises(
        PairError, match="code of its own, which is never run; give a model whose class transformers has"
    ):
        load_pair(base, adapter, 2)
    assert not (tmp_path / "ran").exists()


def test_a_known_architecture_is_run_by_its_own_class_whatever_code_lies_beside(base: Path, adapter: Path) -> None:
    before = load_pair(base, adapter, 2).logits(IDS, "tuned")
    edit(base / "config.json", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    (base / "mine.py").write_text("raise SystemExit('ran')")
    assert torch.equal(load_pair(base, adapter, 2).logits(IDS, "tuned"), before)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_that_a_base_names_is_not_fetched(base: Path, adapter: Path, key: str) -> None:
    before = load_pair(base, adapter, 2).logits(IDS, "tuned")
    edit(base / "config.json", **{key: "evil/kernel"})
    assert torch.equal(load_pair(base, adapter, 2).logits(IDS, "tuned"), before)


def test_a_token_without_an_embedding_is_told_by_its_name(base: Path, adapter: Path) -> None:
    pair = load_pair(base, adapter, 2)
    pair.tokenizer.add_tokens("<image>")
    new = pair.tokenizer.convert_tokens_to_ids("<image>")
    for read in (lambda: pair.pad([[7, new]]), lambda: pair.generate([[new]], "base", 2)):
        with pytest.raises(PairError, match=rf"a token '<image>' \(id {new}\) and the model {new} embeddings"):
            read()


def test_two_models_take_turns_where_a_device_holds_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PairSource(base, tuned=full_fine_tune(tmp_path / "tuned", base))
    both = load_pair(source)
    monkeypatch.setattr(loading, "check_memory", lambda *a: True)
    turns = load_pair(source)
    assert isinstance(turns._between, Residents) and turns.layer == both.layer == 1
    for side in (*SIDES, *SIDES):
        h = turns.residuals(IDS, side)
        assert turns._between.here == side
        assert torch.equal(h, both.residuals(IDS, side))
        assert torch.equal(turns.resume(h, IDS, side), both.logits(IDS, side))
        assert turns.generate([[7, 8, 9]], side, 5) == both.generate([[7, 8, 9]], side, 5)
    delta, expected = turns.weight_changes(), both.weight_changes()
    assert delta.keys() == expected.keys() != set()
    assert all(torch.equal(delta[name], expected[name]) for name in delta)
    assert torch.equal(turns.at(0).lens(torch.eye(32)), both.lens(torch.eye(32)))


class Elsewhere(Residents):
    """A device that is told from the host by the place of its tensors."""

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()


def test_only_what_differs_changes_places_and_what_is_equal_stands_there_once(base: Path) -> None:
    models = {side: AutoModelForCausalLM.from_pretrained(base) for side in SIDES}
    changed = "model.layers.1.mlp.down_proj.weight"
    dict(models["tuned"].named_parameters())[changed].data += 1
    share(models["base"], models["tuned"])

    def places(side: str) -> dict[str, int]:
        return {name: p.data_ptr() for name, p in models[side].named_parameters()}

    values = {side: {n: p.detach().clone() for n, p in models[side].named_parameters()} for side in SIDES}
    host = {side: places(side) for side in SIDES}
    turns = Elsewhere(models, "cpu")
    for side, other in (SIDES, reversed(SIDES), SIDES):
        with turns.on(side):
            here, away = places(side), places(other)
            assert all(here[n] != host[side][n] for n in here)
            assert {n for n in away if away[n] == host[other][n]} == {changed}
            assert {n for n in away if away[n] != here[n]} == {changed}
            with turns.on(other):
                assert turns.here == other
            assert turns.here == side
            assert all(torch.equal(p, values[s][n]) for s in SIDES for n, p in models[s].named_parameters())


def test_the_change_of_packed_weights_is_not_made_up() -> None:
    def blocks() -> nn.ModuleList:
        linear = nn.Linear(2, 3, bias=False)
        linear.weight = nn.Parameter(torch.randint(0, 255, (3, 2)).to(torch.uint8), requires_grad=False)
        return nn.ModuleList([nn.Sequential(linear)])

    with pytest.raises(PairError, match=r"packed as torch\.uint8 by quantisation, so their change cannot be read"):
        list(delta_weights(blocks(), blocks(), 0, []))


def test_a_fine_tune_with_a_token_of_its_own_is_refused_with_the_sizes(tmp_path: Path, base: Path) -> None:
    tuned = full_fine_tune(tmp_path / "tuned", base)
    path = tuned / "tokenizer.json"
    path.write_text(path.read_text().replace('"gold"', '"golden"'))
    size = CONFIGS["llama2"].vocab_size
    with pytest.raises(PairError, match=rf"\({size:,} tokens\) .* \({size:,}\) differ in 2 tokens \(first: 'gold'\)"):
        load_pair(PairSource(base, tuned=tuned))


def test_an_adapter_and_a_second_model_are_one_too_many(tmp_path: Path, base: Path, adapter: Path) -> None:
    tuned = full_fine_tune(tmp_path / "tuned", base)
    with pytest.raises(UsageError, match="either an adapter or a second model"):
        load_pair(PairSource(base, adapter, tuned=tuned))


def test_weights_that_a_configuration_does_not_speak_of_are_refused(base: Path, adapter: Path) -> None:
    weights = load_file(base / "model.safetensors")
    extra = {"model.layers.9.mlp.down_proj.weight": torch.zeros(32, 48)}
    save_file(weights | extra, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(PairError, match=r"holds weights of model\.layers\.9, and its config.json speaks of 4 blocks"):
        load_pair(base, adapter, 2)
