"""`bench verbal`: parse, call, print; nothing heavy is imported before a command runs."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import seed_numbers
from ..terminal import Debug, JsonFlag, handled, say, show, silenced

if TYPE_CHECKING:
    from ..verbal.scoring import Track, Verdicts

app = typer.Typer(
    no_args_is_help=True, help="Findings in words, a track of its own: run methods, score claims without a judge."
)
VerdictsOption = Annotated[
    Path | None,
    typer.Option("--verdicts", help="File of a judge's recorded verdicts, shown beside.", show_default=False),
]


@app.command("run")
def verbal_run(
    organism: Annotated[
        list[str],
        typer.Option("-o", "--organism", help="Names, families or sets of the embedded tier; comma list or repeated."),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option("-m", "--method", help="Method name or file.py; repeated.  [default: all verbal ones]"),
    ] = None,
    seed: Annotated[str, typer.Option("--seed", help="Method seed or comma list of seeds.")] = "0",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Most tokens a method may read and write.")] = 60_000,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Wall clock a method may use.")] = 600.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Also write the claims there (JSON), after every cell; what is there already is not run again.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew whatever is in the file of --out.")
    ] = False,
    verdicts: VerdictsOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Run methods that answer in words, and score what they claim."""
    with handled(debug), silenced(False):
        from ...methods.contract import Budget
        from ...organisms.errors import UsageError
        from ...organisms.registry import expand
        from ..claims import claimed
        from ..files import atomic_write_text
        from ..verbal.track import load_track, load_verdicts, methods_of, run

        seeds = seed_numbers(seed)
        names = expand([n for given in organism for n in given.split(",")])
        methods = methods_of([n for given in method or [] for n in given.split(",")])
        judged = load_verdicts(verdicts) if verdicts else None

        def done(track: "Track") -> None:
            if out is not None:
                atomic_write_text(out, track.model_dump_json(indent=1) + "\n")

        with claimed(out.with_name(f".{out.name}.lock"), wait=False) if out else nullcontext(True) as mine:
            if not mine:
                raise UsageError(f"another bench verbal run is writing {out}; wait for it, or give another --out")
            known = load_track(out).cells if out and out.exists() and not overwrite else []
            try:
                track = run(
                    methods, names, seeds, Budget(tokens, seconds), lambda line: say(line, err=True), done, known
                )
            except KeyboardInterrupt as interrupt:
                kept = f"cells that were finished are in {out}; the same command goes on from there"
                raise KeyboardInterrupt(kept if out else "nothing is kept without --out") from interrupt
        _tell(track, judged, as_json)
        if track.failed:
            raise typer.Exit(1)


@app.command("score")
def verbal_score(
    runs: Annotated[
        list[Path], typer.Argument(help="Files of bench verbal run --out, or run folders.", show_default=False)
    ],
    verdicts: VerdictsOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Score claims that are there: of earlier runs of this track, or those that records of bench run carry."""
    with handled(debug), silenced(False):
        from ...organisms.errors import UsageError
        from ..verbal.track import load_track, load_verdicts, of_runs, together

        judged = load_verdicts(verdicts) if verdicts else None
        tracks = [load_track(p) for p in runs if p.suffix == ".json"]
        folders = [p for p in runs if p.suffix != ".json"]
        whole = together([*tracks, *([of_runs(folders)] if folders else [])])
        if not (whole.cells or whole.failed):
            raise UsageError("there are no claims in what was named; write some with bench verbal run --out")
        _tell(whole, judged, as_json)


def _tell(track: "Track", judged: "Verdicts | None", as_json: bool) -> None:
    from ..verbal.scoring import standings
    from ..verbal.terminal import view

    if as_json:
        import json

        found = [s.model_dump(mode="json") for s in standings(track.cells, judged)]
        kept = track.model_dump(mode="json", include={"cells", "failed", "left_out"})
        say(json.dumps({"standings": found, **kept}, indent=1))
    else:
        show(view(track, judged))
