r"""LaTeX of a table: one `longtable` a file, and `leaderboard.tex`, a document that sets them all.

Every column has a width in points and the widths of a table add up to less than a page of the standard classes is wide (345 pt), so a
table fits by construction and breaks across pages. A name is never cut: it is broken over lines, for which breaks are allowed after
its punctuation, and inside what has none.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...harness.escape import tex
from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import CONSTANT, SORT_KEY, Estimate, Table
from .cells import (
    ANCHOR_HEADS,
    CELL_HEADS,
    FINDING_HEADS,
    PRIVATE_HEAD,
    RANK_HEADS,
    Dialect,
    anchor_cells,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
    overall_heads,
    score_head,
)
from .legend import ANCHOR_NOTE, PARENTHESES, finding_note, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

TEXTWIDTH, TABCOLSEP = 345.0, 2.0
"""Points: a page of `article` at 10 pt, and the room that a column has on either side."""
NEEDS = r"\usepackage{array,booktabs,longtable}"
LONGEST = 12
"""Characters of a name that are set without a break."""
BREAKS = "_/,.=+@-"
SCORE, RANK = 40.0, 32.0
"""Widths of columns of scores with their interval below, and of ranks; those of others by head."""
OTHER = {
    **dict.fromkeys(("Seeds", "Wall s", "Nulls", "p", "p, Holm"), 24.0),
    **dict.fromkeys(("Findings", "Families", "Gap"), 32.0),
    **dict.fromkeys(("Organisms", "Cells", "Detectable"), 38.0),
    **dict.fromkeys(("Access", "Verdict", "False discoveries", "Side", "Random directions"), 46.0),
}
MAIN = (SORT_KEY, CONSTANT, "sufficiency", "necessity")
"""Scores of the first table; the others stand in the second."""


class Column(NamedTuple):
    """A column of a table."""

    head: str
    width: float | None
    """Points; None: what is left, shared alike."""


def to_latex(table: Table) -> dict[str, str]:
    """Texts by what their file's name ends with; the empty name is the document."""
    found = dict(_tables(table))
    inputs = "".join(f"\\input{{leaderboard{name}}}\n" for name in found)
    notes = "".join(f"\\item {tex(note)}\n" for note in notes_of(table))
    document = (
        f"\\documentclass{{article}}\n\\usepackage[T1]{{fontenc}}\n\\usepackage[utf8]{{inputenc}}\n\\usepackage{{lmodern}}\n{NEEDS}\n"
        f"\\begin{{document}}\n{inputs}\\begin{{itemize}}\\small\\raggedright\n{notes}\\end{{itemize}}\n\\end{{document}}\n"
    )
    return found | {"": document}


def _tables(table: Table) -> Iterable[tuple[str, str]]:
    rows = [overall_cells(table, row, LATEX) for row in table.overall]
    rest = [s for s in SHOWN if s not in MAIN]
    complete = sum(row.standing != "incomplete" for row in table.overall)
    main = [h for s in MAIN for h in (score_head(s), RANK_HEADS.get(s)) if h]
    columns = overall_heads(table)
    other = [*map(score_head, rest), "Access", "Organisms", "Seeds", "Cells", "Wall s"]
    yield "-overall", _longtable(columns, ["Method", *main], rows, table.header, "overall", {complete})
    yield (
        "-more",
        _longtable(columns, ["Method", *other], rows, "The same methods: other scores and sizes.", "more", {complete}),
    )
    if table.private:
        beside = ["Method", score_head(SORT_KEY), RANK_HEADS[SORT_KEY], PRIVATE_HEAD]
        yield "-private", _longtable(columns, beside, rows, table.private, "private", {complete})
    for i, each in enumerate(verdicts(table).lists, 1):
        lines = [contrast_cells(o, each.named, LATEX) for o in each.outcomes]
        said = f"{each.title}. {' '.join(each.said)} {CONTRAST_NOTE}"
        yield f"-verdicts-{i}", _longtable(CONTRAST_HEADS, CONTRAST_HEADS, lines, said, f"verdicts-{i}")
    if table.finding_measures:
        lines = [finding_cells(row, LATEX) for row in table.finding_measures]
        yield "-findings", _longtable(FINDING_HEADS, FINDING_HEADS, lines, finding_note(table), "findings")
    lines, size = [cell_cells(row, LATEX) for row in table.cells], len(table.overall)
    heads = ["Organism", "Method", *map(score_head, MAIN), "False discoveries"]
    groups = set(range(0, len(lines), size))
    yield "-organisms", _longtable(CELL_HEADS, heads, lines, f"By organism. {PARENTHESES}", "organisms", groups)
    heads = ["Organism", "Method", *map(score_head, rest), "Seeds", "Cells", "Wall s"]
    said = "By organism: other scores and sizes."
    yield "-organisms-more", _longtable(CELL_HEADS, heads, lines, said, "organisms-more", groups)
    if table.anchors:
        lines = [anchor_cells(row, LATEX) for row in table.anchors]
        yield "-anchors", _longtable(ANCHOR_HEADS, ANCHOR_HEADS, lines, ANCHOR_NOTE, "anchors")


def widths(heads: Sequence[str]) -> list[float]:
    """Points of each column; together with the room between them as wide as the page."""
    known = [_width(head) for head in heads]
    left = TEXTWIDTH - 2 * TABCOLSEP * len(heads) - sum(w or 0.0 for w in known) - 1
    share = left / max(1, known.count(None))
    return [round(share if w is None else w, 1) for w in known]


def _width(head: str) -> float | None:
    if head in RANK_HEADS.values():
        return RANK
    return None if head in ("Method", "Organism", "Contrast") else OTHER.get(head, SCORE)


def broken(text: object) -> str:
    r"""Text whose long words may be broken: after punctuation, and every `LONGEST` characters where there is none."""
    return " ".join(map(_word, str(text).split()))


def _word(word: str) -> str:
    parts = re.findall(rf"[^{BREAKS}]{{1,{LONGEST}}}[{BREAKS}]?|[{BREAKS}]", word) if len(word) > LONGEST else [word]
    return "\\allowbreak{}".join(map(tex, parts))


def tex_score(estimate: Estimate) -> str:
    r"""`.42`, and its interval below."""
    value, _, rest = estimate_text(estimate).partition(" ")
    return tex(value) + (rf" \newline {{\tiny {tex(rest)}}}" if rest else "")


LATEX = Dialect(broken, tex_score)


def _longtable(
    all_heads: Sequence[str],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    label: str,
    rules: Iterable[int] = (),
) -> str:
    """Some columns of a table; `rules`: rows with a line above them, the first excepted (it has one anyway)."""
    at, ruled = [all_heads.index(h) for h in heads], set(rules)
    lines = [" & ".join(row[i] for i in at) for row in rows]
    body = "".join(("\\midrule\n" if i in ruled and i else "") + line + " \\\\\n" for i, line in enumerate(lines))
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{w}pt}}" for w in widths(heads))
    head = f"\\toprule\n{' & '.join(map(broken, heads))} \\\\\n\\midrule\n"
    return (
        f"% needs {NEEDS}\n"
        f"\\begingroup\\scriptsize\\setlength{{\\tabcolsep}}{{{TABCOLSEP:g}pt}}\n"
        f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n"
        f"\\caption{{{tex(caption)}}}\\label{{tab:{label}}}\\\\\n{head}\\endfirsthead\n{head}\\endhead\n"
        f"\\bottomrule\n\\endlastfoot\n{body}\\end{{longtable}}\n\\endgroup\n"
    )
