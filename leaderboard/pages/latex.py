"""LaTeX of a table: the same cells as in Markdown, as `table` environments."""

from collections.abc import Sequence

from ...harness.escape import tex
from ..statistics.rows import Estimate, Table
from .cells import (
    ANCHOR_HEADS,
    CELL_HEADS,
    FINDING_HEADS,
    OVERALL_HEADS,
    Dialect,
    anchor_cells,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
)
from .legend import ANCHOR_NOTE, PARENTHESES, finding_note, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts


def to_latex(table: Table) -> str:
    """All tables as `table` environments; needs booktabs, and graphicx to fit the line width."""
    overall = [overall_cells(table, row, LATEX) for row in table.overall]
    cells = [cell_cells(row, LATEX) for row in table.cells]
    other = [finding_cells(row, LATEX) for row in table.finding_measures]
    anchors = [anchor_cells(row, LATEX) for row in table.anchors]
    note = tex(finding_note(table))
    answers = verdicts(table)
    lists = "".join(
        _latex_table(
            "llrrlrr",
            CONTRAST_HEADS,
            [contrast_cells(o, each.named, LATEX) for o in each.outcomes],
            set(),
            tex(f"{each.title}. {' '.join(each.said)} {CONTRAST_NOTE}"),
            f"tab:verdicts-{i}",
        )
        for i, each in enumerate(answers.lists, 1)
    )
    complete, size = sum(row.standing != "incomplete" for row in table.overall), len(overall)
    caption = tex(f"{table.header}. {answers.said} {' '.join(notes_of(table))}")
    return (
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n"
        + _latex_table(
            "l" * (len(OVERALL_HEADS) - 4) + "rrlr", OVERALL_HEADS, overall, {complete}, caption, "tab:overall"
        )
        + lists
        + (_latex_table("llrrllll", FINDING_HEADS, other, set(), note, "tab:beyond") if other else "")
        + _latex_table(
            "l" * (len(CELL_HEADS) - 3) + "rlr",
            CELL_HEADS,
            cells,
            set(range(0, len(cells), size)),
            tex(f"By organism. {PARENTHESES}"),
            "tab:cells",
        )
        + (_latex_table("llrrrr", ANCHOR_HEADS, anchors, set(), tex(ANCHOR_NOTE), "tab:anchors") if anchors else "")
    )


def tex_score(estimate: Estimate) -> str:
    r"""`.42 {\scriptsize [.31, .52]}`."""
    value, _, rest = estimate_text(estimate).partition(" ")
    return tex(value) + (rf" {{\scriptsize {rest}}}" if rest else "")


LATEX = Dialect(tex, tex_score)


def _latex_table(
    columns: str, heads: Sequence[str], rows: Sequence[Sequence[str]], rules: set[int], caption: str, label: str
) -> str:
    """`rules`: rows with a line above them, the first excepted (it has one anyway)."""
    body = "".join(("\\midrule\n" if i in rules and i else "") + " & ".join(r) + " \\\\\n" for i, r in enumerate(rows))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n\\resizebox{{\\linewidth}}{{!}}{{%\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(heads)} \\\\\n\\midrule\n{body}\\bottomrule\n"
        "\\end{tabular}}\n\\end{table}\n"
    )
