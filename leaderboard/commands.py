"""`bench leaderboard`: parse, call, print; nothing heavy is imported before a command runs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from ..harness.terminal import Debug, JsonFlag, RunsArgument, handled, say
from ..harness.terminal import show as render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .board.store import Problem

app = typer.Typer(no_args_is_help=True, help="Tables from run folders: build, show, compare, power.")
SetOption = Annotated[
    str | None, typer.Option("--set", help="Only a frozen set of organisms, whole, e.g. core-v1.", show_default=False)
]
OrganismsOption = Annotated[
    str | None,
    typer.Option("-o", "--organisms", help="Only these organisms, whole: comma list of names and sets."),
]
SeedOption = Annotated[
    str | None, typer.Option("--seed", help="Only cells of these method seeds: comma list.  [default: all]")
]
ScoreOption = Annotated[
    str,
    typer.Option(
        "--score",
        help="isolation, isolation_constant (edits everywhere, no gates), sufficiency, necessity, mitigation, …",
    ),
]


class _Set(TypedDict):
    """On which cells a table stands."""

    organisms: "Sequence[str] | None"
    organism_set: str
    method_seeds: "Sequence[int] | None"


def _chosen(set_: str | None, organisms: str | None, seed: str | None) -> _Set:
    from ..organisms.errors import UsageError
    from ..organisms.sets import members, sets

    if set_ is not None and organisms is not None:
        raise UsageError("--set is a set of organisms and so is --organisms: give one of them")
    given = None if organisms is None else [name.strip() for name in organisms.split(",") if name.strip()]
    if set_ is not None:
        named, name = members(set_), set_
    elif given is not None:
        named = list(dict.fromkeys(o for one in given for o in (members(one) if one in sets() else [one])))
        name = given[0] if len(given) == 1 and given[0] in sets() else "as given"
    else:
        named, name = None, "as found"
    try:
        seeds = None if seed is None else [int(s) for s in seed.split(",")]
    except ValueError as error:
        raise UsageError(f"--seed {seed!r} is not a comma list of whole numbers, e.g. --seed 0,1") from error
    only = "" if seeds is None else f", method seed {', '.join(map(str, seeds))} only"
    return {"organisms": named, "organism_set": name + only, "method_seeds": seeds}


def _left_out(problems: "Sequence[Problem]") -> None:
    for problem in problems:
        say(f"left out: {problem.path}: {problem.reason}", err=True)


@app.command("build")
def leaderboard_build(
    runs: RunsArgument = Path("runs"),
    out: Annotated[Path, typer.Option("--out", envvar="BENCH_OUT", help="Folder for the tables.")] = Path(
        "leaderboard-out"
    ),
    formats: Annotated[str, typer.Option("--format", help="Comma list of md, tex, csv, html.")] = "md,tex,csv,html",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    debug: Debug = False,
) -> None:
    """Tables of every run below a folder, with intervals and anchors; html is one self-contained page."""
    with handled(debug):
        from .board.build import build

        built = build(runs, out, [f.strip() for f in formats.split(",") if f.strip()], **_chosen(set_, organisms, seed))
        _left_out(built.problems)
        for path in built.paths:
            say(str(path))


@app.command("show")
def leaderboard_show(
    runs: RunsArgument = Path("runs"),
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    debug: Debug = False,
) -> None:
    """Print the table of every run below a folder: as wide as the terminal, or as Markdown into a pipe."""
    with handled(debug):
        from .board.build import markdown, tabulate
        from .pages.terminal import leaderboard

        chosen = _chosen(set_, organisms, seed)
        if sys.stdout.isatty():
            render(leaderboard(*tabulate(runs, **chosen)))
        else:
            say(markdown(runs, **chosen))


@app.command("compare")
def leaderboard_compare(
    runs: RunsArgument = Path("runs"),
    score: ScoreOption = "isolation",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Which methods differ: verdicts on the contrasts that were written down before, and every pair without a verdict."""
    with handled(debug):
        from .board.build import tabulate
        from .pages.comparison import comparison_data, comparison_markdown
        from .pages.terminal import comparison

        table, problems = tabulate(runs, **_chosen(set_, organisms, seed), key=score)
        _left_out(problems)
        if not as_json and sys.stdout.isatty():
            render(comparison(table))
        else:
            say(json.dumps(comparison_data(table), indent=1) if as_json else comparison_markdown(table))


@app.command("power")
def leaderboard_power(
    runs: RunsArgument = Path("runs"),
    score: ScoreOption = "isolation",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Where the noise comes from, and how many seeds, templates or organisms it takes to separate two methods by .05."""
    with handled(debug):
        from .board.build import power
        from .pages.power_view import power_data, power_markdown

        found, problems = power(runs, **_chosen(set_, organisms, seed), score=score)
        _left_out(problems)
        say(json.dumps(power_data(found), indent=1) if as_json else power_markdown(found))
