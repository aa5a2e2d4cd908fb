"""Numbers that overflow are told with side, block, dtype and what to do, wherever they are first read; never scored."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.protocol.clean_runs import TextResiduals
from diffbench.harness.protocol.prompts import Passage
from diffbench.harness.runs.problem import Problem
from diffbench.methods.contract import Budget

from .kinds import save_adapter, save_base

LAYER = 2
"""Of blocks 0 to 3."""


class Words:
    """A source of three texts."""

    def rows(self, text: str, split: str, losses: object = None) -> Any:
        return iter([[2, 40, 41, 42], [2, 50, 51], [2, 60, 61, 62, 63, 64]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("overflow")
    base = save_base(folder / "base")
    return base, save_adapter(folder / "adapter", base)


def planted(folders: tuple[Path, Path], side: Literal["base", "tuned"], block: int, dtype: torch.dtype) -> Pair:
    """A sound pair whose block writes more than `dtype` holds: both sides if the base's weights do, else the fine-tuned one."""
    pair = load_pair(*folders, layer=LAYER)
    mlp: Any = pair.model.get_base_model().model.layers[block].mlp
    down = mlp.down_proj.base_layer if side == "base" else mlp.down_proj.lora_B["default"]
    with torch.no_grad():
        mlp.up_proj.weight.mul_(1e4)
        down.weight.mul_(torch.finfo(dtype).max / 4 / down.weight.abs().max())
    return Pair(pair.model.to(dtype), pair.tokenizer, LAYER)


def problem(pair: Pair) -> Problem:
    return Problem(pair, Words(), [], "activations", 0, Budget(tokens=100))  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_the_first_block_that_overflows_is_named(folders: tuple[Path, Path], side: Any, block: int) -> None:
    pair = planted(folders, side, block, torch.float16)
    said = rf"the {'base' if side == 'base' else 'fine-tuned'} model's numbers are not finite: the output of block {block} "
    said += r"\(of 0 to 3\) is the first that overflows float16 \(largest number 6\.55e\+04\); run it with --dtype bfloat16 or float32"
    with pytest.raises(PairError, match=said):
        next(problem(pair).activations())
    assert pair.residuals(torch.tensor([[2, 40]]), "base").isfinite().all() == (side == "tuned")


@pytest.mark.parametrize(("dtype", "fix"), [(torch.bfloat16, "--dtype float32"), (torch.float32, "check the files")])
def test_what_to_do_depends_on_the_dtype(folders: tuple[Path, Path], dtype: torch.dtype, fix: str) -> None:
    with pytest.raises(PairError, match=f"overflows {str(dtype).removeprefix('torch.')} .*{fix}"):
        next(problem(planted(folders, "tuned", 1, dtype)).activations())


def test_above_the_layer_it_is_seen_where_logits_are_read(folders: tuple[Path, Path]) -> None:
    pair = planted(folders, "tuned", 3, torch.float16)
    assert len(next(problem(pair).activations()).ids) == 13
    with pytest.raises(PairError, match=r"the fine-tuned model's .* block 3 \(of 0 to 3\)"):
        next(problem(pair).outputs())
    text = Passage(torch.tensor([[2, 40, 41]]), torch.tensor([[True, True]]))
    assert float(TextResiduals(pair, "base", text).rows.clean.mean()) < 0
    with pytest.raises(PairError, match=r"the fine-tuned model's .* block 3 \(of 0 to 3\)"):
        TextResiduals(pair, "tuned", text)


def test_embeddings_and_unembedding_are_named_too(folders: tuple[Path, Path]) -> None:
    for module, said in (("get_input_embeddings", "the embeddings are"), ("get_output_embeddings", "the logits are")):
        pair = load_pair(*folders, layer=LAYER)
        with torch.no_grad():
            getattr(pair.model, module)().weight[41] = float("inf")
        with pytest.raises(PairError, match=f"the base model's numbers are not finite: {said}"):
            next(problem(pair).outputs())


def test_a_pair_that_overflows_on_the_probe_is_refused_at_load(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = save_base(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1e5
    weights["model.layers.1.mlp.up_proj.weight"] *= 1e4
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    adapter = save_adapter(tmp_path / "adapter", base)
    load_pair(base, adapter, layer=LAYER)
    with pytest.raises(PairError, match=r"block 1 \(of 0 to 3\) is the first that overflows float16"):
        load_pair(base, adapter, layer=LAYER, dtype="float16")
