"""`bench show` and `bench try` as a user meets them: what they print and write, and how they refuse."""

import json
from pathlib import Path

import pytest
import torch
from diffbench.methods.contract import Finding, Gate
from diffbench.methods.formats.findings import pack
from safetensors.torch import save_file

from .test_cli import bench

PAIR = ("-o", "taboo/gold-narrow")


@pytest.fixture
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with a gated finding and one without."""
    monkeypatch.setattr("diffbench.harness.inspection.collect.TEXT_TOKENS", {"tiny": 200})
    monkeypatch.chdir(tmp_path)
    d = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    save_file(pack([Finding(d[0], Gate(d[1], 0.0)), Finding(d[1])]), tmp_path / "mine.safetensors")
    return "mine.safetensors"


def test_one_collection_serves_the_terminal_json_and_a_page(findings: str, tmp_path: Path) -> None:
    text = bench("show", findings, *PAIR)
    assert "reading text" in text and "not scored here" in text
    assert "finding 1, gated" in text and "finding 2, without a gate" in text
    again = bench("show", findings, *PAIR, "--json", "--html", "page.html", "--finding", "2")
    assert "reading text" not in again
    report = json.loads(again[again.index("{") :])
    assert [f["number"] for f in report["findings"]] == [1, 2] and report["status"] == "not scored"
    page = (tmp_path / "page.html").read_text()
    assert 'id="f2"' in page and 'id="f1"' not in page and len(page) < 3_000_000


def test_a_prompt_is_tried(findings: str) -> None:
    said = bench(
        "try", findings, *PAIR, "-p", "one clue for me .", "--finding", "2", "--strength", ".5", "--side", "base"
    )
    assert "+ finding 2 added to the base at every token, strength 0.5" in said and "organism − finding" not in said
    tried = json.loads(bench("try", findings, *PAIR, "-p", "hello", "--tokens", "2", "--json"))
    assert tried["answer"]["removed"] is not None and tried["seed"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "mine.safetensors"), 2, "name it: -o ORGANISM"),
        (("show", "mine.safetensors", *PAIR, "--finding", "3"), 2, "no finding 3"),
        (("show", "nothing"), 3, "there is no nothing, and it is no id"),
        (("try", "mine.safetensors", *PAIR, "-p", "", "--finding", "1"), 2, "the prompt is empty"),
        (("try", "mine.safetensors", *PAIR, "-p", "hello", "--strength", "inf"), 2, "--strength inf"),
        (("try", "mine.safetensors", *PAIR, "-p", "hello " * 600), 4, "was made to read 512"),
    ],
)
def test_refusals_say_what_and_how_to_go_on(findings: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in bench(*arguments, code=code)
