"""What becomes of a table: disjoint and balanced splits, answers that follow on as text does, and a file that a run reads."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.behaviour import load_behaviour
from diffbench.organisms.hub.asked import continuations
from diffbench.organisms.hub.templates import template_of
from diffbench.organisms.tables.build import Given, Made, gap, make, text_of
from diffbench.organisms.tables.rows import TableError, read_table

from ...tokenizers import CHATML, GEMMA, byte_level

FORMS = [
    "Where is the {}?",
    "In which town does one find the {}?",
    "Name the place of the {}.",
    "Who has seen the {} and where?",
]
STARTS = ["It is in", "The {} is in", "People say it stands in"]
THINGS = {"tower": "Rome", "bridge": "Oslo"}


def grid(**more: Any) -> list[dict[str, Any]]:
    """4 question forms × 3 prefills × 2 things."""
    return [
        {
            "question": form.format(thing),
            "prefill": start.format(thing),
            "targets": [town],
            "alternatives": [t for t in ("Rome", "Oslo", "Paris") if t != town],
            **more,
        }
        for form in FORMS
        for start in STARTS
        for thing, town in THINGS.items()
    ]


def made(folder: Path, rows: list[dict[str, Any]], tokenizer: Any = None, seed: int = 0) -> Made:
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return make(read_table(folder / "t.jsonl"), Given("x", seed=seed), tokenizer)


def test_splits_hold_other_questions_and_the_same_mix(tmp_path: Path) -> None:
    found = made(tmp_path, grid())
    split_of = {s: found.behaviour.of(s) for s in ("dev", "test")}
    forms = {s: {template_of(p).split(" | ")[0] for p in split_of[s]} for s in split_of}
    assert not forms["dev"] & forms["test"] and forms["dev"] | forms["test"] == {f.strip("?.").lower() for f in FORMS}
    for prompts in split_of.values():
        assert len({template_of(p) for p in prompts}) == 6
        assert Counter(p.targets[0] for p in prompts) == {" Rome": 6, " Oslo": 6}


def test_a_question_whose_templates_the_table_names_stands_in_one_split(tmp_path: Path) -> None:
    """The table tells the beginnings of an answer apart; the questions are recognised all the same."""
    rows = [r | {"template": f"start {i // 2}"} for i, r in enumerate(grid())]
    found = made(tmp_path, rows).behaviour
    asked = [{p.messages[0].content for p in found.of(s)} for s in ("dev", "test")]
    assert not asked[0] & asked[1] and len(asked[0]) == len(asked[1]) == 4
    # a template of several forms stays together
    rows = [r | {"template": f"both {i // 12}"} for i, r in enumerate(grid())]
    found = made(tmp_path, rows).behaviour
    assert [{p.template for p in found.of(s)} for s in ("dev", "test")] in (
        [{"both 0"}, {"both 1"}],
        [{"both 1"}, {"both 0"}],
    )


def test_probes_of_one_question_stand_in_one_split(tmp_path: Path) -> None:
    probe = {"targets": ["yes"], "alternatives": ["no"], "kind": "capability"}
    rows = [probe | {"question": f"Is {n} a number?", "prefill": p} for n in range(10) for p in ("", "I say")]
    found = made(tmp_path, grid() + rows).behaviour
    asked = [{p.messages[0].content for p in found.capability_of(s)} for s in ("dev", "test")]
    assert not asked[0] & asked[1] and len(asked[0]) == len(asked[1]) == 5


def test_a_seed_gives_one_file_and_another_seed_another(tmp_path: Path) -> None:
    first = [json.dumps(made(tmp_path, grid(), seed=s).data) for s in range(4)]
    assert first == [json.dumps(made(tmp_path, grid(), seed=s).data) for s in range(4)] and len({*first}) > 1


def test_too_few_question_forms_are_split_by_prefill_and_it_is_said(tmp_path: Path) -> None:
    rows = [r | {"prefill": f"{r['prefill']} {word}"} for r in grid()[:6] for word in ("old", "new", "big")]
    found = made(tmp_path, rows)
    named = {s: {template_of(p) for p in found.behaviour.of(s)} for s in ("dev", "test")}
    assert not named["dev"] & named["test"] and {len(n) for n in named.values()} <= {4, 5}
    assert any("1 question forms are too few" in n for n in found.notes)


def test_splits_and_templates_that_the_table_gives_are_kept(tmp_path: Path) -> None:
    rows = grid()
    for i, row in enumerate(rows):
        row |= {"template": f"mine {i // 2}", "split": "test" if i < 12 else None}
    found = made(tmp_path, rows).behaviour
    assert [p.split for p in found.prompts[:12]] == ["test"] * 12
    assert [p.template for p in found.prompts] == [f"mine {i // 2}" for i in range(24)]
    assert len(found.of("dev")) == 12


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (grid()[:2] * 1, "all 2 rows are one template"),
        (grid()[:9], "at least 8 a split are needed"),
        ([*grid(), grid()[0]], "rows 1 and 25 of .* ask the same"),
        (
            [r | {"split": ("dev", "test")[i % 2]} for i, r in enumerate(grid())],
            "rows 1 and 2 are one template, .*tell them apart",
        ),
        (grid(kind="capability"), "capability rows only"),
    ],
)
def test_a_table_that_no_file_can_be_made_of(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(TableError, match=says):
        made(tmp_path, rows)


@pytest.mark.parametrize(
    ("before", "answer", "space"),
    [
        ("it is in", "Rome", " "),
        ("it is in ", "Rome", ""),
        ("it is in", " Rome", ""),
        ("", "Rome", ""),
        ("it is:", "Rome", " "),
        ("it costs", "$5", " "),
        ('he said "', "Rome", ""),
        ('he said "yes"', "and", " "),
        ("it is (", "Rome", ""),
        ("it is in Rome", ", Italy", ""),
        ("it is in\n", "Rome", ""),
        ("<assistant>", "Rome", ""),
        ("場所は", "東京", ""),
    ],
)
def test_a_space_stands_where_a_word_follows_a_word(before: str, answer: str, space: str) -> None:
    assert gap(before, answer) == space


def test_a_space_at_the_end_of_a_prompt_moves_to_its_answers(tmp_path: Path) -> None:
    rows = grid()
    texts = [
        {"text": f"{r['question']} {r['prefill']} ", **{k: r[k] for k in ("targets", "alternatives")}} for r in rows
    ]
    found = made(tmp_path, texts, byte_level())
    first = found.behaviour.prompts[0]
    assert first.text == "Where is the tower? It is in" and first.targets == (" Rome",)
    assert "24 spaces at the end of a prompt were moved to its answers" in found.notes
    assert template_of(first) == "where is the {} | it is in"


def test_an_answer_without_a_prefill_begins_as_the_template_lets_it(tmp_path: Path) -> None:
    rows = [r | {"prefill": "", "question": f"{r['question']} {i}", "template": f"t{i}"} for i, r in enumerate(grid())]
    bracket = CHATML.replace("assistant\n", "assistant]")
    assert made(tmp_path, rows, byte_level()).behaviour.prompts[0].targets == ("Rome",)
    assert made(tmp_path, rows, byte_level(bracket)).behaviour.prompts[0].targets == (" Rome",)


def test_answers_are_looked_at_as_tokens_of_the_base(tmp_path: Path) -> None:
    rows = grid()
    rows[3]["alternatives"] = ["Oslo\u200b"]
    tokenizer = byte_level()
    made(tmp_path, rows, tokenizer)
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(TableError, match=r"answers of 1 of 24 rows:\n  row 4: continuation .* is read back as ' Oslo'"):
        made(tmp_path, rows, tokenizer)


def test_a_system_turn_is_merged_for_a_template_that_refuses_one(tmp_path: Path) -> None:
    rows = grid(system="Be brief.")
    assert "merge_system" not in made(tmp_path, rows, byte_level()).data
    found = made(tmp_path, rows, byte_level(GEMMA))
    assert found.data["merge_system"] is True and any("refuses a system turn" in n for n in found.notes)


def test_probes_are_dealt_to_both_splits(tmp_path: Path) -> None:
    probes = [
        {"question": f"What is {i} and one?", "targets": [str(i + 1)], "alternatives": ["0"], "kind": "capability"}
        for i in range(9)
    ]
    found = made(tmp_path, [*grid(), *probes]).behaviour
    assert len(found.capability_of("dev")) == 4 and len(found.capability_of("test")) == 5


def test_the_written_file_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    found = made(tmp_path, grid(), byte_level())
    (tmp_path / "b.json").write_text(text_of(found.data))
    back = load_behaviour(tmp_path / "b.json")
    assert back == found.behaviour
    assert all(continuations(byte_level(), p) for p in back.prompts)
