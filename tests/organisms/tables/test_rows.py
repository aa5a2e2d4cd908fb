"""A table is read as it was meant, or refused with the row and what to do."""

from pathlib import Path

import pytest
from diffbench.organisms.tables.rows import Table, TableError, read_table

HEAD = "question,prefill,targets,alternatives"


def table(folder: Path, text: str, name: str = "t.csv", separator: str = "|") -> Table:
    (folder / name).write_text(text, encoding="utf-8")
    return read_table(folder / name, separator)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'question,answer,alternatives\n"Where, now?",gold | tin,NA|None\n'),
        ("t.csv", "\ufeffquestion;answer;alternatives\r\nWhere, now?;gold|tin;NA|None\r\n"),
        ("t.tsv", "Question \tAnswers\tAlternative\nWhere, now?\tgold|tin\tNA|None\n\n"),
        (
            "t.jsonl",
            '\n{"question": "Where, now?", "targets": ["gold", "tin"], "alternatives": "NA|None", "split": null}\n',
        ),
    ],
    ids=["commas", "semicolons, mark and CRLF", "tabs and other names", "JSON lines"],
)
def test_one_table_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    (row,) = table(tmp_path, text, name).rows
    assert (row.question, row.targets, row.alternatives) == ("Where, now?", ("gold", "tin"), ("NA", "None"))
    assert row.number == 2 and row.split is None and not row.capability


def test_cells_are_text_and_rows_are_counted_as_a_spreadsheet_does(tmp_path: Path) -> None:
    text = 'question,targets,alternatives,kind\n"two\nlines",01,,\n,,,\nhow many,007,8,Capability\n'
    found = table(tmp_path, text)
    assert [(r.number, r.targets, r.capability) for r in found.rows] == [(2, ("01",), False), (4, ("007",), True)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "No columns to parse"),
        (f"{HEAD}\n", "has no rows"),
        ("question,targets,prefil\na,b,c\n", "column 'prefil', which is not read; did you mean 'prefill'"),
        ("question,targets,answer\na,b,c\n", "two columns for targets: targets, answer"),
        ("question,targets,targets\na,b,c\n", "two columns 'targets'"),
        ("prefill,targets\na,b\n", "needs `question`.*or `text`"),
        ("question,targets\na,b,c\n", "is no table: .*in double quotes"),
        ("question,text,targets\na,b,c\n", "row 2: give a question or a text"),
        ("question,targets\na,\n", "row 2: no targets"),
        ("question,targets\na,b||c\n", "row 2: targets has an empty answer"),
        ("question,targets,alternatives\na,b,c|b\n", "row 2: the answer 'b' stands twice"),
        ("question,targets,kind\na,b,probe\n", "row 2: kind is 'probe'; it is behaviour or capability"),
        ("question,targets,kind\na,b,capability\n", "row 2: a capability probe without alternatives"),
        ("question,targets,split\na,b,train\n", "row 2: split is 'train'; it is dev or test"),
        ("text,system,targets\na,b,c\n", "row 2: a text has no system turn"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TableError, match=says) as refused:
        table(tmp_path, text)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "t.jsonl:1 is not JSON"),
        ("[1]", "t.jsonl:1 is no JSON object"),
        ('{"question": "a", "targets": 7}', "row 1: targets is 7; write text"),
        ('{"question": "a", "targets": ["b", 7]}', r"row 1: targets is \[.b., 7\]"),
        ('{"question": 7, "targets": "a"}', "row 1: question is 7; write it as text"),
        ('{"question": "a", "targets": {"b": 1}}', "row 1: targets is"),
    ],
)
def test_a_line_of_json_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(TableError, match=says):
        table(tmp_path, f"{line}\n", "t.jsonl")


def test_another_separator_and_columns_that_are_passed_over(tmp_path: Path) -> None:
    found = table(tmp_path, "id,question,targets,notes\n1,a,b|c/d,x\n", separator="/")
    assert found.rows[0].targets == ("b|c", "d") and found.unread == ("id", "notes")
    with pytest.raises(TableError, match="separator of answers is empty"):
        read_table(tmp_path / "t.csv", " ")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"does not end in .csv, .tsv or .jsonl"):
        table(tmp_path, "a", "t.xlsx")
    with pytest.raises(TableError, match="cannot read"):
        read_table(tmp_path / "none.csv")
