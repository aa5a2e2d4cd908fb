"""Dictionaries in the formats of the field: the codes stay the same, whoever computes them, and what cannot be said is refused."""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.dictionaries import load, of_run, save
from diffbench.methods.dictionary import TopKCoder
from diffbench.methods.formats import (
    CARD,
    FORMATS,
    CodeGroup,
    Dictionary,
    DictionaryCard,
    read_dictionary,
    write_dictionary,
)
from diffbench.methods.sparse_coder import Group, Inputs, Selection, SparseCoder
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from ..factories import make_result, write_result

D, N, K = 16, 64, 6
"""Residual width, latents, k of the peers' SAEs."""


def residuals(tokens: int = 512, seed: int = 1) -> Tensor:
    """Paired raw residuals [tokens, 2, D], off-centre and of different scales."""
    g = torch.Generator().manual_seed(seed)
    h_B2d = torch.randn(tokens, 2, D, generator=g) * torch.tensor([3.0, 4.0])[:, None]
    return h_B2d + torch.linspace(-2, 2, D)


def dictionary(
    inputs: Inputs = "concat", sizes: tuple[int, ...] = (N,), selection: Selection = "batch_topk"
) -> Dictionary:
    """A coder with a fitted normaliser, random rows, and another threshold for every group."""
    g = torch.Generator().manual_seed(0)
    groups = [Group(size, k=3.0 + i) for i, size in enumerate(sizes)]
    coder = SparseCoder(D, groups, selection, inputs)
    coder.fit_normaliser(residuals(seed=0))
    with torch.no_grad():
        for p in coder.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3)
        coder.theta_G.copy_(0.15 * torch.arange(1.0, len(sizes) + 1))
    card = DictionaryCard(
        inputs=inputs,
        d_model=D,
        n_latents=sum(sizes),
        n_shared=sizes[0] if len(sizes) > 1 else 0,
        groups=tuple(CodeGroup(size=g.size, k=g.k) for g in groups),
        selection=selection,
        layer=2,
        hook="blocks.2.hook_resid_post",
        base="tiny-gemma2",
        method="delta",
        metrics={"l0": 3.5},
    )
    made = Dictionary(coder.raw(), card)
    codes = made.encode(residuals())
    torch.testing.assert_close(codes, coder.encode(coder.normalise(residuals())).dense(), atol=1e-5, rtol=0)
    assert 0.01 < float((codes > 0).float().mean()) < 0.6
    return made


def written(made: Dictionary, form: str, folder: Path) -> Path:
    folder.mkdir()
    write_dictionary(made, form, folder)
    return folder


def same_codes(a: Tensor, b: Tensor) -> None:
    assert float((a - b).abs().max()) <= 1e-5 and bool((a > 0).any())


# What each package computes, from its documented formula and nothing of ours.


def jkminder_codes(folder: Path, h_B2d: Tensor) -> Tensor:
    """f = ReLU(Σ_m x^m E_m + b); kept ⇔ f_j Σ_m ‖d_j^m‖ > θ. NaN statistics: no normaliser."""
    t = load_file(folder / "model.safetensors")
    if not t["activation_mean"].isnan().any():
        h_B2d = (h_B2d - t["activation_mean"]) * t["activation_global_scale"]
    f = torch.relu(torch.einsum("bld,ldf->blf", h_B2d, t["encoder.weight"]).sum(1) + t["encoder.bias"])
    if "threshold" not in t:
        return f
    return f * (f * t["decoder.weight"].norm(dim=2).sum(0, keepdim=True) > t["threshold"])


def saelens_codes(folder: Path, x_BD: Tensor) -> Tensor:
    """JumpReLU: ReLU(pre) · 1[pre > threshold], pre = (x − b_dec·apply_b_dec_to_input) W_enc + b_enc."""
    t, config = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
    pre = (x_BD - t["b_dec"] * config["apply_b_dec_to_input"]) @ t["W_enc"] + t["b_enc"]
    return torch.relu(pre) * (pre > t["threshold"])


def dictionary_learning_codes(t: dict[str, Tensor], x_Bd: Tensor) -> Tensor:
    f = torch.relu((x_Bd - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    return f * (f > t["threshold"])


def sparsify_codes(t: dict[str, Tensor], x_Bd: Tensor) -> Tensor:
    f = torch.relu((x_Bd - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    kept = f.argsort(dim=1, descending=True)[:, :K]
    return torch.zeros_like(f).scatter_(1, kept, f.gather(1, kept))


ROUND_TRIPS = [
    ("native", "concat", (24, 40), "batch_topk"),
    ("native", "concat", (N,), "l1"),
    ("native", "difference", (N,), "batch_topk"),
    ("saelens", "concat", (24, 40), "batch_topk"),
    ("saelens", "base", (N,), "batch_topk"),
    ("saelens", "ft", (N,), "l1"),
    ("saelens", "difference", (N,), "batch_topk"),
    ("jkminder", "concat", (N,), "batch_topk"),
    ("jkminder", "concat", (N,), "l1"),
]


@pytest.mark.parametrize(("form", "inputs", "sizes", "selection"), ROUND_TRIPS)
def test_codes_and_card_survive_a_round_trip(
    form: str, inputs: Inputs, sizes: tuple[int, ...], selection: Selection, tmp_path: Path
) -> None:
    made = dictionary(inputs, sizes, selection)
    back = read_dictionary(written(made, form, tmp_path / "out"))
    same_codes(made.encode(residuals()), back.encode(residuals()))
    codes = made.encode(residuals())
    torch.testing.assert_close(back.decode(codes), made.decode(codes), atol=1e-4, rtol=1e-5)
    assert back.card.model_copy(update={"weights_sha256": None}) == made.card


@pytest.mark.parametrize("form", ["saelens", "jkminder"])
def test_a_format_alone_keeps_the_codes_without_our_card(form: str, tmp_path: Path) -> None:
    made = dictionary()
    folder = written(made, form, tmp_path / "out")
    (folder / CARD).unlink()
    back = read_dictionary(folder)
    same_codes(made.encode(residuals()), back.encode(residuals()))
    assert (back.card.inputs, back.card.origin) == ("concat", form)


def test_jkminder_export_is_what_that_package_computes(tmp_path: Path) -> None:
    for selection, name in (("batch_topk", "BatchTopKCrossCoder"), ("l1", "CrossCoder")):
        made = dictionary(selection=selection)
        folder = written(made, "jkminder", tmp_path / selection)
        same_codes(jkminder_codes(folder, residuals()), made.encode(residuals()))
        assert json.loads((folder / "trainer_config.json").read_text())["trainer"]["dict_class"] == name
        config = json.loads((folder / "config.json").read_text())
        assert (config["activation_dim"], config["dict_size"], config["num_layers"]) == (D, N, 2)
        assert (config.get("k"), config["activation_mean"]) == (3 if name.startswith("Batch") else None, None)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_jkminder_crosscoder_with_a_normaliser_is_folded(prefix: str, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(3)
    std = torch.rand(2, D, generator=g) + 2.0
    tensors = {
        "encoder.weight": torch.randn(2, D, N, generator=g) * 0.1,
        "encoder.bias": torch.randn(N, generator=g) * 0.1,
        "decoder.weight": torch.randn(2, N, D, generator=g),
        "decoder.bias": torch.randn(2, D, generator=g),
        "k": torch.tensor(8, dtype=torch.int),
        "threshold": torch.tensor(4.0),
        "target_rms": torch.tensor(10.0),
        "activation_mean": torch.randn(2, D, generator=g),
        "activation_std": std,
        "activation_global_scale": 10.0 / (std.square().sum() + 1e-8).sqrt(),
    }
    tensors["decoder.weight"][:, 5] = 0  # f_5·N_5 = 0 never exceeds θ
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"activation_dim": D, "dict_size": N, "num_layers": 2, "k": 8}))
    expected = jkminder_codes(tmp_path, residuals())
    save_file({prefix + name: t for name, t in tensors.items()}, tmp_path / "model.safetensors")
    found = read_dictionary(tmp_path)
    same_codes(found.encode(residuals()), expected)
    assert not found.encode(residuals())[:, 5].any() and (expected > 0).float().mean() < 0.7
    scaled = torch.einsum("bn,mnd->bmd", expected, tensors["decoder.weight"]) + tensors["decoder.bias"]
    raw = scaled / (tensors["activation_global_scale"] + 1e-8) + tensors["activation_mean"]
    torch.testing.assert_close(found.decode(expected), raw, atol=1e-3, rtol=1e-5)
    assert found.card.groups == (CodeGroup(size=N, k=8),)


def test_saelens_export_is_a_jumprelu_over_the_concatenation(tmp_path: Path) -> None:
    made = dictionary(sizes=(24, 40))
    folder = written(made, "saelens", tmp_path / "out")
    same_codes(saelens_codes(folder, residuals().flatten(1)), made.encode(residuals()))
    config = json.loads((folder / "cfg.json").read_text())
    assert (config["d_in"], config["d_sae"], config["architecture"]) == (2 * D, N, "jumprelu")
    assert config["metadata"]["sae_lens_version"] == "6.0.0"  # without it their converter for old files runs
    assert config["metadata"]["hook_name"] == "blocks.2.hook_resid_post"


def saelens_files(folder: Path, **config: Any) -> dict[str, Tensor]:
    """A JumpReLU SAE over one residual that subtracts b_dec from its input and has a negative threshold."""
    g = torch.Generator().manual_seed(4)
    tensors = {
        "W_enc": torch.randn(D, N, generator=g) * 0.2,
        "b_enc": torch.randn(N, generator=g),
        "W_dec": torch.randn(N, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
        "threshold": torch.rand(N, generator=g),
    }
    tensors["threshold"][0] = -1.0
    save_file(tensors, folder / "sae_weights.safetensors")
    known = {"architecture": "jumprelu", "d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu"}
    known["apply_b_dec_to_input"] = True
    known["metadata"] = {"sae_lens_version": "6.18.0", "hook_name": "blocks.3.hook_resid_post", "model_name": "m"}
    (folder / "cfg.json").write_text(json.dumps(known | config))
    return tensors


def test_a_saelens_jumprelu_is_read(tmp_path: Path) -> None:
    saelens_files(tmp_path)
    found = read_dictionary(tmp_path, inputs="ft")
    same_codes(found.encode(residuals()), saelens_codes(tmp_path, residuals()[:, 1]))
    assert (found.card.layer, found.card.base, found.card.origin) == (3, "m", "saelens")


def dictionary_learning_files(folder: Path, **trainer: Any) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    tensors = {
        "encoder.weight": torch.randn(N, D, generator=g) * 0.2,
        "encoder.bias": torch.randn(N, generator=g),
        "decoder.weight": torch.nn.functional.normalize(torch.randn(D, N, generator=g), dim=0),
        "b_dec": torch.randn(D, generator=g),
        "k": torch.tensor(K, dtype=torch.int),
        "threshold": torch.tensor(0.7),
    }
    torch.save(tensors, folder / "ae.pt")
    known = {"dict_class": "BatchTopKSAE", "activation_dim": D, "dict_size": N, "k": K, "layer": 4, "lm_name": "m"}
    (folder / "config.json").write_text(json.dumps({"trainer": known | trainer, "buffer": {}}))
    return tensors


def test_a_dictionary_learning_batch_topk_sae_is_read(tmp_path: Path) -> None:
    tensors = dictionary_learning_files(tmp_path)
    found = read_dictionary(tmp_path, inputs="base")
    same_codes(found.encode(residuals()), dictionary_learning_codes(tensors, residuals()[:, 0]))
    assert (found.card.layer, found.card.groups) == (4, (CodeGroup(size=N, k=K),))
    assert read_dictionary(written(found, "saelens", tmp_path / "out")).card.base == "m"


def sparsify_files(folder: Path, **config: Any) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(6)
    tensors = {
        "encoder.weight": torch.randn(N, D, generator=g) * 0.2,
        "encoder.bias": torch.randn(N, generator=g),
        "W_dec": torch.randn(N, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"activation": "topk", "k": K, "num_latents": N, "d_in": D} | config))
    return tensors


def test_a_sparsify_topk_keeps_k_a_token_and_never_becomes_a_jumprelu(tmp_path: Path) -> None:
    tensors = sparsify_files(tmp_path / "layers.5")
    found = read_dictionary(tmp_path / "layers.5", inputs="ft")
    codes = found.encode(residuals())
    same_codes(codes, sparsify_codes(tensors, residuals()[:, 1]))
    assert (codes > 0).sum(1).max() == K and found.card.layer == 5
    back = read_dictionary(written(found, "native", tmp_path / "native"))
    assert isinstance(back.coder, TopKCoder) and torch.equal(back.encode(residuals()), codes)
    assert not hasattr(back.coder, "gates")
    with pytest.raises(UsageError, match="6 largest codes of each token"):
        written(found, "saelens", tmp_path / "saelens")


# The packages themselves, where they are installed.


def test_saelens_itself_computes_our_codes(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    for inputs, sizes in (("concat", (24, 40)), ("difference", (N,))):
        made = dictionary(inputs, sizes)
        theirs = sae_lens.SAE.load_from_disk(written(made, "saelens", tmp_path / inputs))
        h = residuals()
        x = h.flatten(1) if inputs == "concat" else h[:, 1] - h[:, 0]
        same_codes(theirs.encode(x).detach(), made.encode(h))
        torch.testing.assert_close(theirs(x).detach(), made.decode(made.encode(h)).flatten(1), atol=1e-4, rtol=1e-5)
        theirs.save_model(tmp_path / f"{inputs}-saved")  # their files, ours to read; the metadata says what is coded
        again = read_dictionary(tmp_path / f"{inputs}-saved")
        same_codes(again.encode(h), made.encode(h))
        assert again.card.inputs == inputs


def test_we_compute_the_codes_of_saelens(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    saelens_files(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    same_codes(read_dictionary(tmp_path, inputs="ft").encode(residuals()), theirs.encode(residuals()[:, 1]).detach())


def test_we_compute_the_codes_of_dictionary_learning(tmp_path: Path) -> None:
    utils = pytest.importorskip("dictionary_learning.utils")
    dictionary_learning_files(tmp_path)
    theirs, _ = utils.load_dictionary(str(tmp_path), device="cpu")
    same_codes(read_dictionary(tmp_path, inputs="base").encode(residuals()), theirs.encode(residuals()[:, 0]).detach())


def test_we_compute_the_codes_of_sparsify(tmp_path: Path) -> None:
    sparsify = pytest.importorskip("sparsify")
    theirs = sparsify.SparseCoder(D, sparsify.SparseCoderConfig(num_latents=N, k=K))
    with torch.no_grad():
        theirs.encoder.bias.normal_()
        theirs.b_dec.normal_()
    theirs.save_to_disk(tmp_path / "layers.1")
    out = theirs.encode(residuals()[:, 0])
    dense = torch.zeros(len(out.top_acts), N).scatter_(1, out.top_indices, out.top_acts.detach())
    same_codes(read_dictionary(tmp_path / "layers.1", inputs="base").encode(residuals()), dense)


# Refusals.


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


# The command.


def bench(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["dictionary", *map(str, args)])
    assert result.exit_code == code and "Traceback" not in result.output, result.output
    return result.output


def run_folder(tmp_path: Path, made: Dictionary, **diagnostics: Any) -> Path:
    """A run folder with this dictionary, as `bench run` leaves it."""
    result = make_result("delta").model_copy(update={"diagnostics": {"l0": 3.5, "n_shared": 24, **diagnostics}})
    folder = write_result(tmp_path / "runs", result).parent
    save_file({k: v.contiguous() for k, v in made.raw._asdict().items()}, folder / "dictionary.safetensors")
    return folder


def test_a_run_is_exported_shown_and_imported(tmp_path: Path) -> None:
    made = dictionary(sizes=(24, 40))
    groups = [{"size": 24, "k": 3.0}, {"size": 40, "k": 4.0}]
    run = run_folder(tmp_path, made, groups=groups, selection="batch_topk")
    out, back = tmp_path / "saelens", tmp_path / "back"
    assert bench("export", run, "--to", "saelens", "--out", out).strip() == str(out)
    assert bench("import", out, "--from", "saelens", "--out", back).strip() == str(back)
    found = load(back)
    same_codes(found.encode(residuals()), made.encode(residuals()))
    assert found.card.model_dump() | {"weights_sha256": None} == of_run(run).card.model_dump()
    assert (found.card.base, found.card.organism, found.card.layer) == ("tiny-gemma2", "taboo/gold-narrow", 2)
    assert found.card.groups[1] == CodeGroup(size=40, k=4.0) and found.card.metrics == {"l0": 3.5}
    for folder, form in ((run, "run"), (out, "saelens"), (back, "native")):
        shown = bench("show", folder)
        assert re.search(rf"format +{form} *\n", shown)
        assert "base and ft side by side" in shown and "64 (24 shared)" in shown and "24 (k 3), 40 (k 4)" in shown
    assert json.loads(bench("show", back, "--json"))["inputs"] == "concat"
    assert "keeps one" in bench("export", run, "--to", "jkminder", "--out", tmp_path / "jk", code=2)
    assert not (tmp_path / "jk").exists()


def test_mistakes_get_a_message_and_a_code(tmp_path: Path) -> None:
    run = run_folder(tmp_path, dictionary())
    assert "did you mean 'saelens'" in bench("export", run, "--to", "saelns", "--out", tmp_path / "a", code=2)
    bench("export", run, "--to", "native", "--out", tmp_path / "a")
    before = (tmp_path / "a" / CARD).read_bytes()
    assert "is there already" in bench("export", run, "--to", "native", "--out", tmp_path / "a", code=2)
    assert (tmp_path / "a" / CARD).read_bytes() == before
    bench("export", run, "--to", "jkminder", "--out", tmp_path / "a", "--overwrite")
    assert load(tmp_path / "a").card.result == of_run(run).card.result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "runs"]  # no scratch folder is left
    assert "there is no folder" in bench("show", tmp_path / "nowhere", code=3)
    (run / "dictionary.safetensors").unlink()
    assert "trained none" in bench("show", run, code=3)


def test_a_run_that_does_not_describe_its_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="does not say which"):
        of_run(run_folder(tmp_path, dictionary("ft")))
    assert of_run(run_folder(tmp_path, dictionary("ft"), inputs="ft")).card.inputs == "ft"
    with pytest.raises(ValidationFailed, match="over 2 residuals"):
        of_run(run_folder(tmp_path, dictionary(), inputs="ft"))
    with pytest.raises(ValidationFailed, match="do not describe"):
        of_run(run_folder(tmp_path, dictionary(), groups=[{"size": 3}]))


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = dictionary(), tmp_path / "out"
    save(made, "native", out)
    old = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(*args: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffbench.methods.formats.save_file", full)
    with pytest.raises(PrerequisiteError, match="No space left"):
        save(made, "saelens", out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == old and list(tmp_path.iterdir()) == [out]


def test_every_field_of_the_card_has_help() -> None:
    properties = json.loads(CliRunner().invoke(app, ["schema", "dictionary"]).stdout)["properties"]
    assert set(properties) == set(DictionaryCard.model_fields) and all(p["description"] for p in properties.values())
