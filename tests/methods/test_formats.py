"""Dictionaries in the formats of the field: the codes stay the same, whoever computes them."""

import json
from pathlib import Path

import pytest
import torch
from diffbench.methods.coder.dictionary import TopKCoder
from diffbench.methods.coder.sparse_coder import Inputs, Selection
from diffbench.methods.formats import CARD, CodeGroup, read_dictionary
from diffbench.organisms.errors import UsageError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .dictionary_files import (
    D,
    K,
    N,
    dictionary,
    dictionary_learning_files,
    residuals,
    saelens_files,
    same_codes,
    sparsify_files,
    written,
)

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


def test_a_saelens_jumprelu_is_read(tmp_path: Path) -> None:
    saelens_files(tmp_path)
    found = read_dictionary(tmp_path, inputs="ft")
    same_codes(found.encode(residuals()), saelens_codes(tmp_path, residuals()[:, 1]))
    assert (found.card.layer, found.card.base, found.card.origin) == (3, "m", "saelens")


def test_a_dictionary_learning_batch_topk_sae_is_read(tmp_path: Path) -> None:
    tensors = dictionary_learning_files(tmp_path)
    found = read_dictionary(tmp_path, inputs="base")
    same_codes(found.encode(residuals()), dictionary_learning_codes(tensors, residuals()[:, 0]))
    assert (found.card.layer, found.card.groups) == (4, (CodeGroup(size=N, k=K),))
    assert read_dictionary(written(found, "saelens", tmp_path / "out")).card.base == "m"


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
