"""`bench leaderboard`: parse, call, print; nothing heavy is imported before a command runs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..harness.options import listed, seed_numbers
from ..harness.terminal import Debug, JsonFlag, handled, say
from ..harness.terminal import show as render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .board.build import Ask
    from .statistics.rows import Table

app = typer.Typer(no_args_is_help=True, help="Tables from run folders and packs: build, show, compare, power.")
Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders of run folders or packs, one or several.  [default: runs]", show_default=False),
]
SetOption = Annotated[
    str | None, typer.Option("--set", help="Only a frozen set of organisms, whole, e.g. core-v2.", show_default=False)
]
OrganismsOption = Annotated[
    str | None,
    typer.Option("-o", "--organisms", help="Only these organisms, whole: comma list of names and sets."),
]
SeedOption = Annotated[
    str | None, typer.Option("--seed", help="Only cells of these method seeds: comma list.  [default: all]")
]
TierOption = Annotated[
    str | None, typer.Option("--tier", help="Only cells of these tiers: comma list.  [default: all]")
]
LayerOption = Annotated[int | None, typer.Option("--layer", help="Only cells of this hooked block.  [default: all]")]
ScoreOption = Annotated[
    str,
    typer.Option(
        "--score",
        help="isolation, isolation_constant (edits everywhere, no gates), sufficiency, necessity, mitigation, …",
    ),
]
NoKeepFlag = Annotated[
    bool, typer.Option("--no-cache", help="Draw every interval anew; keep none. The table is the same.")
]


def places(sources: list[Path] | None) -> list[Path]:
    """Where records are looked for."""
    return sources or [Path("runs")]


def asked(
    set_: str | None,
    organisms: str | None,
    seed: str | None,
    tier: str | None = None,
    layer: int | None = None,
    no_cache: bool = False,
    score: str = "isolation",
    pairs: bool = False,
) -> "Ask":
    """What a table is to stand on.

    Raises:
        UsageError: options that contradict each other, unknown sets, seeds that are no numbers.
    """
    from ..organisms.errors import UsageError
    from ..organisms.sets import members, sets
    from .board.build import Ask
    from .board.keep import Keep

    if set_ is not None and organisms is not None:
        raise UsageError("--set is a set of organisms and so is --organisms: give one of them")
    given = listed(organisms) if organisms is not None else None
    if set_ is not None:
        named, name = members(set_), set_
    elif given is not None:
        if patterns := [o for o in given if set(o) & set("*?[")]:
            raise UsageError(
                f"{patterns[0]!r} is a pattern: a table stands on organisms by name or on a set, e.g. -o core-v2"
            )
        named = list(dict.fromkeys(o for one in given for o in (members(one) if one in sets() else [one])))
        name = given[0] if len(given) == 1 and given[0] in sets() else "as given"
    else:
        named, name = None, "as found"
    seeds = None if seed is None else seed_numbers(seed)
    name += "" if seeds is None else f", method seed {', '.join(map(str, seeds))} only"
    name += "" if tier is None else f", tier {tier} only"
    name += "" if layer is None else f", layer {layer} only"
    keep = Keep(on=not no_cache)
    return Ask(named, name, seeds, listed(tier) or None, layer, key=score, pairs=pairs, keep=keep)


def say_left_out(table: "Table") -> None:
    """What a table does without, on stderr, a line each."""
    for problem in table.problems:
        say(f"left out: {problem.path}: {problem.reason}", err=True)
    for aside in table.set_aside:
        say(f"set aside: {aside.path}: {aside.cell}: {aside.reason}", err=True)
    for gap in table.missing:
        say(f"missing ({gap.reason}): {gap.command}", err=True)


@app.command("build")
def leaderboard_build(
    sources: Sources = None,
    out: Annotated[Path, typer.Option("--out", envvar="BENCH_OUT", help="Folder for the tables.")] = Path(
        "leaderboard-out"
    ),
    formats: Annotated[
        str, typer.Option("--format", help="Comma list of md, tex, csv, html, json.")
    ] = "md,tex,csv,html,json",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    score: ScoreOption = "isolation",
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if a record was left out, or a cell or anchor is missing.")
    ] = False,
    no_cache: NoKeepFlag = False,
    debug: Debug = False,
) -> None:
    """Tables of every record in some folders, with intervals and anchors; the same records give the same bytes."""
    with handled(debug):
        from .board.build import build

        ask = asked(set_, organisms, seed, tier, layer, no_cache, score)
        built = build(places(sources), out, listed(formats), ask, strict)
        say_left_out(built.table)
        for path in built.paths:
            say(str(path))


@app.command("show")
def leaderboard_show(
    sources: Sources = None,
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    method: Annotated[
        str | None, typer.Option("-m", "--method", help="Show only these methods: comma list of names and patterns.")
    ] = None,
    seed: SeedOption = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Show only rows with a cell of these: ok, failed, oom, timeout, …")
    ] = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    score: ScoreOption = "isolation",
    sort: Annotated[
        str, typer.Option("--sort", help="Order: a score, rank, method, wall_s or false_discovery.  [default: --score]")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also notes, verdicts and every organism.")] = False,
    as_json: JsonFlag = False,
    no_cache: NoKeepFlag = False,
    debug: Debug = False,
) -> None:
    """Print the table of every record in some folders, as wide as the terminal. What is not shown counts all the same."""
    with handled(debug):
        from .board.build import tabulate
        from .pages.data import to_json
        from .pages.terminal import Chosen, leaderboard

        table = tabulate(places(sources), asked(set_, organisms, seed, tier, layer, no_cache, score))
        chosen = Chosen(listed(method), listed(status), sort, everything)
        chosen.check(table)
        if as_json:
            say(to_json(table, chosen.methods(table), chosen.cells(table)).rstrip("\n"))
        else:
            render(leaderboard(table, chosen))


@app.command("compare")
def leaderboard_compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Two methods, then folders; or folders alone, for all pairs.  [default: runs]"),
    ] = None,
    score: ScoreOption = "isolation",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    as_json: JsonFlag = False,
    no_cache: NoKeepFlag = False,
    debug: Debug = False,
) -> None:
    """Two methods organism by organism; or which methods differ: verdicts on contrasts written down before, and every pair without one."""
    with handled(debug):
        from .board.build import tabulate
        from .pages.comparison import comparison_data, comparison_markdown, two_data, two_methods
        from .pages.terminal import comparison
        from .pages.terminal import two_methods as side_by_side

        two, folders = _two(names or [])
        table = tabulate(places(folders), asked(set_, organisms, seed, tier, layer, no_cache, score, pairs=not two))
        say_left_out(table)
        if two:
            found = two_methods(table, *two)
            if as_json:
                say(json.dumps(two_data(found), indent=1))
            else:
                render(side_by_side(table, found))
        elif as_json:
            say(json.dumps(comparison_data(table), indent=1))
        elif sys.stdout.isatty():
            render(comparison(table))
        else:
            say(comparison_markdown(table))


def _two(names: "Sequence[str]") -> tuple[tuple[str, str] | None, list[Path]]:
    """Two methods and the folders, or folders alone: the first name says which, by being there or not.

    Raises:
        UsageError: one method alone.
    """
    from ..organisms.errors import UsageError

    if not names or Path(names[0]).exists():
        return None, [Path(n) for n in names]
    if len(names) < 2 or Path(names[1]).is_dir():
        raise UsageError(
            f"{names[0]!r} is compared with nothing and is no folder: give two methods, e.g. compare delta l1 runs"
        )
    return (names[0], names[1]), [Path(n) for n in names[2:]]


@app.command("power")
def leaderboard_power(
    sources: Sources = None,
    score: ScoreOption = "isolation",
    set_: SetOption = None,
    organisms: OrganismsOption = None,
    seed: SeedOption = None,
    tier: TierOption = None,
    layer: LayerOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Where the noise comes from, and how many seeds, templates or organisms it takes to separate two methods by .05."""
    with handled(debug):
        from .board.build import power
        from .pages.power_view import power_data, power_markdown

        found, problems = power(places(sources), asked(set_, organisms, seed, tier, layer, score=score))
        for problem in problems:
            say(f"left out: {problem.path}: {problem.reason}", err=True)
        say(json.dumps(power_data(found), indent=1) if as_json else power_markdown(found))
