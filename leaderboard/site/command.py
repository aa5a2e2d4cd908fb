"""`bench leaderboard site`: parse, call, print; nothing heavy is imported before the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from ...harness.terminal import Debug, handled, say, silenced
from ..commands import (
    LayerOption,
    NoKeepFlag,
    OrganismsOption,
    ScoreOption,
    SeedOption,
    SetOption,
    Sources,
    TierOption,
    asked,
    places,
    say_left_out,
)


def site(
    sources: Sources = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the pages; a site that is there is replaced.")] = Path(
        "leaderboard-site"
    ),
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    score: ScoreOption = "isolation",
    cells: Annotated[
        int,
        typer.Option("--cells", min=0, help="Pages of records at most; beyond, one a method and organism, or none."),
    ] = 2000,
    collect: Annotated[
        bool,
        typer.Option("--collect", help="Look at the findings of every record as `bench show` does: some 10 s each."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if a record was left out, or a cell or anchor is missing.")
    ] = False,
    no_cache: NoKeepFlag = False,
    debug: Debug = False,
) -> None:
    """Pages of every record in some folders, to be read from disk: the table, organisms, methods, cells, comparisons, claims."""
    with handled(debug):
        with silenced(False):
            from .build import site as build

            ask = asked(set_, organisms, seed, tier, layer, no_cache, score)
            built = build(
                places(sources), out, ask, cells, collect, not no_cache, strict, _tell if collect else _silent
            )
        say_left_out(built.table)
        for note in built.notes:
            say(note, err=True)
        say(f"{built.out / 'index.html'}: {built.pages:,} pages, {built.bytes / 1e6:.1f} MB")


def _tell(what: str) -> None:
    say(what, err=True)


def _silent(what: str) -> None:
    """Pages are written within seconds."""
