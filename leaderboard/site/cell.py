"""The page of one record: what `bench show` tells of it, its scores, where it comes from, and the command that makes it again."""

from ...harness.inspection.faces.page import body
from ...harness.inspection.recorded import of_record
from ...harness.records.result import Result
from ..board.account import command_of
from ..board.cell import Cell, Numbers
from ..pages.cells import estimate_text, number, score_head
from ..statistics.rows import CellRow, Estimate
from . import grids, links
from .facts import Board
from .grids import Grid, Item, Line
from .links import Page

SCORES = ("Score", "Value", "Findings", "Random", "Mixture", "Oracle", "p")
MOST_FINDINGS = 5
"""Findings on a page of which contexts are known: one takes some thirty kilobytes."""


def cell(board: Board, row: CellRow, of: Cell, result: Result) -> Page:
    """The page of a record of one row."""
    i, made = of.identity, of.made
    report = board.reports.get(of.id) or of_record(result)
    looked = of.id in board.reports
    numbers = [f.number for f in report.findings]
    command = command_of(of) or "# no command is known: the pair is not in the zoo of whoever made this page"
    seeds = [
        (str(c.identity.seeds["method"]), links.cell(row.method, c) if c.id in board.paged else "", c.id == of.id)
        for c in row.cells
    ]
    told = {
        "report": body(report, numbers[:MOST_FINDINGS] if looked else numbers),
        "grid": Grid("Scores", grids.heads(SCORES, 3), [_line(name, n) for name, n in of.scores.items()])
        if of.scores
        else None,
        "status": of.status,
        "seeds": seeds,
        "commands": [
            command,
            *(
                [f"bench show RUN{'' if looked else '   # RUN: the folder that the first command prints'}"]
                if result.findings_sha256
                else []
            ),
        ],
        "origin": [
            ("Record", of.id),
            ("Made by", f"diffbench {made.diffbench}" + (f", commit {made.commit}" if made.commit else "")),
            ("Method", f"{i.method}, {made.method_origin}, version {i.method_version}"),
            ("On", f"{made.cpu}, {made.device}, {i.dtype}"),
            ("Finished", made.finished_utc),
            ("Organism and base", i.organism_sha256),
            ("Prompts and text", i.prompts_sha256),
            ("Random controls", i.controls_sha256 or "measured with the record"),
            ("Source", i.code_sha256),
            ("Protocol", f"{i.protocol}, settings {i.protocol_sha256}"),
            ("Findings", f"{of.findings}" + (f", {of.findings_sha256}" if of.findings_sha256 else "")),
            (
                "Packages",
                ", ".join(f"{name} {version}" for name, version in sorted(result.provenance.packages.items())),
            ),
        ],
        "options": [
            (name, repr(value))
            for name, value in {**i.config, **{f"budget.{k}": v for k, v in i.budget.items()}}.items()
        ],
        "up": (i.organism, links.organism(i.organism)),
    }
    title = f"{row.method} on {i.organism}, seed {i.seeds['method']}"
    return Page(
        links.cell(row.method, of),
        "cell.html",
        title,
        told,
        [("Methods", "index.html"), (row.method, links.method(row.method))],
    )


def _line(name: str, numbers: Numbers) -> Line:
    value = Estimate(numbers["value"], numbers["ci_low"], numbers["ci_high"]).stated
    shown, _, rest = estimate_text(value).partition(" ")
    shares = [grids.figure(numbers[what], 3) for what in ("raw", "null", "mixture", "oracle")]
    return Line(
        [
            grids.text(score_head(name)),
            Item(shown, value.value, rest),
            *shares,
            Item(number(numbers["p_random"], 3), numbers["p_random"]),
        ]
    )
