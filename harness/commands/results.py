"""`bench results`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import Debug, JsonFlag, RunsArgument, handled, say, show, silenced

app = typer.Typer(
    no_args_is_help=True,
    help="Records in run folders and packs: list, show, diff, validate, fetch, merge, pack, export, specificity.",
)
Places = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders of run folders or packs, one or several.  [default: runs]", show_default=False),
]
LookedIn = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders to look in.  [default: runs and leaderboard/published]", show_default=False),
]
Selector = Annotated[
    str, typer.Argument(help="Run folder, id or the start of one, or ORGANISM+METHOD[+SEED].", metavar="RECORD")
]
MethodOption = Annotated[
    str | None, typer.Option("-m", "--method", help="Only these methods: comma list of names and patterns.")
]
OrganismOption = Annotated[
    str | None, typer.Option("-o", "--organism", help="Only these organisms: comma list of names, patterns and sets.")
]
SeedOption = Annotated[str | None, typer.Option("--seed", help="Only these method seeds: comma list.")]
StatusOption = Annotated[
    str | None, typer.Option("--status", help="Only these: ok, failed, oom, timeout, not_applicable, not_run.")
]
TierOption = Annotated[str | None, typer.Option("--tier", help="Only these: tiny, small, hub.")]


def where(places: list[Path] | None) -> list[Path]:
    """Where records are looked for."""
    return places or [Path("runs")]


@app.command("list")
def results_list(
    places: Places = None,
    method: MethodOption = None,
    organism: OrganismOption = None,
    seed: SeedOption = None,
    status: StatusOption = None,
    tier: TierOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """One line a record: organism, method, seed, status, isolation with its interval, id; `validate` draws intervals again."""
    with handled(debug):
        from ..runs.records import judged
        from ..store.selection import Filter, chosen
        from ..views.results import listing, listing_data

        below = chosen(where(places), Filter.of(method, organism, seed, status, tier), judge=False)
        found = [judged(r, redraw=False) for r in below]
        for record in found:
            for problem in record.problems:
                say(f"left out: {record.where}: {problem}", err=True)
        if as_json:
            say(json.dumps(listing_data(found), indent=1))
        else:
            show(listing(found))


@app.command("show")
def results_show(
    selector: Selector,
    places: LookedIn = None,
    as_json: JsonFlag = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also a line for each number.")] = False,
    debug: Debug = False,
) -> None:
    """One result: identity, what was found in words and numbers, what its findings read as, cost."""
    with handled(debug):
        from ..store.selection import find

        record = find(selector, places)
        result = record.result
        assert result is not None
        if as_json:
            say(result.model_dump_json(indent=1))
        else:
            from ..views import render
            from ..views.results import head

            show(head(result))
            show(render.results([result], [Path(record.where)], verbose))


@app.command("diff")
def results_diff(
    first: Selector,
    second: Selector,
    places: LookedIn = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Which identity fields of two results differ, and their scores side by side."""
    with handled(debug):
        from ..runs.records import difference
        from ..store.selection import find
        from ..views.results import diff, diff_data

        a, b = find(first, places), find(second, places)
        assert a.result and b.result
        found = difference(a.result, b.result)
        if as_json:
            say(json.dumps(diff_data(found), indent=1))
        else:
            show(diff((Path(a.where), Path(b.where)), found))


@app.command("validate")
def results_validate(
    paths: Annotated[
        list[Path], typer.Argument(help="Run folders, packs, folders of them, or result.json files alone.")
    ],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Check schema, id, scores against samples, and the files of run folders and packs; a line a record, exit 4 with every reason."""
    with handled(debug):
        from ...organisms.errors import ValidationFailed
        from ..runs.records import validate
        from ..views.results import validation, validation_data

        checked = validate(paths)
        say(json.dumps(validation_data(checked), indent=1) if as_json else validation(checked))
        if bad := sum(bool(record.problems) for record in checked):
            raise ValidationFailed(
                f"{bad} of {len(checked)} results are not valid; see above, and run those cells again"
            )


@app.command("fetch")
def results_fetch(
    selector: Selector,
    places: LookedIn = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the run folder.")] = Path("fetched"),
    debug: Debug = False,
) -> None:
    """Make the run folder of one record, with its findings, from a pack or another folder."""
    with handled(debug):
        from ..store.moving import place
        from ..store.selection import find

        say(place(find(selector, places), out))


@app.command("merge")
def results_merge(
    places: Annotated[list[Path], typer.Argument(help="Folders of run folders or packs.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the run folders; what is there is kept.")],
    method: MethodOption = None,
    organism: OrganismOption = None,
    seed: SeedOption = None,
    status: StatusOption = None,
    tier: TierOption = None,
    first_wins: Annotated[
        bool, typer.Option("--first-wins", help="Of a cell with two outcomes take that of the place named first.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Put the records of several places into one folder of run folders, each cell once; nothing is written if two contradict."""
    with handled(debug):
        from ..store.moving import merge
        from ..store.selection import Filter, chosen

        found = list(chosen(places, Filter.of(method, organism, seed, status, tier)))
        folders = merge(found, out, first_wins)
        say(f"{len(folders)} records in {out}, of {len(found)} that were found")


@app.command("pack")
def results_pack(
    places: Places = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of packs; records that are there already are kept.")
    ] = Path("leaderboard/published"),
    method: MethodOption = None,
    organism: OrganismOption = None,
    seed: SeedOption = None,
    status: StatusOption = None,
    tier: TierOption = None,
    debug: Debug = False,
) -> None:
    """Put every record, and its findings, into compressed files an organism, for publishing; tables are built from packs as well."""
    with handled(debug):
        from ..runs.packs import pack
        from ..store.moving import packable
        from ..store.selection import Filter, chosen

        found = list(chosen(where(places), Filter.of(method, organism, seed, status, tier)))
        for path in pack(*packable(found, out)):
            say(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


@app.command("specificity")
def results_specificity(
    runs: RunsArgument = Path("runs"),
    method: Annotated[str | None, typer.Option("--method", "-m", help="Method; needed if there are several.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Method seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for the record, its CSV and the heat map.")] = Path(
        "specificity"
    ),
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """What the interventions chosen for each organism do to every behaviour of the headline set: two matrices as tables and a heat map."""
    with handled(debug), silenced(False):
        from ..runs.folder import check_writable
        from ..studies.specificity import specificity
        from ..views import specificity as view

        check_writable(out)
        found = specificity(
            runs,
            method,
            seed,
            progress=lambda row: say(f"{row.organism}, {row.behaviour}: {row.wall_s:.0f} s", err=True),
        )
        files = view.write(out, found)
        if as_json:
            say(found.model_dump_json(indent=1))
        else:
            show(view.render(found))
            say(f"written: {', '.join(map(str, files))}", err=True)
