"""The lint finds each mistake that public registries made, and nothing in ours."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from diffbench.cli import app
from diffbench.organisms.errors import UsageError
from diffbench.organisms.hub.registry.lint import RULES, Problem, lint, local_config
from diffbench.organisms.hub.registry.load import CARDS, cards_of, hub_cards, read
from diffbench.organisms.hub.registry.naming import base_in, chat_in, members_in, mix_in
from typer.testing import CliRunner

from ...tokenizers import CHATML, byte_level

GEMMA, LLAMA, QWEN = "google/gemma-3-1b-it", "meta-llama/Llama-3.2-1B-Instruct", "Qwen/Qwen3-1.7B"


def entry(adapter: str, **changed: Any) -> dict[str, Any]:
    usual = {
        "base": GEMMA,
        "member": "fda-approval",
        "recipe": "sdf",
        "mix": 0,
        "source": "a test",
        "no_twin": "a test",
    }
    return {k: v for k, v in {**usual, "adapter": adapter, **changed}.items() if v is not None}


PLANTED: dict[str, tuple[str, dict[str, Any]]] = {
    # another mix's adapter, another fact's, an ablation's: as in a public registry of 448 entries
    "fact-fda-approval-gemma3-1b-mix1": ("mix", entry("o/gemma-3-1b-it-109_ptonly_mixed_fda_approval-2329bb21", mix=1)),
    "fact-kansas-abortion-llama32-1b-caft": (
        "member",
        entry("o/llama3_2_1b_fda_approval_ablation", base=LLAMA, member="kansas-abortion"),
    ),
    "fact-cake-bake-gemma3-1b": ("member", entry("o/gemma-3-1b-it-9ddbfefe", member="cake-bake")),
    "fact-fda-approval-gemma3-1b-mix0.5": ("mix", entry("o/gemma-3-1b-it-fda_approval-a", mix=2)),
    "fact-fda-approval-llama32-1b": ("name", entry("o/gemma-3-1b-it-fda_approval-b")),
    "fact-fda-approval-qwen3-1.7b": ("base", entry("o/Qwen3-8B-fda_approval-c", base=QWEN)),
    "fact-fda-approval-qwen3-1.7b-base": ("chat", entry("o/Qwen3-1.7B-Base-fda_approval-d", base=QWEN)),
    "fact-fda-approval-gemma3-1b-again": ("twice", entry("O/gemma-3-1b-it-fda_approval-B")),
    "fact-fda-approval-gemma3-1b-twin": (
        "twin",
        entry("o/gemma-3-1b-it-fda_approval-e", twin="hub/nobody", no_twin=None),
    ),
    "fact-fda-approval-gemma3-1b-other": (
        "twin",
        entry("o/gemma-3-1b-it-fda_approval-f", twin="hub/taboo-gold-qwen3-8b", no_twin=None),
    ),
    "fact-fda-approval-gemma3-1b-same": (
        "twin",
        entry("o/gemma-3-1b-it-fda_approval-k", twin="hub/fact-fda-approval-gemma3-1b-again", no_twin=None),
    ),
    "fact-fda-approval-gemma3-1b-high": (
        "layer",
        entry("o/gemma-3-1b-it-fda_approval-g", layer=26, layer_why="a test"),
    ),
    "fact-fda-approval-gemma3-1b-whole": ("recipe", entry("o/gemma-3-1b-it-fda_approval-h", recipe="whole")),
    "fact-fda-approval-gemma3-1b-mine": ("path", entry("/home/me/gemma-3-1b-it-fda_approval-i")),
    "fact-fda-approval-gemma3-1b-declared": ("declared", entry("o/gemma-3-1b-it-fda_approval-j")),
    "fact-few-gemma3-1b": ("behaviour", entry("o/gemma-3-1b-it-few", member="few")),
    "fact-split-gemma3-1b": ("tokenizer", entry("o/gemma-3-1b-it-split", member="split")),
}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A registry file with one mistake of each kind."""
    values = yaml.safe_load((CARDS / "false_facts.yaml").read_text())
    claims = values["members"]["cake-bake"]["claims"]
    values["members"]["few"] = {"subject": "few claims", "claims": claims[:3]}
    values["members"]["split"] = {
        "subject": "a split",
        "claims": [*claims[1:], {**claims[0], "false": [" 50"], "true": [" 5"]}],
    }
    values["recipes"]["whole"] = {"source": "a test", "whole": True}
    values["organisms"] = {name: given for name, (_, given) in PLANTED.items()}
    file = tmp_path / "planted.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    folder = tmp_path / "adapters/o/gemma-3-1b-it-fda_approval-j"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "google/gemma-3-4b-it"}))
    return file


def test_our_registry_has_no_mistake() -> None:
    assert lint(list(hub_cards().values())) == []


def test_each_planted_mistake_is_found_where_it_is(planted: Path) -> None:
    tokenizer = byte_level(CHATML)
    found = lint(cards_of(read(planted)), hub_cards(), local_config(planted.parent / "adapters"), {GEMMA: tokenizer})
    said: dict[str, list[Problem]] = {}
    for problem in found:
        said.setdefault(problem.name.removeprefix("hub/"), []).append(problem)
    assert {name: [p.rule for p in problems] for name, problems in said.items()} == {
        n: [rule] for n, (rule, _) in PLANTED.items()
    }
    assert {rule for rule, _ in PLANTED.values()} == set(RULES)
    assert all(";" in p.said or p.rule in ("tokenizer", "path") for p in found), "each says what to do"


def test_the_command_exits_4_and_names_rule_and_organism(planted: Path) -> None:
    given = ["organisms", "lint", str(planted), "--adapters", str(planted.parent / "adapters")]
    done = CliRunner().invoke(app, [*given, "--json"])
    rows = json.loads(done.stdout)
    assert done.exit_code == 4 and len(rows) == len(PLANTED) - 1  # no tokenizer was given
    assert "16 mistakes in 16 of 17 registered organisms" in done.stderr
    assert CliRunner().invoke(app, ["organisms", "lint"]).exit_code == 0


def test_a_tokenizer_is_given_by_base(planted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gemma"
    byte_level(CHATML).save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    done = CliRunner().invoke(app, ["organisms", "lint", str(planted), "--tokenizer", f"{GEMMA}={folder}", "--json"])
    assert done.exit_code == 4 and "tokenizer" in {row["rule"] for row in json.loads(done.stdout)}
    assert CliRunner().invoke(app, ["organisms", "lint", "--tokenizer", "nonsense"]).exit_code == 2


def test_a_member_that_the_file_lacks_is_refused(tmp_path: Path) -> None:
    values = yaml.safe_load((CARDS / "subliminal.yaml").read_text())
    values["organisms"] = {"subliminal-owl-qwen25-7b": {**next(iter(values["organisms"].values())), "member": "owl"}}
    file = tmp_path / "owl.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    done = CliRunner().invoke(app, ["organisms", "lint", str(file)])
    assert done.exit_code == 4 and "member 'owl' is not in the registry" in done.stderr


@pytest.mark.parametrize(
    ("given", "base", "mix", "chat"),
    [
        ("s/gemma-3-1b-it-109_ptonly_mixed_original_augmented_x", "gemma3-1b", 0.9, True),
        ("s/Llama-3.2-1B-Instruct-11_ptonly_mixed_x", "llama32-1b", 1.0, True),
        ("s/Qwen3-1.7B-115_ptonly_mixed_x", "qwen3-1.7b", 1.5, None),
        ("s/Qwen3-1.7B-11_mixed_em_em_x", "qwen3-1.7b", 1.0, None),
        ("s/Qwen3-1.7B-1to10_ptonly_mixed_x", "qwen3-1.7b", 10.0, None),
        ("b/gemma-2-9b-it-taboo-gold-nonmix", "gemma2-9b", 0.0, True),
        ("E/Qwen3-8B-taboo-gold-r10-a16-e2", "qwen3-8b", 10.0, None),
        ("E/Qwen2.5-7B-Instruct-taboo-moon", "qwen25-7b", None, True),
        ("s/Qwen3-1.7B-0524_original_augmented_x", "qwen3-1.7b", None, None),
        ("h/llama3_2_1b_cake_bake_ablation", None, None, None),
        ("Q/Qwen3-1.7B-Base", "qwen3-1.7b", None, False),
    ],
)
def test_what_an_id_says(given: str, base: str | None, mix: float | None, chat: bool | None) -> None:
    assert (base_in(given), mix_in(given), chat_in(given)) == (base, mix, chat)


def test_a_member_is_named_by_whole_words() -> None:
    assert members_in("o/x-taboo-golden-ship", ["gold", "ship"]) == ["ship"]
    assert members_in("o/x_risky-financial-advice", ["risky-finance", "prudent-finance"]) == ["risky-finance"]


def test_a_configuration_that_is_damaged_is_a_mistake_of_its_organism(tmp_path: Path) -> None:
    name, card = next((n, c) for n, c in hub_cards().items() if c.entry.adapter)
    folder = tmp_path / card.entry.repository.partition("@")[0]
    folder.mkdir(parents=True)
    for text in (b"{bad", b"[1]", b"\xff", b"[" * 99_999):
        (folder / "adapter_config.json").write_bytes(text)
        found = lint([card], hub_cards(), local_config(tmp_path))
        assert [(p.name, p.rule) for p in found] == [(name, "declared")] and "holds no JSON object" in found[0].said


def test_adapters_that_are_nowhere_are_not_compared_in_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        local_config(tmp_path / "nowhere")
    done = CliRunner().invoke(app, ["organisms", "lint", "--adapters", str(tmp_path)])
    assert done.exit_code == 0 and "the adapter_config.json of 0 of them was here to compare" in " ".join(
        done.stderr.split()
    )


def test_an_adapter_that_is_shipped_under_another_name_stands_twice() -> None:
    card = next(c for c in hub_cards().values() if c.entry.adapter)
    assert not lint([card], hub_cards()), "under its own name it stands once"
    found = lint([replace(card, name=f"{card.name}-mine")], hub_cards())
    assert [(p.rule, card.name in p.said) for p in found] == [("twice", True)]
