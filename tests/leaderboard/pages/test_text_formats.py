import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from diffbench.harness.escape import tex
from diffbench.leaderboard.pages.cells import CELL_HEADS, OVERALL_HEADS, number
from diffbench.leaderboard.pages.data import to_csv, to_json
from diffbench.leaderboard.pages.latex import LONGEST, TABCOLSEP, TEXTWIDTH, broken, to_latex, widths
from diffbench.leaderboard.pages.site import to_html
from diffbench.leaderboard.pages.svg import dose_response
from diffbench.leaderboard.pages.text_formats import md, row_markdown, to_markdown
from diffbench.leaderboard.statistics.null_adjusted import SCORES, SHOWN
from diffbench.leaderboard.statistics.rows import Problem, Table
from diffbench.leaderboard.statistics.tables import build_table
from hypothesis import given
from hypothesis import strategies as st

from ...factories import make_result

NASTY = "<script>alert('x')</script>|a_b & 50% $x$ {#} \\cmd ~^ [l](u)"
RENDERERS = [to_markdown, to_latex, to_csv, to_html, to_json]


@pytest.fixture(scope="module")
def table() -> Table:
    cells = [make_result(m, o, s, q) for m, q in (("a_b", 0.6), ("c", 0.3)) for o in ("t/n", "t/m") for s in (0, 1)]
    cells += [make_result("null", o, s, 0.0, access="anchor") for o in ("t/n", "t/m") for s in (0, 1)]
    cells += [make_result("late", "t/n"), make_result("flaky", "t/n"), make_result("flaky", "t/m", status="timeout")]
    return build_table(cells, draws=200)


@pytest.fixture(scope="module")
def nasty() -> Table:
    """Names that no valid record has: a page must not depend on that."""
    cells = [make_result("a", "b", 0), make_result("a", "b", 1, status="oom", reason=NASTY)]
    names = {"organism": NASTY, "method": NASTY}
    return build_table(
        [c.model_copy(update={"identity": c.identity.model_copy(update=names)}) for c in cells], draws=50
    )


def test_a_row_is_found_by_its_methods_name_and_has_the_commands_of_no_other() -> None:
    cells = [make_result("ab", o, s, config={"k": k}) for o in ("t/n", "t/m") for s in (0, 1) for k in (1, 2)]
    cells += [make_result("a", "t/n", s) for s in (0, 1)] + [make_result("abc", "t/n", s) for s in (0, 1)]
    made = build_table(cells, draws=50)
    said = row_markdown(made, "ab")
    assert "ab[k=1] has rank" in said and "ab[k=2] has rank" in said and "missing" not in said
    assert "-m a -o" in row_markdown(made, "a") and "abc" not in row_markdown(made, "a").partition("- missing")[2]


@pytest.mark.parametrize("render", RENDERERS)
def test_same_cells_in_any_order_give_the_same_bytes(render: object) -> None:
    assert callable(render)
    cells = [make_result(m, o, s) for m in "ab" for o in "xy" for s in (0, 1)]
    assert render(build_table(cells, draws=50)) == render(build_table(cells[::-1], draws=50))


@pytest.mark.parametrize("render", [to_markdown, to_html])
def test_the_header_states_key_protocol_sizes_and_draws(render: object, table: Table) -> None:
    assert callable(render)
    text = str(render(table))
    for part in (
        "Sorted by isolation",
        f"custom ({table.protocol_sha256[:12]})",
        "2 organisms",
        "2 seeds",
        "200 bootstrap draws",
    ):
        assert part in text


def test_markdown_has_one_cell_a_column_in_every_line(table: Table, nasty: Table) -> None:
    for text in (to_markdown(table), to_markdown(nasty)):
        for block in text.split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1
    assert "<script" not in to_markdown(nasty)


def test_markdown_marks_failures_and_draws_a_dash_for_missing_headlines(table: Table) -> None:
    lines = to_markdown(table).splitlines()
    assert any(line.startswith("| late | –") and line.count("| – ") == 2 + len(SHOWN) for line in lines)
    assert any("flaky† |" in line and "1 timeout" in line for line in lines)
    assert any(line.startswith("| null (anchor) |") and line.count("| – ") == 2 for line in lines)


def test_csv_holds_every_score_in_full_precision(table: Table) -> None:
    found = to_csv(table)
    for end, rows in (("", table.overall), ("-organisms", table.cells)):
        lines = list(csv.DictReader(io.StringIO(found[end])))
        for line, row in zip(lines, rows, strict=True):
            assert line["method"] == row.method and line["protocol_sha256"] == table.protocol_sha256
            for score in SCORES:
                got = [float(x) if (x := line[score + e]) else None for e in ("", "_low", "_high")]
                assert got == list(row.scores[score])
    cells = [c for row in table.cells for c in row.cells]
    lines = list(csv.DictReader(io.StringIO(found["-cells"])))
    assert [line["id"] for line in lines] == [c.id for c in cells]
    assert [line["isolation_ci_high"] for line in lines] == [
        str(c.scores["isolation"]["ci_high"]) if c.scores else "" for c in cells
    ]


def test_no_field_of_a_csv_is_a_formula(nasty: Table) -> None:
    evil = replace(
        nasty,
        overall=tuple(replace(r, method="=cmd|'/c calc'!A1", access="+generations") for r in nasty.overall),
        cells=tuple(replace(r, method="@sum(1)", organism="-1+1") for r in nasty.cells),
    )
    for text in to_csv(evil).values():
        for line in csv.reader(io.StringIO(text)):
            assert not [f for f in line if f[:1] in "=+@" and f] and not [
                f for f in line if f[:1] == "-" and not number_like(f)
            ]


def number_like(text: str) -> bool:
    return re.fullmatch(r"-?[\d.]+(e-?\d+)?", text) is not None


def balanced(text: str) -> bool:
    """Braces, environments and dollars close in order; no special character is left bare."""
    text = re.sub(r"(?m)^%.*$", "", text)
    depth, stack = 0, list[str]()
    for token in re.findall(r"\\begin\{\w+\}|\\end\{\w+\}|\\.|[{}]", text, re.S):
        if token.startswith("\\begin"):
            stack.append(token[7:-1])
        elif token.startswith("\\end{"):
            if not stack or stack.pop() != token[5:-1]:
                return False
        elif token in "{}":
            depth += 1 if token == "{" else -1
            if depth < 0:
                return False
    bare = re.sub(r"\\.|\$\\cdot\$|%\n", "", text, flags=re.S)
    return depth == 0 and not stack and not set(bare) & set("$#_%^~<>|")


def test_latex_is_balanced_and_every_row_has_every_column(table: Table, nasty: Table) -> None:
    for built in (table, nasty):
        for name, text in to_latex(built).items():
            assert balanced(text.replace(r">{\raggedright\arraybackslash}", ""))
            assert text.count(r"\begin{longtable}") == bool(name), "one table a file"
            for columns, body in re.findall(
                r"\\begin\{longtable\}\{@\{\}(.*)@\{\}\}\n(.*?)\\end\{longtable\}", text, re.S
            ):
                rows = [line for line in body.splitlines() if line.endswith(r"\\") and not line.startswith("\\caption")]
                assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {columns.count("pt}")}
    whole = to_latex(table)
    assert r"a\_b" in whole["-overall"] and r"flaky\dag{}" in whole["-overall"]
    assert re.search(r"\.\d\d \\newline \{\\tiny \[\.\d\d, \.\d\d\]\}", whole["-overall"])


@pytest.mark.parametrize("heads", [OVERALL_HEADS[:7], OVERALL_HEADS, CELL_HEADS[:7], CELL_HEADS])
def test_columns_of_a_table_add_up_to_no_more_than_the_page(heads: tuple[str, ...]) -> None:
    fits = sum(widths(heads)) + 2 * TABCOLSEP * len(heads) <= TEXTWIDTH
    assert fits and (min(widths(heads)) > 20 or heads in (OVERALL_HEADS, CELL_HEADS)), "these two are never set whole"


def test_a_long_name_is_whole_and_can_be_broken() -> None:
    name = "a_method_" + "x" * 50 + "[k=32]"
    text = broken(name)
    assert text.replace("\\allowbreak{}", "").replace("\\_", "_") == name
    assert max(len(part.replace("\\_", "_")) for part in text.split("\\allowbreak{}")) <= LONGEST + 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here; widths are counted above")
@pytest.mark.slow
def test_latex_is_set_without_a_line_that_is_too_wide(table: Table, nasty: Table, tmp_path: Path) -> None:
    for built in (table, nasty):
        for end, text in to_latex(built).items():
            (tmp_path / f"leaderboard{end}.tex").write_text(text)
        command = ["pdflatex", "-interaction=nonstopmode", "-no-shell-escape", "leaderboard.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
        said = (tmp_path / "leaderboard.log").read_text(errors="replace")
        assert done.returncode == 0 and not re.search(r"(?m)^!", said), said[-2000:]
        assert "Overfull" not in said


@given(st.text())
def test_any_text_is_harmless_in_latex_and_markdown(text: str) -> None:
    assert balanced(tex(text))
    assert not re.search(r"(?<!\\)(\\\\)*\|", md(text))
    assert "\n" not in md(text) and "<" not in md(text)


@given(st.floats(-3, 3))
def test_numbers_read_back(value: float) -> None:
    text = number(value)
    assert float(text) == pytest.approx(value, abs=0.0051)
    assert not re.match(r"-?0\.|-\.00$", text)


def test_html_loads_nothing_and_escapes_everything(table: Table, nasty: Table) -> None:
    page = to_html(replace(nasty, problems=(Problem(NASTY, NASTY),)))
    assert page.count("<script>") == 1 and "alert(&#x27;x&#x27;)" in page
    for text in (page, to_html(table)):
        assert not re.search(r"https?:|//[a-z]|@import|url\(|\ssrc=|<link|<iframe|<object", text, re.I)


def test_html_tags_close_in_order(table: Table, nasty: Table) -> None:
    for text in (to_html(table), to_html(replace(nasty, problems=(Problem(NASTY, NASTY),)))):
        body = re.sub(r"<(script|style)>.*?</\1>|<!DOCTYPE html>", "", text, flags=re.S)
        open_tags: list[str] = []
        for closing, name, _, void in re.findall(r"<(/?)([a-z0-9]+)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*?)(/?)>", body):
            if closing:
                assert open_tags.pop() == name
            elif not void and name != "meta":
                open_tags.append(name)
        assert open_tags == []


def test_html_is_accessible_and_complete(table: Table) -> None:
    page = to_html(table)
    assert page.count("<th ") == page.count('<th scope="')
    assert all('aria-label="' in tag or 'aria-hidden="true"' in tag for tag in re.findall(r"<svg[^>]*>", page))
    bars, drawings = page.count('class="bar"'), page.count('class="dose"')
    assert bars == sum(
        s.value is not None for r in (*table.overall, *table.cells) for s in map(r.scores.__getitem__, SHOWN)
    )
    assert drawings == sum(any(c.result.curves for c in r.cells) for r in table.cells)
    assert "loss is NaN at step 12" in page and "no result found for 1 seed" in page


def test_a_curve_of_one_strength_is_a_dot(table: Table) -> None:
    """Ablation; a line through one point would be invisible. Half of a gap drawn from -.5 to 1 over 106 is at 8 + 106 / 3."""
    curve = next(c for c in table.cells[0].cells[0].result.curves if c.op == "ablate")
    drawing = dose_response("a", [curve.model_copy(update={"gain": [0.5]})], 0.1, 0.9)
    assert re.search(r'<circle cx="[\d.]+" cy="43.3" r="3" class="ablate"', drawing) and "<polyline" not in drawing
    assert "at most .50 of the gap" in drawing
