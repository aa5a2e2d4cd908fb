"""`bench results`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import Debug, JsonFlag, RunsArgument, handled, say, show, silenced

app = typer.Typer(no_args_is_help=True, help="Run folders: list, show, diff, validate, pack, specificity.")


@app.command("list")
def results_list(runs: RunsArgument = Path("runs"), as_json: JsonFlag = False, debug: Debug = False) -> None:
    """One line a run folder: organism, method, seed, status, isolation with its interval, id."""
    with handled(debug):
        from ..runs.records import records
        from ..views.results import listing, listing_data

        found = list(records(runs))
        for record in found:
            for problem in record.problems:
                say(f"left out: {record.path}: {problem}", err=True)
        if as_json:
            say(json.dumps(listing_data(found), indent=1))
        else:
            show(listing(found))


@app.command("show")
def results_show(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: JsonFlag = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also a line for each number.")] = False,
    debug: Debug = False,
) -> None:
    """One result: identity, what was found in words and numbers, what its findings read as, cost."""
    with handled(debug):
        from ..runs.records import read_run

        result = read_run(folder)
        if as_json:
            say(result.model_dump_json(indent=1))
        else:
            from ..views import render
            from ..views.results import head

            show(head(result))
            show(render.results([result], [folder], verbose))


@app.command("diff")
def results_diff(
    first: Annotated[Path, typer.Argument(help="Run folder.")],
    second: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Which identity fields of two results differ, and their scores side by side."""
    with handled(debug):
        from ..runs.records import difference, read_run
        from ..views.results import diff, diff_data

        found = difference(read_run(first), read_run(second))
        if as_json:
            say(json.dumps(diff_data(found), indent=1))
        else:
            show(diff((first, second), found))


@app.command("validate")
def results_validate(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, folders of them, or result.json files alone.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Check schema, id, scores against samples, and the files of run folders; exit 4 with every reason."""
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


@app.command("pack")
def results_pack(
    runs: RunsArgument = Path("runs"),
    out: Annotated[
        Path, typer.Option("--out", help="Folder of packs; records that are there already are kept.")
    ] = Path("leaderboard/published"),
    debug: Debug = False,
) -> None:
    """Put every record below a folder into one compressed file an organism, for publishing; tables are built from packs as well."""
    with handled(debug):
        from ...organisms.errors import ValidationFailed
        from ..runs.packs import pack
        from ..runs.records import records

        found = list(records(runs))
        if bad := [r for r in found if r.problems]:
            raise ValidationFailed(
                f"{bad[0].path}: {bad[0].problems[0]} ({len(bad)} of {len(found)} records are not valid; nothing was written)"
            )
        for path in pack([r.result for r in found if r.result], out):
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
