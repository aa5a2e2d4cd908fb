"""`bench results export`: every number of a table as sheets for a spreadsheet or a data frame."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..harness.options import listed
from ..harness.terminal import Debug, handled, say
from .commands import (
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

if TYPE_CHECKING:
    from .pages.data import Sheet


def results_export(
    sources: Sources = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the sheets.")] = Path("export"),
    formats: Annotated[str, typer.Option("--format", help="Comma list of csv, parquet.")] = "csv,parquet",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    method: Annotated[
        str | None,
        typer.Option("-m", "--method", help="Only lines of these methods: comma list of names and patterns."),
    ] = None,
    seed: SeedOption = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Only lines with a cell of these: ok, failed, oom, timeout, …")
    ] = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    score: ScoreOption = "isolation",
    no_cache: NoKeepFlag = False,
    debug: Debug = False,
) -> None:
    """Three sheets with every number: methods, organisms, records. A line that is filtered out counts all the same."""
    with handled(debug):
        from .board.build import check_format, tabulate

        names = listed(formats)
        check_format(names, list(WRITERS))
        table = tabulate(places(sources), asked(set_, organisms, seed, tier, layer, no_cache, score))
        say_left_out(table)
        from .pages.data import sheets
        from .pages.terminal import Chosen

        chosen = Chosen(listed(method), listed(status))
        chosen.check(table)
        for path in write(sheets(table, chosen.methods(table), chosen.cells(table)), out, names):
            say(str(path))


def write(found: "Mapping[str, Sheet]", out: Path, formats: Sequence[str]) -> list[Path]:
    """The sheets in each format; rendered before anything is written."""
    from ..harness.files import atomic_write_bytes

    data = {out / f"results{end}.{f}": WRITERS[f](sheet) for f in formats for end, sheet in found.items()}
    for path, raw in data.items():
        atomic_write_bytes(path, raw)
    return list(data)


def _parquet(sheet: "Sheet") -> bytes:
    out = BytesIO()
    sheet.frame().to_parquet(out, index=False)
    return out.getvalue()


WRITERS: "Mapping[str, Callable[[Sheet], bytes]]" = {"csv": lambda sheet: sheet.csv().encode(), "parquet": _parquet}
