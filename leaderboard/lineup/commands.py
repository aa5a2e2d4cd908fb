"""`bench lineup board`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from ...harness.terminal import Debug, handled, say, show


def lineup_board(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Folders of records.  [default: runs]", show_default=False)
    ] = None,
    set_: Annotated[str, typer.Option("--set", help="The set that all strategies have judged.")] = "lineup-test",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; without it they are only shown.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Comma list of md, csv, json.")] = "md,csv,json",
    debug: Debug = False,
) -> None:
    """Scores of strategies on a set, their accuracy by workplace, and whether the paper's order of them replicates; `--out` writes both and
    a figure."""
    with handled(debug):
        from ...harness.lineup import view
        from ...harness.lineup.record import records
        from ...organisms.errors import unknown
        from ...organisms.lineup.pairs import lineup_sets
        from ..commands import listed
        from .board import WRITERS, contrasts, restricted, workplaces, write

        if set_ not in lineup_sets():
            raise unknown("set of line-ups", set_, list(lineup_sets()))
        names = listed(formats)
        if wrong := [n for n in names if n not in WRITERS]:
            raise unknown("format", wrong[0], list(WRITERS))
        found = restricted(records(sources or [Path("runs")]), set_)
        show(view.table(found))
        show(workplaces(found))
        show(contrasts(found))
        for path in write(found, out, names) if out else ():
            say(f"wrote {path}", err=True)
