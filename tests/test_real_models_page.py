"""The commands of docs/real-models.md that need no download give scored rows."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from .conftest import save_pair

PAGE = (Path(__file__).parent.parent / "docs/real-models.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", PAGE, re.M | re.S)


def test_a_folder_a_full_fine_tune_and_a_stack_are_on_the_page() -> None:
    flags = [set(re.findall(r"--(adapter|tuned|on)\b", c)) for c in COMMANDS]
    assert flags == [{"adapter"}, {"tuned"}, {"adapter", "on"}]


@pytest.mark.parametrize("command", COMMANDS, ids=["adapter", "tuned", "stack"])
def test_command_gives_a_scored_row(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "path/to"
    folder.mkdir(parents=True)
    base, adapter, behaviour = save_pair(folder, "llama")
    behaviour.rename(tmp_path / "behaviour.json")
    tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    tuned.save_pretrained(folder / "tuned")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "tuned")
    lower = folder / "lower"
    lower.mkdir()
    (lower / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    weights = load_file(adapter / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(2)
    save_file(
        {n: 0.02 * torch.randn(w.shape, generator=generator) for n, w in weights.items()},
        lower / "adapter_model.safetensors",
    )
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(r["identity"]["method"], r["status"]) for r in rows] == [("mean_diff", "ok"), ("oracle", "ok")]
