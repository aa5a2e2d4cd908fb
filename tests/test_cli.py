"""The command as a user meets it: output, exit codes, and messages without tracebacks."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.result import SCORES, Result
from diffbench.harness.zoo.comparison import Checked
from diffbench.organisms import registry
from diffbench.organisms.card import Card
from typer.main import get_command
from typer.testing import CliRunner

from .conftest import SHORT, save_pair
from .factories import make_card, write_organism

runner = CliRunner()
METHOD = """
import torch
from diffbench.methods.contract import DiffResult, Finding

class LastToken:
    "Mean difference on the last positions."
    name = "last_token"
    access = "activations"

    def diff(self, problem):
        total = torch.zeros(problem.d_model)
        for batch in problem.activations("chat", tokens=2000):
            late = batch.positions > 5
            total += (batch.residuals[late, 1] - batch.residuals[late, 0]).sum(0)
        return DiffResult([Finding(total)])
"""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command on the short protocol, in an empty folder."""
    monkeypatch.setattr("diffbench.harness.runs.cell.PROTOCOL_V2", SHORT)
    monkeypatch.setattr("diffbench.harness.runs.verify.PROTOCOL_V2", SHORT)
    monkeypatch.chdir(tmp_path)


def bench(*args: str, code: int = 0) -> str:
    result = runner.invoke(app, list(args))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_help_and_import_are_light() -> None:
    heavy = ("torch", "transformers", "trl", "nnsight", "pandas")
    script = f"import sys, diffbench, diffbench.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    assert "run" in bench("--help")


def test_every_flag_has_help() -> None:
    def walk(command: object, path: str) -> None:
        for name, sub in getattr(command, "commands", {}).items():
            assert sub.help, f"{path} {name} has no help"
            walk(sub, f"{path} {name}")
        for parameter in command.params:  # type: ignore[attr-defined]
            assert parameter.help or parameter.name == "help", f"{path} {parameter.name} has no help"

    walk(get_command(app), "bench")


@pytest.mark.slow
def test_json_is_only_the_result(tmp_path: Path) -> None:
    record = json.loads(bench("run", "-m", "random", "-o", "taboo", "--json"))
    result = Result.model_validate(record)
    assert result.status == "ok" and set(record["scores"]) == set(SCORES)
    assert set(record["scores"]["isolation"]) >= {"value", "ci_low", "ci_high", "n", "anchors"}
    assert set(record["scores"]["isolation"]["anchors"]) == {"null", "oracle", "mixture"}
    folder = tmp_path / "runs" / "taboo" / "gold-narrow" / "random" / result.id[:12]
    assert folder.is_dir()
    several = json.loads(bench("run", "-m", "random,oracle", "-o", "taboo", "--json"))
    assert [r["identity"]["method"] for r in several] == ["random", "oracle"]
    assert "values agree" in bench("verify", str(folder))
    path = folder / "result.json"
    path.write_text(path.read_text().replace(f'"value": {record["scores"]["necessity"]["value"]}', '"value": 0.99', 1))
    assert "0.99" in bench("verify", str(folder), code=4)


@pytest.mark.slow
def test_a_third_party_file_runs_and_reaches_the_leaderboard(tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(METHOD)
    assert "last_token" in bench("run", "-m", "./my_method.py,random,oracle", "-o", "taboo")
    bench("leaderboard", "build", "--format", "md,csv,html,tex")
    table = (tmp_path / "leaderboard-out" / "leaderboard.md").read_text()
    assert r"last\_token" in table and "oracle" in table
    assert "last_token" in bench("leaderboard", "show")
    assert "http" not in re.sub(
        r"http://www\.w3\.org/\S+", "", (tmp_path / "leaderboard-out" / "leaderboard.html").read_text()
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.slow
def test_a_users_pair_runs_and_verifies(tmp_path: Path, architecture: str) -> None:
    base, adapter, behaviour = save_pair(tmp_path, architecture)
    args = ["--base", str(base), "--adapter", str(adapter), "--behaviour", str(behaviour)]
    results = json.loads(
        bench("run", "-m", "oracle,mean_diff,supervised", "--set", "mean_diff.tokens=500", *args, "--json")
    )
    assert [r["status"] for r in results] == ["ok"] * 3, [r["reason"] for r in results]
    assert results[0]["scores"]["isolation"]["value"] == pytest.approx(1.0)
    folder = tmp_path / "runs" / f"user-{architecture}" / "mean_diff" / results[1]["id"][:12]
    assert "values agree" in bench("verify", str(folder), *args)
    assert "a record never decides what is loaded" in " ".join(bench("verify", str(folder), code=2).split())


def test_a_users_pair_that_cannot_be_scored_exits_4(tmp_path: Path) -> None:
    base, adapter, behaviour = save_pair(tmp_path, "llama")
    spec = json.loads(behaviour.read_text())
    for p in spec["prompts"]:
        p["targets"], p["alternatives"] = p["alternatives"], p["targets"]
    behaviour.write_text(json.dumps(spec))
    args = ["--base", str(base), "--adapter", str(adapter), "--behaviour", str(behaviour)]
    for _ in ("run", "read back"):
        assert "targets and alternatives exchanged" in " ".join(bench("run", "-m", "random", *args, code=4).split())


USAGE = [
    (("run", "-m", "dleta", "-o", "taboo"), 2, "did you mean 'delta'"),
    (("run", "-m", "random", "-o", "tabu"), 2, "did you mean 'taboo'"),
    (("run", "-m", "random", "-o", "taboo/gold-narow"), 2, "did you mean 'taboo/gold-narrow'"),
    (("run", "-m", "random", "-o", "none.yaml"), 2, "cannot read none.yaml"),
    (("run", "-m", "random", "-o", "none.py"), 2, "there is no family file"),
    (("run", "-o", "taboo"), 2, "no method given"),
    (("run", "-m", "random"), 2, "no organism given"),
    (
        ("run", "-m", "mean_diff", "-o", "taboo", "--set", "mean_diff.tokns=5"),
        2,
        "did you mean 'tokens'? options of mean_diff: ",
    ),
    (("run", "-m", "mean_diff", "-o", "taboo", "--set", "mean_diff.tokens=many"), 2, "mean_diff.tokens"),
    (("run", "-m", "random", "-o", "taboo", "--set", "tokens=5"), 2, "method.option=value"),
    (("run", "-m", "random", "-o", "taboo", "--set", "delta.k=5"), 2, "no method of this run 'delta'"),
    (("run", "-m", "random", "-o", "taboo", "--seed", "x"), 2, "seed"),
    (("run", "-m", "random", "-o", "taboo", "--seed", "0-2"), 2, "seed"),
    (("run", "-m", "random", "-o", "taboo", "--seed", "-1"), 2, "seed"),
    (("run", "-m", "random", "-o", "taboo", "--seed", "99999999999999999999"), 2, "seed"),
    (("run", "-m", "random", "--base", "b"), 2, "--adapter or --tuned and --behaviour missing"),
    (("run", "-m", "./none.py", "-o", "taboo"), 2, "no method file"),
    (("run", "-m", "random", "-o", "taboo", "--config", "none.yaml"), 2, "cannot read"),
    (("run", "-m", "random", "-o", "taboo", "--device", "gpu"), 2, "use cpu, cuda, cuda:N or mps"),
    (("organisms", "show", "tabo"), 2, "did you mean"),
    (("methods", "show", "randm"), 2, "did you mean 'random'"),
    (("leaderboard", "build", "nowhere"), 3, "there is no folder"),
    (("leaderboard", "build", "--format", "htm"), 2, "did you mean 'html'"),
    (("verify", "nowhere"), 3, "there is no nowhere"),
    (("organisms", "build"), 2, "nothing to build"),
    (("organisms", "build", "tabu"), 2, "did you mean 'taboo'"),
    (("organisms", "build", "taboo/gold-narow"), 2, "did you mean 'taboo/gold-narrow'"),
    (("organisms", "build", "none.py"), 2, "there is no family file"),
    (("organisms", "build", "none.yaml"), 2, "cannot read none.yaml"),
    (("organisms", "build", "--base", "nan"), 2, "did you mean 'nano'"),
    (("organisms", "build", "--family", "tabu"), 2, "did you mean 'taboo'"),
    (("organisms", "verify"), 2, "nothing to verify"),
    (("organisms", "verify", "none.yaml"), 3, "has no card yet; run `bench organisms build none.yaml`"),
    (("organisms", "new", "My-Family"), 2, "is not a family name"),
]


@pytest.mark.parametrize(("args", "code", "message"), USAGE, ids=[" ".join(a[0]) for a in USAGE])
def test_mistakes_get_a_message_and_a_code(args: tuple[str, ...], code: int, message: str) -> None:
    assert message in bench(*args, code=code)


def test_a_method_that_fails_exits_1_and_the_others_are_saved(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        METHOD.replace("return DiffResult([Finding(total)])", "return DiffResult([Finding(total * float('nan'))])")
    )
    assert "NaN" in bench("run", "-m", "bad.py,oracle", "-o", "taboo", code=1)
    statuses = {
        json.loads(p.read_text())["identity"]["method"]: json.loads(p.read_text())["status"]
        for p in tmp_path.rglob("result.json")
    }
    assert statuses == {"last_token": "failed", "oracle": "ok"}


def test_an_unwritable_folder_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to" in bench("run", "-m", "random", "-o", "taboo", "--out", "file", code=3)


def test_a_damaged_zoo_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bases/tiny-gemma2", "taboo/gold-narrow"):
        shutil.copytree(registry.ZOO / name, tmp_path / "zoo" / name)
    monkeypatch.setattr(registry, "ZOO", tmp_path / "zoo")
    weights = tmp_path / "zoo" / "taboo" / "gold-narrow" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert "sha256 differs" in bench("run", "-m", "random", "-o", "taboo", code=4)
    weights.unlink()
    assert "is missing" in bench("run", "-m", "random", "-o", "taboo", code=4)
    assert "is missing" in bench("doctor", code=3)


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffbench.harness.runs.run.run_cell", interrupt)
    assert "interrupted" in bench("run", "-m", "random", "-o", "taboo", code=130)


@pytest.mark.slow
def test_a_config_file_is_overridden_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "method: mean_diff\norganism: taboo\nseed: [3]\nset: {mean_diff: {tokens: 500}}\n"
    )
    record = json.loads(bench("run", "--config", "run.yaml", "--seed", "4", "--json"))
    assert record["identity"]["seeds"]["method"] == 4 and record["identity"]["config"] == {"tokens": 500}
    (tmp_path / "run.yaml").write_text("methd: mean_diff\n")
    assert "did you mean 'method'" in bench("run", "--config", "run.yaml", code=2)


def test_a_new_family_file_is_written_once(tmp_path: Path) -> None:
    assert "wrote mood.py; next: bench organisms build mood.py" in bench("organisms", "new", "mood")
    written = (tmp_path / "mood.py").read_text()
    assert "is there already" in bench("organisms", "new", "mood", code=2)
    assert (tmp_path / "mood.py").read_text() == written


def test_a_list_shows_what_is_sound_and_says_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("taboo/gold-narrow", "taboo/moon-narrow"):
        write_organism(tmp_path, name)
    (tmp_path / "taboo" / "moon-narrow" / "card.json").write_bytes(b"\xff")
    monkeypatch.setattr("diffbench.organisms.registry.ZOO", tmp_path)
    done = runner.invoke(app, ["organisms", "list", "--json"])
    assert done.exit_code == 4 and [o["name"] for o in json.loads(done.stdout)] == ["taboo/gold-narrow"]
    said = " ".join(done.stderr.split())
    assert "1 organisms are damaged and left out taboo/moon-narrow:" in said and "not a valid card" in said
    assert "--no-resume is for organisms on a real model" in bench(
        "organisms", "build", "taboo/gold-narrow", "--no-resume", code=2
    )


def test_an_organism_that_is_not_its_card_exits_4(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, other = make_card(), make_card("taboo/gold-mixed")
    checked = [Checked(whole.name, whole), Checked(other.name, other, ["leak is 0.5, the card says 0.0"])]
    monkeypatch.setattr("diffbench.harness.zoo.verify.verify_named", lambda *args: checked)
    out = bench("organisms", "verify", "taboo", code=4)
    assert "1 of 2 organisms are not what they should be" in out and "leak is 0.5, the card says 0.0" in out
    checked[1] = Checked(other.name, other)
    assert "2 organisms verified" in bench("organisms", "verify", "taboo")
    only = runner.invoke(app, ["organisms", "verify", "taboo", "--json"]).stdout
    assert [found["problems"] for found in json.loads(only)] == [[], []]


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.slow
def test_a_users_yaml_card_is_measured_run_and_verified(tmp_path: Path, architecture: str) -> None:
    save_pair(tmp_path, architecture)
    (tmp_path / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: behaviour.json\n")
    assert "No prompt names its `template`" in bench("organisms", "build", "own.yaml")
    card = Card.model_validate_json((tmp_path / "own.card.json").read_text())
    assert card.measured["behaviour_test"].change.value > 0
    if not card.failures:
        assert "1 organisms verified" in bench("organisms", "verify", "own.yaml")
    record = json.loads(bench("run", "-m", "random", "-o", "own.yaml", "--json"))
    assert (record["status"], record["identity"]["organism"]) == ("ok", f"user-{architecture}")
    edited = (tmp_path / "behaviour.json").read_text().replace("has a dog", "has a cat")
    (tmp_path / "behaviour.json").write_text(edited)
    assert "is not the one of the card" in bench("organisms", "verify", "own.yaml", code=4)


def test_lists_and_schemas() -> None:
    listed = {o["name"]: o for o in json.loads(bench("organisms", "list", "--json"))}
    assert {"taboo/gold-narrow", "taboo/gold-mixed", "null/base-identical", "planted/owl-strong"} <= set(listed)
    controls = {o["name"] for o in json.loads(bench("organisms", "list", "--role", "control", "--json"))}
    assert (
        controls == {n for n, o in listed.items() if o["role"] == "control"} >= {"emergent_misalignment/remedies-odd"}
    )
    nulls = json.loads(bench("organisms", "list", "--family", "null", "--json"))
    assert nulls and {o["family"] for o in nulls} == {"null"}
    assert {"delta", "batch_topk", "l1", "mean_diff", "random", "supervised", "oracle"} <= {
        m["name"] for m in json.loads(bench("methods", "list", "--json"))
    }
    assert "taboo/gold-mixed" in bench("organisms", "list")
    shown = bench("organisms", "show", "taboo/gold-mixed")
    assert all(part in shown for part in ("gold", "behaviour_test", "gates", "training rows", "greedy answers"))
    assert "20 dev prompts of 13 templates, 80 test prompts of 20 templates" in " ".join(shown.split())
    sampled = [
        bench("organisms", "show", "taboo/gold-mixed", "--tokens", "12", "--seed", seed).partition("seed ")[2]
        for seed in ("1", "1", "2")
    ]
    assert sampled[0] == sampled[1] and sampled[0].partition("\n")[2] != sampled[2].partition("\n")[2]
    assert "supervised" in bench("methods", "list") and "shrinkage" in bench("methods", "show", "supervised")
    for name in ("result", "behaviour", "card"):
        assert json.loads(bench("schema", name))["type"] == "object"
    assert "hashes match" in bench("doctor")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["organisms", "list"], ["methods", "list"], ["bases", "list"]]
)
def test_lists_and_help_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, diffbench.cli\n"
        f"sys.argv = ['bench', *{arguments!r}]\n"
        "try: diffbench.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'scipy', 'transformers', 'peft', 'matplotlib', 'nnsight'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


def commands(group: Any, lead: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*lead, name))
        else:
            yield (*lead, name), command


@pytest.mark.parametrize(
    ("words", "command"), list(commands(get_command(app))), ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_help_shows_every_option_with_its_whole_text(words: tuple[str, ...], command: Any) -> None:
    """A bracket in a help text was once read as markup, and every default vanished."""
    shown = re.sub(r"[\s│]+", "", CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output)
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", parameter.name
        told = re.sub(r"[\s`]+", "", parameter.help or "")
        assert told in shown, (words, parameter.name)
