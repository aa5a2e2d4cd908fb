"""Dictionary files that are damaged, foreign, unsafe or unclear are refused, and the message says why."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.methods.formats import CARD, FORMATS, read_dictionary
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from safetensors.torch import load_file, save_file
from torch import Tensor

from .dictionary_files import D, N, dictionary, dictionary_learning_files, saelens_files, sparsify_files, written


def refused(error: type[DiffbenchError], match: str, folder: Path, **hints: Any) -> None:
    with pytest.raises(error, match=match):
        read_dictionary(folder, **hints)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_coder_with_two_thresholds_is_no_jkminder_crosscoder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"runs from .* keeps one.*use --to saelens"):
        written(dictionary(sizes=(24, 40)), "jkminder", tmp_path / "a")
    with pytest.raises(UsageError, match="crosscoders of two models"):
        written(dictionary("difference"), "jkminder", tmp_path / "b")


@pytest.mark.parametrize("form", ["native", "saelens", "jkminder"])
@pytest.mark.parametrize("card", [True, False])
def test_damaged_weights_are_refused(form: str, card: bool, tmp_path: Path) -> None:
    folder = written(dictionary(), form, tmp_path / "out")
    weights = folder / FORMATS[form].weights
    whole = weights.read_bytes()
    if not card and form != "native":
        (folder / CARD).unlink()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(ValidationFailed, "damaged", folder)
    weights.write_bytes(b"")
    refused(ValidationFailed, "damaged", folder)
    weights.unlink()
    refused(PrerequisiteError, "holds no dictionary; expected one of", folder)
    refused(PrerequisiteError, "there is no", folder, name=form)
    refused(PrerequisiteError, "there is no folder", tmp_path / "nowhere")


def test_weights_that_are_not_the_cards_are_refused(tmp_path: Path) -> None:
    folder = written(dictionary(), "saelens", tmp_path / "out")
    edit_tensors(folder / "sae_weights.safetensors", lambda t: t["b_enc"].add_(1))
    refused(ValidationFailed, "its sha256 differs", folder)
    (folder / CARD).write_text("{")
    refused(ValidationFailed, "is not a dictionary card", folder)
    native = written(dictionary(), "native", tmp_path / "native")
    edit_json(native / CARD, n_latents=N + 1)
    refused(ValidationFailed, "groups hold 64 latents", native)
    (native / CARD).unlink()
    refused(ValidationFailed, "no dictionary.json", native)


def drop(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda t: t.pop(name)


def put(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda t: t.update({name: value})


TENSOR_EDITS = [
    (drop("threshold"), "has no threshold"),  # peers load this as a ReLU SAE
    (drop("W_dec"), "has no W_dec"),
    (put("W_skip", torch.zeros(D, D)), "also holds W_skip"),
    (put("b_enc", torch.zeros(N + 1)), r"b_enc has shape \[65\], expected \[n = 64\]"),
    (put("W_dec", torch.zeros(D, N)), r"W_dec has shape \[16, 64\], expected \[n = 64, D = 16\]"),
    (put("b_dec", torch.full((D,), math.nan)), "b_dec contains NaN"),
    (put("threshold", torch.full((N,), math.inf)), "threshold contains NaN or infinity"),
]


@pytest.mark.parametrize(("change", "match"), TENSOR_EDITS, ids=[m for _, m in TENSOR_EDITS])
def test_tensors_that_are_not_the_formats_are_refused(
    change: Callable[[dict[str, Tensor]], object], match: str, tmp_path: Path
) -> None:
    saelens_files(tmp_path)
    edit_tensors(tmp_path / "sae_weights.safetensors", change)
    refused(ValidationFailed, match, tmp_path, inputs="ft")


SAELENS_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"architecture": "topk"}, "architecture 'topk'"),
    ({"architecture": None}, "architecture None"),
    ({"architecture": "standard"}, "also holds threshold"),
    ({"normalize_activations": "layer_norm"}, "normalize_activations to 'layer_norm'"),
    ({"reshape_activations": "hook_z"}, "reshape_activations to 'hook_z'"),
    ({"metadata": {}}, "SAELens none"),
    ({"metadata": {"sae_lens_version": "5.10.7"}}, r"SAELens 5\.10\.7"),
    (
        {"metadata": {"sae_lens_version": "6.1.0", "diffbench_inputs": "both", "hook_name": 3}},
        "inputs: Input should be",
    ),
    ({"d_sae": 2 * N}, "says d_sae 128, the weights beside it have 64"),
]


@pytest.mark.parametrize(("config", "match"), SAELENS_CONFIGS, ids=[m for _, m in SAELENS_CONFIGS])
def test_saelens_settings_that_are_no_jumprelu_are_refused(config: dict[str, Any], match: str, tmp_path: Path) -> None:
    saelens_files(tmp_path, **config)
    refused(ValidationFailed, match, tmp_path, inputs=None if "inputs" in match else "ft")


JKMINDER: list[tuple[dict[str, Any], Callable[[dict[str, Tensor]], object], str]] = [
    ({"code_normalization": "DECOUPLED"}, put("threshold", torch.zeros(2)), "DECOUPLED"),
    ({}, put("code_normalization_id", torch.tensor(2)), "another normalisation than CROSSCODER"),
    ({}, put("k", torch.zeros(2)), r"k has shape \[2\]"),
    ({}, drop("threshold"), "has no threshold"),
    ({}, put("threshold", torch.tensor(-1.0)), "before it was ever set"),
    ({"encoder_layers": [1]}, drop("target_rms"), "sets encoder_layers"),
    ({"num_layers": 3}, drop("target_rms"), "says num_layers 3"),
    ({}, put("decoder.weight", torch.zeros(1, N, D)), "decoder.weight has shape"),
    ({}, put("activation_mean", torch.zeros(2, D)), "normaliser is damaged"),
]


@pytest.mark.parametrize(("config", "change", "match"), JKMINDER, ids=[m for *_, m in JKMINDER])
def test_other_crosscoders_are_refused(
    config: dict[str, Any], change: Callable[[dict[str, Tensor]], object], match: str, tmp_path: Path
) -> None:
    folder = written(dictionary(), "jkminder", tmp_path / "out")
    (folder / CARD).unlink()
    edit_json(folder / "config.json", **config)
    edit_tensors(folder / "model.safetensors", change)
    refused(ValidationFailed, match, folder)


class Bomb:
    """Unpickling it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_nothing_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dictionary_learning_files(tmp_path)
    torch.save({"encoder.weight": Bomb()}, tmp_path / "ae.pt")
    refused(ValidationFailed, "never unpickled", tmp_path, inputs="ft")
    assert not (tmp_path / "exploded").exists()
    torch.save({"k": 3}, tmp_path / "ae.pt")
    refused(ValidationFailed, "not a state_dict of tensors", tmp_path, inputs="ft")
    tensors = dictionary_learning_files(tmp_path)
    whole = (tmp_path / "ae.pt").read_bytes()
    (tmp_path / "ae.pt").write_bytes(whole[: len(whole) // 2])
    refused(ValidationFailed, "damaged", tmp_path, inputs="ft")
    torch.save(tensors | {"threshold": torch.tensor(-1.0)}, tmp_path / "ae.pt")
    refused(ValidationFailed, "before it was ever set", tmp_path, inputs="ft")
    dictionary_learning_files(tmp_path, dict_class="AutoEncoderTopK")
    refused(ValidationFailed, "dict_class 'AutoEncoderTopK'", tmp_path, inputs="ft")


@pytest.mark.parametrize(
    "config", [{"transcode": True}, {"skip_connection": True}, {"activation": "groupmax"}, {"k": None}]
)
def test_sparsify_coders_that_are_no_topk_sae_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    sparsify_files(tmp_path, **config)
    refused(ValidationFailed, f"{next(iter(config))}", tmp_path, inputs="ft")


def test_what_is_coded_must_be_known_and_is_never_said_twice(tmp_path: Path) -> None:
    saelens_files(tmp_path)
    refused(UsageError, "does not say which residual it codes; give --inputs", tmp_path)
    refused(UsageError, "did you mean 'base'", tmp_path, inputs="bas")
    refused(UsageError, "says layer 3, not 2", tmp_path, inputs="ft", layer=2)
    assert read_dictionary(tmp_path, inputs="concat").card.d_model == D // 2
    folder = written(dictionary(), "saelens", tmp_path / "out")
    refused(UsageError, "says inputs 'concat', not 'ft'", folder, inputs="ft")
    refused(UsageError, "did you mean 'saelens'", folder, name="saelen")
    (folder / "ae.pt").write_bytes(b"")
    refused(UsageError, "several dictionaries", folder)
    with pytest.raises(UsageError, match="sparsify is read only; use --to native, jkminder, saelens"):
        written(dictionary(), "sparsify", tmp_path / "sp")
