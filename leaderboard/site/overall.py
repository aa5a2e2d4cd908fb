"""Pages about all methods: the overall table and its parts, organisms, tiers, claims, what is beside the scores, cost and gaps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...harness.store.labels import bare
from ...organisms.errors import PrerequisiteError
from ..board.build import tabulated
from ..board.resolve import RULE
from ..pages.cells import FINDING_HEADS, Dialect, estimate_text, finding_cells, p_text
from ..pages.legend import PARENTHESES, finding_note, not_counted, notes_of, protocol_facts
from ..pages.verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_text, verdicts
from ..statistics.contrasts import CLAIMS, Outcome
from ..statistics.grid import LABELLED
from ..statistics.rows import SORT_KEY, AnchorRow, CostRow, Table, height
from . import grids, links
from .facts import Board
from .grids import Grid, Head, Item, Line
from .links import Page
from .tips import TIPS

PLAIN = Dialect(str, estimate_text)
HOW_TO_READ = (
    "Each method looked at a base and a fine-tuned model and returned directions it believes to be the change. They are added to the "
    "base and taken out of the fine-tuned model, and a score says what share of the way they go: 0 is what random directions do, 1 is "
    "exchanging the whole residual. Bars show a score with its 95 % interval, with ticks at 0 and at 1."
)


def parts(board: Board) -> Iterator[tuple[str, str, Table]]:
    """The table on each family and tier that more than one method has a score on: what it is a part by, its name, the table."""
    tiers = {c.identity.organism: c.identity.tier for row in board.table.cells for c in row.cells}
    kinds: Mapping[str, Mapping[str, str]] = {"family": board.families, "tier": tiers}
    for what, of in kinds.items():
        names = sorted(set(of.values()))
        for name in names if len(names) > 1 else ():
            on = [o for o in board.table.organisms if of.get(o) == name]
            ask = replace(board.ask, organisms=on, organism_set=f"{board.ask.organism_set}, {what} {name}", pairs=False)
            try:
                table = tabulated(replace(board.loaded, problems=(), set_aside=()), ask)
            except PrerequisiteError:
                continue
            if table.counted[table.key]:
                yield what, name, replace(table, outside=0)


def overall(board: Board, tables: Sequence[tuple[str, str, Table]]) -> Iterator[Page]:
    """The overall table, and one on each part of the organisms."""
    every = [("", "all organisms", "index.html", board.table)]
    every += [(what, name, links.subset(what, name), table) for what, name, table in tables]
    href = {row.method: links.method(row.method) for row in board.table.overall}
    choices = [(what, name, path) for what, name, path, _ in every]
    for what, name, path, table in every:
        caption = "Methods over all organisms" if not what else f"Methods over organisms of {what} {name}"
        told = {
            "header": table.header,
            "how": HOW_TO_READ,
            "choices": choices,
            "grid": grids.overall(table, board.gates, href, caption),
            "notes": notes_of(table),
        }
        title = "Leaderboard" if not what else f"{what.capitalize()} {name}"
        yield Page(path, "overall.html", title, told, [("Leaderboard", "index.html")] if what else [], "index.html")


ORGANISMS = (
    *("Organism", "Gap", "Best", "Best isolation", "Labels", "Random, sufficiency", "Random, necessity"),
    *("Oracle, sufficiency", "Oracle, necessity", "Family", "Tier", "Counts"),
)


def organisms(board: Board) -> Page:
    """Every organism with what is hard about it."""
    reasons = {o: why for o, scores, why in not_counted(board.table) if SORT_KEY in scores.split("; ")}
    lines = [_organism(board, name, reasons.get(name)) for name in board.table.organisms]
    grid = Grid("Organisms", grids.heads(ORGANISMS, 4, grids.CHOICES), lines)
    return Page(
        "organisms.html", "table.html", "Organisms", {"grids": [grid], "notes": [PARENTHESES]}, section="organisms.html"
    )


def anchors_of(table: Table, organism: str) -> dict[str, AnchorRow]:
    """By side."""
    return {row.side: row for row in table.anchors if row.organism == organism}


def _organism(board: Board, name: str, reason: str | None) -> Line:
    rows, at = board.rows[name], anchors_of(board.table, name)
    ranked = [
        r
        for r in rows.values()
        if board.methods[r.method].standing == "ranked" and r.scores[SORT_KEY].value is not None
    ]
    best = max(ranked, key=height, default=None)
    labelled = max((r for r in rows.values() if bare(r.method) == LABELLED), key=height, default=None)
    sides = [at.get(side) for side in ("sufficiency", "necessity")]
    tier = next((c.identity.tier for r in rows.values() for c in r.cells), "–")
    counts = (
        "no scores"
        if name in board.table.inapplicable
        else "yes"
        if reason is None
        else f"no: {reason}"
        if reason
        else "no"
    )
    return Line(
        [
            Item(name, name, href=links.organism(name)),
            grids.figure(sides[0] and sides[0].gap),
            Item(best.method, best.method, href=board.cell_page(best)) if best else Item("–"),
            grids.score(best, SORT_KEY) if best else Item("–"),
            grids.estimate(labelled.scores[SORT_KEY]) if labelled else Item("–"),
            *(grids.figure(row and row.null) for row in sides),
            *(grids.figure(row and row.oracle) for row in sides),
            grids.text(board.families[name]),
            grids.text(tier),
            grids.text(counts, style="wrap"),
        ]
    )


def tiers(board: Board, tables: Sequence[tuple[str, str, Table]]) -> Page:
    """Tiers side by side: which methods keep their place from small models to large ones."""
    own = [(name, table) for what, name, table in tables if what == "tier"]
    if not own:
        there = {c.identity.tier for row in board.table.cells for c in row.cells}
        notes = [
            f"All records are of tier {', '.join(sorted(there)) or 'none'}: there is nothing to set side by side yet."
        ]
        return Page(
            "tiers.html", "table.html", "Tiers side by side", {"grids": [], "notes": notes}, section="tiers.html"
        )
    heads = [Head("Method", TIPS["Method"])]
    for name, table in own:
        on = f"{len(table.counted[table.key])} organisms of tier {name}"
        heads += [
            Head(f"{name}: isolation", f"Isolation on {on}. {TIPS['Isolation']}"),
            Head(f"{name}: rank", f"On {on}. {TIPS['Rank']}"),
        ]
    rows = {name: {row.method: row for row in table.overall} for name, table in own}
    lines = [
        Line(
            [
                grids.name(row, links.method(row.method)),
                *(
                    x
                    for name, _ in own
                    for at in [rows[name].get(row.method)]
                    for x in ((grids.score(at, SORT_KEY), grids.place(at.place)) if at else (Item("–"), Item("–")))
                ),
            ]
        )
        for row in board.table.overall
    ]
    notes = [f"{name}: {table.header}" for name, table in own]
    return Page(
        "tiers.html",
        "table.html",
        "Tiers side by side",
        {"grids": [Grid("Tiers side by side", heads, lines)], "notes": notes},
        section="tiers.html",
    )


def claims(board: Board) -> Page:
    """What was asked beforehand, list by list, with what was answered."""
    found = verdicts(board.table)
    lists = [
        (
            each.title,
            each.said,
            Grid(each.title, grids.heads(CONTRAST_HEADS), [_contrast(board, o, each.named) for o in each.outcomes]),
        )
        for each in found.lists
    ]
    told = {"said": found.said, "lists": lists, "note": CONTRAST_NOTE if lists else "", "claims": CLAIMS}
    return Page("claims.html", "claims.html", "Claims and verdicts", told, section="claims.html")


def _contrast(board: Board, o: Outcome, named: bool) -> Line:
    asked = o.contrast
    there = frozenset((asked.method, asked.against)) in board.pairs
    head = Item(
        contrast_text(asked, named), asked.method, href=links.pair(asked.method, asked.against) if there else ""
    )
    if o.verdict == "not run":
        return Line([head, *(Item("–") for _ in range(3)), grids.text(o.verdict), Item("–"), Item("–")])
    detectable = Item("none") if o.resolvable is None else grids.figure(o.resolvable)
    return Line(
        [
            head,
            grids.estimate(o.difference),
            grids.figure(o.p, shown=p_text(o.p)),
            grids.figure(o.p_holm, shown=p_text(o.p_holm)),
            grids.text(o.verdict),
            grids.text(o.families),
            detectable,
        ]
    )


def findings(board: Board) -> Page:
    """False discovery, localisation and identification."""
    said = {"Findings": TIPS["Tested"]}
    lines = list[Line]()
    for row in board.table.finding_measures:
        name, *texts = finding_cells(row, PLAIN)
        values = (
            row.false_discovery.value,
            row.findings,
            row.nulls,
            *(e.value for e in (*row.located, *row.identified)),
        )
        items = [Item(t, value) for t, value in zip(texts, values, strict=True)]
        lines.append(Line([Item(name, row.method, href=links.method(row.method)), *items]))
    grid = Grid(
        "Beside the scores", [Head(h.text, said.get(h.text, h.tip), h.more) for h in grids.heads(FINDING_HEADS)], lines
    )
    told = {
        "grids": [grid] if lines else [],
        "notes": [finding_note(board.table)] if lines else ["Nothing is measured beside the scores here."],
    }
    return Page("findings.html", "table.html", "Beside the scores", told, section="findings.html")


COST = ("Method", "Wall s", "CPU s", "Tokens", "Peak RAM GiB", "Peak VRAM GiB", "Phases, s")


def records(board: Board) -> Page:
    """What cells cost, what has no score and why, what is missing, and what the table stands on."""
    table = board.table
    cost = Grid("Cost of a cell", grids.heads(COST), [_cost(board, c) for c in table.costs])
    lost = [(f.organism, f.method, f.seed, f.status, f.reason) for f in table.failures]
    lost += [("", a.path, "", "set aside", f"{a.cell}: {a.reason}") for a in table.set_aside]
    lost += [("", p.path, "", "unusable file", p.reason) for p in table.problems]
    lost += [("", m.command, "", "missing", m.reason) for m in table.missing]
    gaps = Grid(
        "Cells without a score, and what is missing",
        grids.heads(("Method, file or command", "Organism", "Seed", "Status", "Reason"), choices=grids.CHOICES),
        [
            Line(
                [
                    grids.text(m, style="wrap"),
                    grids.text(o or "–"),
                    grids.text(s or "–"),
                    grids.text(t.replace("_", " ")),
                    grids.text(why, style="wrap"),
                ]
            )
            for o, m, s, t, why in lost
        ],
    )
    protocol = [*protocol_facts(table), ("Several records of one cell", RULE), ("Pages of records", board.rule)]
    told = {
        "grids": [cost, *([gaps] if lost else [])],
        "notes": [*board.notes] if lost or board.notes else ["No cell is without a score."],
        "facts": protocol,
    }
    return Page("records.html", "table.html", "Cost, gaps and protocol", told, section="records.html")


def _cost(board: Board, c: CostRow) -> Line:
    phases = ", ".join(f"{name} {wall_s:.1f}" for name, wall_s in c.phases.items())
    vram = None if c.peak_vram_bytes is None else c.peak_vram_bytes / 2**30
    items = [Item(f"{c.wall_s:,.1f}", c.wall_s), Item(f"{c.cpu_s:,.1f}", c.cpu_s), Item(f"{c.tokens:,.0f}", c.tokens)]
    items += [grids.figure(c.peak_rss_bytes / 2**30), grids.figure(vram), grids.text(phases, style="wrap")]
    return Line([grids.name(board.methods[c.method], links.method(c.method)), *items])
