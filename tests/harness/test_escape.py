"""Text of others is shown and never obeyed, whatever reads it."""

import csv
import io
import json
import logging
import re

import pytest
from diffbench.harness.escape import csv_field, html, md, plain, tex
from diffbench.harness.terminal import collect_log, say, show
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from rich.text import Text

ACTS = [
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "a\rb",
    "\x7f",
    "\u2028",
    "\ud800",
    "\U000e0041",
    "\x00",
]


def acts(text: str) -> bool:
    """Whether anything in a text could move a cursor, turn a line around or hide."""
    return bool(
        re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\U000e0000-\U000e007f]",
            text,
        )
    )


@pytest.mark.parametrize("text", ACTS)
def test_what_acts_is_written_out_in_every_medium(text: str) -> None:
    assert acts(text)
    for shown in (plain(text), html(text), md(text), tex(text), str(csv_field(text))):
        assert not acts(shown)


@given(st.text())
def test_written_out_json_is_the_same_json(text: str) -> None:
    value = {"said": text, text: [1.5, None]}
    assert json.loads(plain(json.dumps(value, ensure_ascii=False))) == value
    assert not acts(plain(text)) and plain(plain(text)) == plain(text)


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    for text in ("gold [b] {x} 50 %\n\tnext", "Grüße, 你好, שלום, مرحبا, ▁the", "→ ≤ † 🙂"):
        assert plain(text) == text


MARKUP = ["[/b]", "[b]", "[red]x[/red]", "[link=file:///x]y[/link]", "[INST]", "[/INST]", ":smile:", "<|im_start|>"]


def shown(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a terminal gets where `text` stands in every place that our views have."""
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    show(Group(table, Text(text), text))
    say(text)
    return capsys.readouterr().out


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_record_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(text, capsys).count(text) == 7


@pytest.mark.parametrize("text", ACTS)
def test_no_text_of_a_record_acts_on_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not acts(shown(text, capsys))


def test_log_lines_do_not_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger("diffbench")
    before = list(root.handlers)
    try:
        take = collect_log(verbose=True)
        root.warning("a method said %s", "\x1b[2J\u202e")
        assert "u001b[2J" in take() and not acts(capsys.readouterr().err)
    finally:
        root.handlers[:] = before


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\n=1", "＝1"])
def test_a_spreadsheet_sees_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_field(text)])
    ((read,),) = csv.reader(io.StringIO(out.getvalue()))
    assert read.startswith(("'", "\\")) and read.endswith("1" if "1" in text else "x")


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.none()))
def test_a_spreadsheet_sees_numbers_as_numbers(value: float | None) -> None:
    assert csv_field(value) is value
