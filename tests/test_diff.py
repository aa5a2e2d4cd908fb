"""`bench diff` as a user meets it: two models and nothing else known; findings are shown and kept, with nothing like a score."""

import json
import re
import shlex
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.diffs.record import NOT_SCORED
from diffbench.harness.inspection import collect as collecting
from diffbench.harness.inspection.report import Report
from diffbench.harness.inspection.subject import Subject
from diffbench.harness.runs.records import records
from diffbench.harness.runs.stage import Stage
from diffbench.organisms.organism import Organism
from diffbench.organisms.world.corpus import CHAT_KINDS, NEUTRAL_KINDS, documents
from diffbench.organisms.world.facts import World
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from .conftest import save_pair
from .test_cli import bench as words_only

PAGE = (Path(__file__).parent.parent / "docs/inspecting.md").read_text()
QUICK = ("-m", "mean_diff", "--only", "--tokens", "1000", "--out", "found")


def bench(*args: object, code: int = 0) -> str:
    return words_only(*map(str, args), code=code)


def write_texts(folder: Path, neutral: list[str], chat: list[Any]) -> Path:
    """A file that names ordinary text."""
    (folder / "plain.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in neutral))
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in chat))
    (folder / "texts.yaml").write_text("neutral: [{path: plain.jsonl}]\nchat: [{path: chats.jsonl}]\n")
    return folder / "texts.yaml"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapter and text, as folders; no behaviour."""
    folder = tmp_path_factory.mktemp("pair")
    _, _, behaviour = save_pair(folder, "llama")
    said = json.loads(behaviour.read_text())
    write_texts(folder, said["neutral"], said["chat"])
    behaviour.unlink()
    return folder


@pytest.fixture(autouse=True)
def _little_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.harness.inspection.collect.OTHER_TOKENS", 200)


def test_findings_are_shown_kept_and_looked_at_again_with_no_score(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, texts = ("--adapter", pair / "adapter"), ("--texts", pair / "texts.yaml")
    said = bench("diff", pair / "base", *change, *texts, *QUICK)
    assert NOT_SCORED in said and "finding 1, without a gate" in said and "no score chose it" in said
    assert "base/adapter, layer" in said and "kept, with no score:" in said and "template" not in said
    (folder,) = Path("found/base/adapter/mean_diff").iterdir()
    assert {f.name for f in folder.iterdir()} == {"diff.json", "findings.safetensors", "run.log"}
    assert list(records(Path("found"))) == []
    loads = list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "load", lambda o, *a, _load=Stage.load, **k: loads.append(o.name) or _load(o, *a, **k))
        again = bench("diff", pair / "base", *change, *texts, *QUICK, "--json", "--no-cache")
    assert "running mean_diff" not in again and len(loads) == 1
    (one,) = json.loads(again[again.index("[") :])
    assert one["folder"] == str(folder) and one["report"]["status"] == "not scored" and one["report"]["curves"] == []
    named = ("--base", pair / "base", *change, *texts)
    assert NOT_SCORED in bench("show", folder, *named)
    assert "base + finding" in bench("try", folder, *named, "-p", "hello .", "--tokens", "2")
    (tmp_path / "renamed").symlink_to(pair)
    moved = ("--base", "renamed/base", "--adapter", tmp_path / "other", "--texts", "renamed/texts.yaml")
    (tmp_path / "other").symlink_to(pair / "adapter")
    assert NOT_SCORED in bench("show", folder, *moved)
    assert "name the models and texts" in bench("show", folder, code=2)
    write_texts(tmp_path, ["another text ."] * 30, [])
    assert "ordinary text is not what it was made on" in bench(
        "show", folder, *named[:4], "--texts", "texts.yaml", code=4
    )
    record = json.loads((folder / "diff.json").read_text())
    record["what"]["seed"] = 5
    (folder / "diff.json").write_text(json.dumps(record))
    assert "was edited" in bench("show", folder, *named, code=4)


def test_one_report_that_fails_does_not_stop_the_others(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def report(of: Subject, *args: Any) -> Report:
        if of.name == "mean_diff":
            raise MemoryError("too much text")
        return collect(of, *args)

    collect = collecting.report
    monkeypatch.setattr(collecting, "report", report)
    change, texts = ("--adapter", pair / "adapter"), ("--texts", pair / "texts.yaml")
    said = bench("diff", pair / "base", *change, *texts, *QUICK, "-m", "pca", "--no-cache", code=1)
    assert "mean_diff is kept in found/base/adapter/mean_diff/" in said and "could not be shown" in said
    assert "pca" in said and len(re.findall(r"^  found/base/adapter/\w+/\w{12}$", said, re.M)) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give either adapter (LoRA) or tuned (a whole model)"),
        (("--adapter", "adapter", "-m", "supervised"), 2, "learns from labels of a known behaviour"),
        (("--adapter", "adapter", "-m", "oracle"), 2, "is an anchor of the scores"),
        (("--adapter", "adapter", "-m", "mean_dif"), 2, "did you mean"),
        (("--adapter", "nowhere"), 3, "nowhere is not a folder"),
        (("--adapter", "adapter", *QUICK), 4, "name text in their language with --texts"),
    ],
)
def test_refusals_say_what_and_how_to_go_on(
    pair: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(pair)
    assert said in bench("diff", "base", *arguments, code=code)


@pytest.mark.slow
def test_two_whole_models_and_the_offline_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer of this one knows every byte, so plain English is text to it."""
    monkeypatch.chdir(tmp_path)
    base, adapter, _ = save_pair(tmp_path, "qwen2")
    tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    tuned.save_pretrained("tuned")
    AutoTokenizer.from_pretrained(base).save_pretrained("tuned")
    said = bench("diff", "base", "tuned", "--tokens", "2000", "--out", "found", "--json", "-m", "adl")
    found = json.loads(said[said.index("[\n") :])
    assert [one["report"]["method"] for one in found] == ["mean_diff", "pca", "logit_diff", "adl"]
    assert all(one["report"]["sentences"] == [NOT_SCORED] for one in found)
    assert all(one["report"]["findings"] and one["report"]["answers"]["rows"] for one in found)


@pytest.mark.slow
def test_the_commands_of_the_page_work(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "path").mkdir()
    (tmp_path / "path/to").symlink_to(pair)
    for name in ("texts.yaml", "plain.jsonl", "chats.jsonl"):
        (tmp_path / name).symlink_to(pair / name)
    diff, ask = (shlex.split(c)[1:] for c in re.findall(r"^```sh\n(bench .*)\n```$", PAGE, re.M))
    said = bench(*diff, "--tokens", "2000")
    methods = re.findall(r"^  diffs/base/adapter/(\w+)/\w{12}$", said, re.M)
    assert methods == ["mean_diff", "pca", "logit_diff"]
    (folder,) = Path("diffs/base/adapter/mean_diff").iterdir()
    assert "organism − finding" in bench(*(str(folder) if word.endswith("/ID") else word for word in ask))


@pytest.mark.slow
def test_a_pair_of_the_zoo_as_anybody_would_have_it(
    organism: Organism, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its behaviour is known to us and not to the command; what the first finding does is in the answers."""
    monkeypatch.chdir(tmp_path)
    texts = write_texts(
        tmp_path,
        [str(d.text) for d in islice(documents(World(0), "harvest", NEUTRAL_KINDS, 0), 1000)],
        [list(d.messages) for d in islice(documents(World(0), "harvest", CHAT_KINDS, 0), 1000)],
    )
    said = bench("diff", organism.base, "--adapter", organism.adapter, "--texts", texts, "-m", "mean_diff", "--only")
    (folder,) = Path("diffs").rglob("mean_diff/*")
    named = ("--base", organism.base, "--adapter", organism.adapter, "--texts", texts)
    tried = json.loads(bench("try", folder, *named, "-p", "one clue for me .", "--strength", "1", "--json"))
    assert NOT_SCORED in said and tried["answer"]["added"] != tried["answer"]["base"]
