"""What a cell makes of a user's template and texts: in its identity, in its record, and in its own failure alone."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.records import reading
from diffbench.harness.records.reading import prompts_sha256
from diffbench.harness.records.result import Result
from diffbench.harness.records.settings import Protocol
from diffbench.harness.runs.cell import Cell
from diffbench.harness.runs.run import plan, run
from diffbench.harness.views.results import head
from diffbench.methods.registry import load_method
from diffbench.organisms.hub import chat
from diffbench.organisms.hub.user_pair import UserPair, user_organism
from diffbench.organisms.organism import Organism

from ...conftest import SHORT, save_pair
from ...tokenizers import CHATML, GEMMA
from .test_cells import Quiet, write_method

Make = Callable[..., Organism]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Base, adapter and behaviour file of a pair with a byte-level tokenizer; its texts hold few tokens."""
    return save_pair(tmp_path_factory.mktemp("pair"), "qwen2")


@pytest.fixture
def make(saved: tuple[Path, Path, Path], tmp_path: Path) -> Make:
    base, adapter, behaviour = saved

    def made(name: str = "mine", **fields: Any) -> Organism:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**json.loads(behaviour.read_text()), "name": name, **fields}))
        return user_organism(UserPair(base=str(base), adapter=str(adapter), behaviour=str(path)))

    return made


def ran(folder: Path, organisms: list[Organism], *names: str, protocol: Protocol = SHORT) -> list[Result]:
    methods = [(m, m.configure({})) for m in map(load_method, names)]
    return list(run(plan(organisms, methods, [0], folder, protocol=protocol), Quiet(), str))


DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML


def test_what_is_read_is_in_the_identity(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, dated = make(chat_template=CHATML), make(chat_template=DATED)
    hashes = {prompts_sha256(plain), prompts_sha256(dated), prompts_sha256(make())}
    assert len(hashes) == 3 and prompts_sha256(make(chat_template=CHATML)) in hashes
    monkeypatch.setattr(chat, "TODAY", chat.TODAY.replace(year=2031))
    reading._read_sha256.cache_clear()
    assert prompts_sha256(plain) in hashes and prompts_sha256(dated) not in hashes
    reading._read_sha256.cache_clear()


def test_a_changed_template_is_another_result(make: Make) -> None:
    method = load_method("random")
    ids = {Cell(make(chat_template=t), method, method.configure({}), 0).identity(1).id() for t in (CHATML, DATED, None)}
    assert len(ids) == 3


def test_a_template_that_refuses_the_prompts_fails_its_own_cells_only(tmp_path: Path, make: Make) -> None:
    system = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "count ."}]
    prompts = [
        {"split": s, "messages": system, "prefill": f"{s} {i}", "targets": [" one"], "alternatives": [" two"]}
        for s in ("dev", "test")
        for i in range(8)
    ]
    broken, good = make("broken", prompts=prompts, chat_template=GEMMA), make("good")
    first, second = ran(tmp_path / "runs", [broken, good], "random")
    assert (first.status, second.status) == ("failed", "ok")
    assert "System role not supported" in str(first.reason) and "merge_system" in str(first.reason)


def test_conversations_that_cannot_be_shown_fail_the_cell_that_reads_them(
    tmp_path: Path, make: Make, saved: tuple[Path, Path, Path]
) -> None:
    """What an edit costs is measured on text of the prompts' own kind, which is neutral here."""
    prompts = json.loads(saved[2].read_text())["prompts"]
    for p in prompts:
        p["text"] = p.pop("messages")[0]["content"]
    bare = {"prompts": prompts, "chat_template": "{{ raise_exception('no conversations here') }}"}
    body = "return DiffResult([Finding(b.residuals[:, 1].mean(0)) for b in problem.activations('{}', tokens=100)][:1])"
    chat = write_method(tmp_path, body.format("chat")).file.as_posix()
    (result,) = ran(tmp_path / "runs", [make("bare", **bare)], chat)
    assert result.status == "failed"
    assert "conversation 1 of `chat`" in str(result.reason) and "no conversations here" in str(result.reason)
    neutral = write_method(tmp_path, body.format("neutral")).file.as_posix()
    (result,) = ran(tmp_path / "runs", [make("bare", **bare)], neutral)
    assert result.status == "ok", result.reason


def test_texts_shorter_than_the_budget_are_said_where_a_result_is_shown(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    organism = make(chat_template="{% if messages[0].role != 'system' %}be brief {% endif %}" + DATED)
    with caplog.at_level(logging.WARNING):
        (result,) = ran(tmp_path / "runs", [organism], "mean_diff")
    text = result.text
    assert text is not None and set(text.asked) == {"neutral", "chat"} and sum(text.held.values()) == result.cost.tokens
    said = f"Asked for {text.asked['neutral']:,} tokens of neutral text, the texts hold {text.held['neutral']:,}."
    assert said in head(result).plain and said in caplog.messages
    assert "be brief 26 Jul 2024" in head(result).plain and text.date == "26 Jul 2024"


def test_text_too_short_to_read_collateral_on_is_said(tmp_path: Path, make: Make) -> None:
    asked = SHORT.model_copy(update={"test_tokens": 100_000})
    (result,) = ran(tmp_path / "runs", [make()], "random", protocol=asked)
    assert result.text is not None
    assert [s for s in result.text.sentences if "Collateral on test is read on" in s and "not on 100,000" in s]


def test_what_the_prompts_leave_to_be_said_is_said_where_a_result_is_shown(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (result,) = ran(tmp_path / "runs", [make(chat=[])], "random")
    for sentence in ("No prompt names its `template`", "There are no conversations (`chat`)"):
        assert sentence in head(result).plain and any(sentence in m for m in caplog.messages)


def test_other_templates_are_another_result(make: Make, saved: tuple[Path, Path, Path]) -> None:
    prompts = json.loads(saved[2].read_text())["prompts"]
    named = [[{**p, "template": f"{p['split']} {i % n}"} for i, p in enumerate(prompts)] for n in (10, 12)]
    assert len({prompts_sha256(make(prompts=p)) for p in (prompts, *named)}) == 3


def test_a_prompt_longer_than_the_model_reads_is_refused_by_number(
    tmp_path: Path, make: Make, saved: tuple[Path, Path, Path]
) -> None:
    prompts = json.loads(saved[2].read_text())["prompts"]
    [p for p in prompts if p["split"] == "dev"][3]["messages"][0]["content"] = "count from one to two . " * 100
    (result,) = ran(tmp_path / "runs", [make("long", prompts=prompts)], "random")
    assert result.status == "failed"
    assert "prompt 3: a text of " in str(result.reason) and "made to read 128" in str(result.reason)


@pytest.mark.slow
def test_the_embedded_tier_says_nothing_of_its_texts(tmp_path: Path, organism: Organism) -> None:
    (result,) = ran(tmp_path / "runs", [organism], "random")
    assert result.text is None and result.left_out is None
