"""The `bench` command: parse, call, print. No logic lives here, and nothing heavy is imported before a command runs.

The commands of a group (`bench organisms …`) stand in a file of their own beside what they call.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .harness.commands import app as browser
from .harness.commands import (
    bases,
    behaviour,
    cache,
    controls,
    dictionary,
    diffing,
    explaining,
    inspecting,
    methods,
    mitigate,
    organisms,
    results,
    score,
    verbal,
)
from .harness.lineup import commands as lineup
from .harness.options import (
    AdapterOption,
    BackendOption,
    BaseOption,
    BehaviourOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    LayersOption,
    LimitOption,
    MethodsOption,
    NoCacheFlag,
    OnOption,
    OrganismOption,
    OtherBaseFlag,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    RemoteFlag,
    SecondsOption,
    SinksOption,
    TextsOption,
    TierOption,
    TokensOption,
    TunedOption,
    VerboseFlag,
)
from .harness.sweeps import command as sweeps
from .harness.terminal import Debug, JsonFlag, collect_log, handled, say, show, silenced
from .leaderboard import commands as leaderboard
from .leaderboard.export import results_export
from .leaderboard.lineup.commands import lineup_board
from .leaderboard.site import command as site
from .leaderboard.submissions import commands as submissions

if TYPE_CHECKING:
    from .harness.runs.run import Plan as RunPlan

EXIT_CODES = (
    "Exit codes: 0 ok · 1 a cell failed · 2 usage · 3 prerequisite missing · 4 validation failed · 130 interrupted."
)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown", epilog=EXIT_CODES)
app.add_typer(bases.app, name="bases")
app.add_typer(behaviour.app, name="behaviour")
app.add_typer(cache.app, name="cache")
app.add_typer(controls.app, name="controls")
app.add_typer(organisms.app, name="organisms")
app.add_typer(methods.app, name="methods")
app.add_typer(leaderboard.app, name="leaderboard")
lineup.app.command("board")(lineup_board)
app.add_typer(lineup.app, name="lineup")
results.app.command("export")(results_export)
app.add_typer(results.app, name="results")
app.add_typer(dictionary.app, name="dictionary")
app.add_typer(verbal.app, name="verbal")
app.command()(score.score)
app.command()(mitigate.mitigate)
app.command()(sweeps.sweep)
app.command()(submissions.submit)
leaderboard.app.command("add")(submissions.add)
leaderboard.app.command("private")(submissions.private)
leaderboard.app.command("site")(site.site)
app.command("show")(inspecting.show_run)
app.command("diff")(diffing.diff_pair)
app.command("try")(inspecting.try_run)
app.command("app")(browser.app_runs)
app.command("explain")(explaining.explain)


class SchemaName(StrEnum):
    """Files diffbench reads or writes."""

    result = "result"
    behaviour = "behaviour"
    card = "card"
    dictionary = "dictionary"
    verdicts = "verdicts"
    method_card = "method-card"


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        say(f"diffbench {version('diffbench')}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Benchmark of model-diffing methods.

    Run a method on an organism whose change is known, and score whether what it found causes the behaviour.
    """


@app.command()
def run(
    method: MethodsOption = None,
    organism: OrganismOption = None,
    tier: TierOption = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", envvar="BENCH_SEED", help="Method seed or comma list of seeds.  [default: 0]"),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteFlag = False,
    layer: LayersOption = None,
    tokens: TokensOption = None,
    seconds: SecondsOption = None,
    limit: LimitOption = None,
    sinks: SinksOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    backend: BackendOption = None,
    remote: RemoteFlag = None,
    no_cache: NoCacheFlag = False,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Debug a method in the scorer's own process; in no table."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file with the same names as these options; options given here win."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Method option, method.option=value; repeatable.")
    ] = None,
    base: BaseOption = None,
    adapter: AdapterOption = None,
    on: OnOption = None,
    tuned: TunedOption = None,
    allow_other_base: OtherBaseFlag = False,
    behaviour: BehaviourOption = None,
    texts: TextsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the run will cost (tokens, memory, disk, time), and run nothing."),
    ] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    verbose: VerboseFlag = False,
    debug: Debug = False,
) -> None:
    """Run methods on organisms and score what they find. Finished cells are not run again. For very many: `bench sweep`."""
    with handled(debug):
        from .harness.commands.cells import carry_out, save_layers, show_records
        from .harness.commands.recall import note_of, recall, remember
        from .harness.commands.settings import asked, resolve
        from .harness.views.progress import finished_before

        file = asked(
            config,
            {
                "method": method,
                "organism": organism,
                "tier": tier,
                "seed": seed,
                "out": out,
                "layer": layer,
                "tokens": tokens,
                "seconds": seconds,
                "limit": limit,
                "sinks": sinks,
                "device": device,
                "dtype": dtype,
                "device_map": device_map,
                "backend": backend,
                "remote": remote,
                "cache": False if no_cache else None,
                "in_process": in_process or None,
                "set": set_,
                "base": base,
                "adapter": adapter,
                "on": on,
                "tuned": tuned,
                "allow_other_base": allow_other_base or None,
                "behaviour": behaviour,
                "texts": texts,
            },
        )
        note = note_of(file)
        if note is not None and not (overwrite or dry_run) and (known := recall(file, note)):
            if not (quiet or as_json):
                finished_before(known.results)
            show_records(known.results, known.folders, as_json, len(known.results) == 1, verbose)
            save_layers(known.results, file.out)
            return
        log_text = collect_log(verbose or debug)
        with silenced(verbose):
            settings = resolve(file)
            if dry_run:
                _forecast(settings.plan(overwrite), quiet or as_json, as_json)
                return
            known = carry_out(settings, overwrite, quiet, as_json, log_text, verbose)
        if note is not None:
            remember(file, note, known)


def _forecast(plan: "RunPlan", quiet: bool, as_json: bool) -> None:
    """What a run will cost, on stdout; what does not fit is refused after it was shown."""
    from .harness.plans.plan import forecast
    from .harness.views.plan import table
    from .harness.views.progress import RunDisplay

    with RunDisplay(plan, quiet) as display:
        found = forecast(plan, display)
    if as_json:
        say(json.dumps(found.data(), indent=1))
    else:
        show(table(found))
    found.check()


@app.command()
def verify(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders, packs, folders of them, or bundles of `bench submit`.")
    ],
    organism: Annotated[
        str | None,
        typer.Option("-o", "--organism", help="What they were run on, if not in the zoo: my.py:member or my.yaml."),
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Or the pair of your own, as in `bench run`.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", help="As in `bench run`.")] = None,
    on: Annotated[str | None, typer.Option("--on", help="As in `bench run`.")] = None,
    tuned: Annotated[str | None, typer.Option("--tuned", help="As in `bench run`.")] = None,
    behaviour: Annotated[Path | None, typer.Option("--behaviour", help="As in `bench run`.")] = None,
    texts: Annotated[Path | None, typer.Option("--texts", help="As in `bench run`.")] = None,
    allow_other_base: Annotated[bool, typer.Option("--allow-other-base", help="As in `bench run`.")] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Score the saved findings of records again, at any depth and in packs, a line a record; exit 4 if one claims something else.

    A record never decides what is loaded: only organisms of the zoo are taken from it, a pair of your own is named here.
    """
    with handled(debug):
        from .harness.commands.settings import named_organism
        from .harness.store.verifying import verify_all
        from .harness.views import render
        from .organisms.errors import PrerequisiteError, ValidationFailed

        folders, wrong = submissions.verify_bundles(folders, as_json)
        own = {"base": base, "adapter": adapter, "on": on, "tuned": tuned, "behaviour": behaviour, "texts": texts}
        named = named_organism(organism, own, allow_other_base)
        asked, bad, unasked = 0, list[str](), 0
        for checked in verify_all(folders, named):
            if as_json:
                say(json.dumps(checked.data()))
            else:
                show(render.verification(checked))
            asked, unasked = asked + 1, unasked + (checked.outcome is None and not checked.refused)
            bad += [checked.where] * checked.bad
        if bad:
            wrong.append(
                f"{len(bad)} of {asked} records do not say what their findings score: {', '.join(bad[:5])}"
                + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            )
        if wrong:
            raise ValidationFailed("\n".join(wrong))
        if folders and asked == unasked:
            raise PrerequisiteError(f"none of {asked} records can be verified; see above")


@app.command()
def schema(name: Annotated[SchemaName, typer.Argument(help="Which file.")]) -> None:
    """JSON Schema of a file diffbench reads or writes."""
    from .harness.records.result import Result
    from .harness.verbal.scoring import Verdicts
    from .leaderboard.submissions.card import MethodCard
    from .methods.formats import DictionaryCard
    from .organisms.behaviour import Behaviour
    from .organisms.card import Card

    models = {
        "result": Result,
        "behaviour": Behaviour,
        "card": Card,
        "dictionary": DictionaryCard,
        "verdicts": Verdicts,
        "method-card": MethodCard,
    }
    model = models[name.value]
    say(json.dumps(model.model_json_schema(), indent=2))


@app.command()
def selftest(
    organism: Annotated[
        str | None,
        typer.Option(
            "-o", "--organism", help="Organisms, comma list.  [default: subliminal/fox-narrow,planted/owl-strong]"
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The published protocol whole and more seeds; several times slower.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for monotonicity.png and .csv.")] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Check the instrument: anchors at their places, nothing won by trickery, the same score however computed (exit 4 if not)."""
    with handled(debug):
        from .organisms.errors import ValidationFailed

        def tell(what: str) -> None:
            say(what, err=True)

        with silenced(False):
            from .harness.studies.selftest import ORGANISMS
            from .harness.studies.selftest import selftest as examine
            from .harness.views import selftest as selftest_view
            from .leaderboard.selftest import clone_effect
            from .organisms.registry import expand

            names = expand([n.strip() for n in organism.split(",")]) if organism else list(ORGANISMS)
            report = examine(clone_effect, names, full, tell)
        if as_json:
            say(json.dumps(report.data(), indent=1))
        else:
            show(selftest_view.table(report))
        for path in selftest_view.save(report.noise, out) if out else ():
            say(str(path), err=True)
        if failed := report.failed:
            raise ValidationFailed(
                f"{len(failed)} of {len(report.checks)} checks failed, so scores made here cannot be trusted: "
                f"{'; '.join(f'{c.name} ({c.organism})' for c in failed)}. If the files of the zoo are in order "
                "(`bench doctor`), this is a fault of the installation or of diffbench: report it with this table"
            )


@app.command()
def doctor(debug: Debug = False) -> None:
    """Versions, device, and whether every file of the zoo is the one it was measured on."""
    with handled(debug):
        from .harness.studies.doctor import examine
        from .harness.views import render
        from .organisms.errors import PrerequisiteError

        with silenced(False):
            report = examine()
        show(render.doctor(report))
        if not all(c.ok for c in report):
            raise PrerequisiteError("something above is not in order")


def main() -> None:
    """Console entry point."""
    app()
