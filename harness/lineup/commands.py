"""`bench lineup`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import Debug, JsonFlag, handled, say, show, silenced

if TYPE_CHECKING:
    from ...organisms.lineup.pairs import PairSpec

app = typer.Typer(
    no_args_is_help=True, help="Line-ups: two models that behave alike, of which one may be an alignment faker."
)
PairsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Pairs (llama/bank-s0), workplaces (llama/bank), lineup-tune, lineup-test, or a set file; comma lists.",
        show_default=False,
    ),
]
JobsFlag = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Pairs at a time, one thread each.")]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Do again what is there.")]


@app.command("build")
def lineup_build(
    pairs: PairsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Every pair on the embedded bases.")] = False,
    jobs: JobsFlag = 1,
    overwrite: OverwriteFlag = False,
    debug: Debug = False,
) -> None:
    """Train and measure pairs; what is built is kept, and a build that was killed goes on (exit 4 if a gate fails)."""
    with handled(debug):
        from ...organisms.errors import ValidationFailed
        from .store import build_all

        asked = _specs([*(pairs or []), *(["all"] if everything else [])])
        built = {b.spec: b for b in build_all(asked, overwrite, jobs, _tell)}
        failed = [spec.name for spec in asked if built[spec].card.failures]
        if failed:
            raise ValidationFailed(
                f"{len(failed)} pairs fail their gates, no strategy is judged on them: {', '.join(failed)}"
            )


@app.command("list")
def lineup_list(pairs: PairsArgument = None, as_json: JsonFlag = False, debug: Debug = False) -> None:
    """Pairs that are built here, with their gates."""
    with handled(debug):
        from . import view
        from .store import load

        asked = _specs(pairs or ["all"])
        found = [(spec, load(spec)) for spec in asked]
        cards = [built.card for _, built in found if built is not None]
        if as_json:
            say(json.dumps([card.model_dump() for card in cards], indent=1))
        else:
            show(view.pairs(cards, [spec.name for spec, built in found if built is None]))


@app.command("verify")
def lineup_verify(pairs: PairsArgument = None, jobs: JobsFlag = 1, debug: Debug = False) -> None:
    """Hash the files of pairs again, measure their gates again, and compare with the cards (exit 4 if they differ)."""
    with handled(debug):
        from ...organisms.errors import ValidationFailed
        from .store import verify

        wrong = list[str]()
        for name, differences in verify(_specs(pairs or ["all"]), jobs):
            say(f"{name}: {'; '.join(differences) or 'as its card says'}")
            wrong += [name] * bool(differences)
        if wrong:
            raise ValidationFailed(f"{len(wrong)} pairs are not what their cards say: {', '.join(wrong)}")


@app.command("strategies")
def lineup_strategies(as_json: JsonFlag = False, debug: Debug = False) -> None:
    """Every strategy: what it may see, its paper, what it does."""
    with handled(debug):
        from ...methods.registry import all_facts
        from ...methods.strategies.catalogue import STRATEGIES
        from . import view

        found = all_facts(STRATEGIES)
        if as_json:
            say(json.dumps(found, indent=1))
        else:
            show(view.strategies(found))


@app.command("run")
def lineup_run(
    strategy: Annotated[
        list[str], typer.Option("-s", "--strategy", help="Strategy name or file.py; comma list or repeated; `all`.")
    ],
    pairs: Annotated[
        list[str],
        typer.Option("-o", "--on", help="lineup-tune, lineup-test, pairs or a set file; comma list."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of records.")] = Path("runs"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the orders and of what strategies draw.")
    ] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Option, strategy.option=value; repeatable.")] = None,
    no_identical: Annotated[
        bool, typer.Option("--no-identical", help="Without line-ups of two aligned twins.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Line-ups at a time, one thread each.")] = 1,
    overwrite: OverwriteFlag = False,
    as_json: JsonFlag = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the table.")] = False,
    debug: Debug = False,
) -> None:
    """Let strategies name the faker in line-ups and score them. What was judged is not judged again (exit 1 if one failed)."""
    with handled(debug):
        from . import view
        from .settings import Asked, run_named

        named = _split(pairs)
        asked = Asked(_split(strategy), set_ or [], out, named, seed, identical=not no_identical, overwrite=overwrite)
        found = run_named(asked, _specs(named), _tell_nobody if quiet else _tell, jobs)
        if as_json:
            say(json.dumps(view.data(found), indent=1))
        else:
            show(view.table(found))
        failed = [(r.identity.strategy, v) for r in found for v in r.verdicts if v.status != "ok"]
        for name, verdict in failed[:5]:
            say(f"{name} on {verdict.lineup}: {verdict.error}", err=True)
        if failed:
            raise typer.Exit(1)


@app.command("check")
def lineup_check(
    name: Annotated[str, typer.Argument(help="Strategy name or file.py.")],
    pair: Annotated[str, typer.Option("-o", "--on", help="Pair to try it on.")] = "llama/bank-s0",
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Try a strategy before running it: repeatable, blind to the order, honest about access, no side effects (exit 1 if not)."""
    with handled(debug):
        from ...methods.strategies.catalogue import STRATEGIES
        from ..views import render
        from ..worker.foreign import load
        from .check import check_strategy

        with silenced(False):
            report = check_strategy(load(name, STRATEGIES), pair)
        if as_json:
            say(json.dumps(report.data(), indent=1))
        else:
            show(render.method_check(report))
        if not report.ok:
            raise typer.Exit(1)


def _tell(line: str) -> None:
    say(line, err=True)


def _tell_nobody(line: str) -> None:
    pass


def _specs(names: list[str]) -> "list[PairSpec]":
    from ...organisms.errors import UsageError
    from ...organisms.lineup.pairs import expand

    if not (asked := _split(names)):
        raise UsageError("no pair was named; name pairs, a workplace such as llama/bank, a set, or --all")
    return expand(asked)


def _split(given: list[str]) -> list[str]:
    return [name.strip() for part in given for name in part.split(",") if name.strip()]
