"""The `bench` command: parse, call, print. No logic lives here, and nothing heavy is imported before a command runs."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .harness.terminal import collect_log, handled, show, silenced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .harness.result import Result
    from .leaderboard.store import Problem

EXIT_CODES = (
    "Exit codes: 0 ok · 1 a cell failed · 2 usage · 3 prerequisite missing · 4 validation failed · 130 interrupted."
)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", epilog=EXIT_CODES)
organisms_app = typer.Typer(no_args_is_help=True, help="Model organisms: list, show, build, verify, new.")
methods_app = typer.Typer(no_args_is_help=True, help="Diffing methods: list, show, check, new.")
leaderboard_app = typer.Typer(no_args_is_help=True, help="Tables from run folders: build, show, compare, power.")
results_app = typer.Typer(no_args_is_help=True, help="Run folders: list, show, diff, validate.")
app.add_typer(organisms_app, name="organisms")
app.add_typer(methods_app, name="methods")
app.add_typer(leaderboard_app, name="leaderboard")
app.add_typer(results_app, name="results")
dictionary_app = typer.Typer(
    no_args_is_help=True, help="Trained dictionaries in the field's formats: export, import, show."
)
app.add_typer(dictionary_app, name="dictionary")

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Organisms at a time, one thread each.")]
ZooOption = Annotated[Path | None, typer.Option("--zoo", help="Zoo folder (default: the installed one, or BENCH_ZOO).")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="native, jkminder, saelens, dictionary_learning or sparsify; found from the files."),
]
InputsOption = Annotated[
    str | None,
    typer.Option("--inputs", help="What is coded, where the files do not say: concat, base, ft or difference."),
]
DictionaryOut = Annotated[Path, typer.Option("--out", help="Folder to write.")]
ReplaceFlag = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")]
RunsArgument = Annotated[Path, typer.Argument(help="Folder of run folders.")]
CoreFlag = Annotated[bool, typer.Option("--core", help="Only core-v1, the frozen set, whole.")]
ScoreOption = Annotated[str, typer.Option("--score", help="isolation, sufficiency, necessity or mitigation.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


class SchemaName(StrEnum):
    """Files diffbench reads or writes."""

    result = "result"
    behaviour = "behaviour"
    card = "card"
    dictionary = "dictionary"


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"diffbench {version('diffbench')}")
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
    method: Annotated[
        list[str] | None,
        typer.Option(
            "-m", "--method", help="Method name or file.py; comma list or repeated; `all` for every built-in."
        ),
    ] = None,
    organism: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--organism",
            help="taboo, taboo/gold-mixed, my_family.py, my.yaml, `core-v1` or `all`; comma list or repeated.",
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", envvar="BENCH_SEED", help="Method seed or comma list of seeds.  [default: 0]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="BENCH_OUT", help="Folder for run folders.  [default: runs]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run finished cells again.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", envvar="BENCH_DEVICE", help="cpu or cuda.  [default: cpu]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file with the same names as these options; options given here win."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Method option, method.option=value; repeatable.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Your own pair: base model, folder or hub id.")] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Your own pair: LoRA adapter, folder or hub id.")
    ] = None,
    behaviour: Annotated[
        Path | None,
        typer.Option("--behaviour", help="Your own pair: behaviour file (JSON; see `bench schema behaviour`)."),
    ] = None,
    as_json: JsonFlag = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the table, or nothing with --json.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also show the log.")] = False,
    debug: Debug = False,
) -> None:
    """Run methods on organisms and score what they find. Finished cells are not run again."""
    with handled(debug):
        from .harness.settings import resolve

        settings = resolve(
            config,
            {
                "method": method,
                "organism": organism,
                "seed": seed,
                "out": out,
                "device": device,
                "set": set_,
                "base": base,
                "adapter": adapter,
                "behaviour": behaviour,
            },
        )
        log_text = collect_log(verbose or debug)
        with silenced(verbose):
            from .harness import render
            from .harness.folder import check_writable
            from .harness.run import run as run_plan
            from .harness.watch import RunDisplay

            check_writable(settings.out)
            plan = settings.plan(overwrite)
            results: list[Result] = []
            with RunDisplay(plan, quiet=quiet or as_json) as display:
                results.extend(run_plan(plan, display, log_text))
        if as_json:
            dumped = [r.model_dump(mode="json") for r in results]
            typer.echo(json.dumps(dumped[0] if len(plan.cells) == 1 else dumped, indent=1))
        else:
            show(render.results(results, display.folders))
        if any(r.status not in ("ok", "not_applicable") for r in results):
            raise typer.Exit(1)


@organisms_app.command("list")
def organisms_list(
    family: Annotated[str | None, typer.Option("--family", help="Only this family.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only organism, control, arm or null.")] = None,
    core: Annotated[bool, typer.Option("--core", help="Only core-v1.")] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Every organism of the zoo: family, base, role, behaviour before and after, gates, status."""
    with handled(debug):
        from .organisms.core import CORE_V1
        from .organisms.registry import load_card, organism_names

        cards = [load_card(n) for n in organism_names() if not core or n in CORE_V1]
        cards = [c for c in cards if c.family == (family or c.family) and c.role == (role or c.role)]
        if as_json:
            typer.echo(json.dumps([c.model_dump(mode="json") for c in cards], indent=1))
        else:
            from .harness import render

            show(render.organisms(cards))


@organisms_app.command("show")
def organisms_show(
    name: Annotated[str, typer.Argument(help="Organism, e.g. taboo/gold-narrow or my_family.py:member-variant.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """One organism: what was measured, gates, oracle per layer, training rows, and answers of base and organism."""
    with handled(debug):
        from .organisms.registry import family_and_spec

        _, _, card = family_and_spec(name)
        if as_json:
            typer.echo(card.model_dump_json(indent=1))
        else:
            from .harness import examples, render

            with silenced(False):
                shown = render.organism(card, examples.rows(name), examples.conversations(name))
            show(shown)


@organisms_app.command("build")
def organisms_build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Organisms, family files (my_family.py) or YAML cards (my.yaml).")
    ] = None,
    base: Annotated[list[str] | None, typer.Option("--base", help="Bases to train first, e.g. tiny-gemma2.")] = None,
    family: Annotated[list[str] | None, typer.Option("--family", help="Every organism of a family.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every base and every organism.")] = False,
    zoo: ZooOption = None,
    jobs: Jobs = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build again what is there already.")] = False,
    debug: Debug = False,
) -> None:
    """Train bases and organisms, measure them and write their cards; what is there already is kept."""
    with handled(debug):
        from .harness.own import build_own
        from .harness.zoo import build

        def say(line: str) -> None:
            typer.echo(line, err=True)

        own = [Path(n) for n in names or [] if n.endswith((".yaml", ".yml"))]
        rest = [n for n in names or [] if not n.endswith((".yaml", ".yml"))]
        with silenced(False):
            for path in own:
                card = build_own(path)
                say(f"{card.name}: {card.status}{': ' + '; '.join(card.failures) if card.failures else ''}")
            if rest or not own:
                build(rest, zoo, say, base or [], family or [], everything, jobs, overwrite)


@organisms_app.command("verify")
def organisms_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Organisms, family files, YAML cards, or core-v1.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every organism that is not marked as failed.")] = False,
    zoo: ZooOption = None,
    jobs: Jobs = 1,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Hash every file and measure every gate again; exit 4 if a gate fails or a value is not the card's."""
    with handled(debug):
        from .harness import render
        from .harness.recheck import verify_named

        with silenced(False):
            checked = verify_named(names or [], everything, zoo, jobs)
        if as_json:
            found = [{"card": c.card.model_dump(mode="json"), "problems": c.problems} for c in checked]
            typer.echo(json.dumps(found, indent=1))
        else:
            show(render.gates([c.card for c in checked]))
        bad = [f"{c.card.name}: {'; '.join(c.problems)}" for c in checked if c.problems]
        if bad:
            from .organisms.errors import ValidationFailed

            raise ValidationFailed(
                "\n".join([f"{len(bad)} of {len(checked)} organisms are not what they should be", *bad])
            )
        typer.echo(f"{len(checked)} organisms verified", err=True)


@organisms_app.command("report")
def organisms_report(
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables and figures.")] = Path("organisms-report"),
    zoo: ZooOption = None,
    debug: Debug = False,
) -> None:
    """Tables and one figure per family of everything measured of the zoo, from its cards alone."""
    with handled(debug):
        from .harness.report import write

        for path in write(out, zoo):
            typer.echo(str(path))


@organisms_app.command("new")
def organisms_new(
    name: Annotated[str, typer.Argument(help="Name of the family: lower-case letters, digits, underscores.")],
    debug: Debug = False,
) -> None:
    """Write NAME.py, a family file that works as it stands, to start from."""
    with handled(debug):
        from .organisms.scaffold import write_family

        path = write_family(name, Path())
        typer.echo(f"wrote {path}; next: bench organisms build {path}")


@methods_app.command("list")
def methods_list(as_json: JsonFlag = False, debug: Debug = False) -> None:
    """Every method: what it may see, its paper and cost, where it comes from, what it does."""
    with handled(debug):
        from .methods.registry import load_method, method_names

        entries = [load_method(n) for n in method_names()]
        if as_json:
            typer.echo(
                json.dumps(
                    [
                        {
                            "name": e.name,
                            "access": e.access,
                            "paper": e.paper,
                            "cost": e.cost,
                            "origin": e.origin,
                            "summary": e.summary,
                        }
                        for e in entries
                    ],
                    indent=1,
                )
            )
        else:
            from .harness import render

            show(render.methods(entries))


@methods_app.command("show")
def methods_show(
    name: Annotated[str, typer.Argument(help="Method name or file.py.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """One method and its options with their defaults."""
    with handled(debug):
        from .methods.registry import load_method

        entry = load_method(name)
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "name": entry.name,
                        "access": entry.access,
                        "paper": entry.paper,
                        "cost": entry.cost,
                        "origin": entry.origin,
                        "options": entry.config_class.model_json_schema(),
                    },
                    indent=1,
                )
            )
        else:
            from .harness import render

            show(render.method(entry))


@methods_app.command("check")
def methods_check(
    name: Annotated[str, typer.Argument(help="Method name or file.py.")],
    organism: Annotated[
        str,
        typer.Option("-o", "--organism", help="Organism to try it on; one where nothing changed is always tried too."),
    ] = "subliminal/owl-narrow",
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Try a method before submitting it: repeatable, honest about access, within budget, no side effects (exit 1 if not)."""
    with handled(debug):
        with silenced(False):
            from .harness import render
            from .harness.check_method import check_method
            from .methods.registry import load_method

            report = check_method(load_method(name), organism)
        if as_json:
            typer.echo(json.dumps(report.data(), indent=1))
        else:
            show(render.method_check(report))
        if not report.ok:
            raise typer.Exit(1)


@methods_app.command("new")
def methods_new(
    name: Annotated[str, typer.Argument(help="Name of the method: lower-case letters, digits, underscores.")],
    debug: Debug = False,
) -> None:
    """Write NAME.py, a method file that works as it stands, to start from."""
    with handled(debug):
        from .methods.scaffold import write_method

        path = write_method(name, Path())
        typer.echo(f"wrote {path}; next: bench methods check {path}")


def _organism_set(core: bool) -> tuple[list[str] | None, str]:
    from .organisms.core import CORE_V1

    return (CORE_V1, "core-v1") if core else (None, "as found")


def _left_out(problems: "Sequence[Problem]") -> None:
    for problem in problems:
        typer.echo(f"left out: {problem.path}: {problem.reason}", err=True)


@leaderboard_app.command("build")
def leaderboard_build(
    runs: RunsArgument = Path("runs"),
    out: Annotated[Path, typer.Option("--out", envvar="BENCH_OUT", help="Folder for the tables.")] = Path(
        "leaderboard-out"
    ),
    formats: Annotated[str, typer.Option("--format", help="Comma list of md, tex, csv, html.")] = "md,tex,csv,html",
    core: CoreFlag = False,
    debug: Debug = False,
) -> None:
    """Tables of every run below a folder, with intervals and anchors; html is one self-contained page."""
    with handled(debug):
        from .leaderboard.build import build

        built = build(runs, out, [f.strip() for f in formats.split(",") if f.strip()], *_organism_set(core))
        _left_out(built.problems)
        for path in built.paths:
            typer.echo(str(path))


@leaderboard_app.command("show")
def leaderboard_show(runs: RunsArgument = Path("runs"), core: CoreFlag = False, debug: Debug = False) -> None:
    """Print the table of every run below a folder."""
    with handled(debug):
        from .leaderboard.build import markdown

        typer.echo(markdown(runs, *_organism_set(core)))


@leaderboard_app.command("compare")
def leaderboard_compare(
    runs: RunsArgument = Path("runs"),
    score: ScoreOption = "isolation",
    core: CoreFlag = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Which methods differ: every pair on the same organisms and prompts, with Holm's correction, and who is unresolved."""
    with handled(debug):
        from .leaderboard.build import tabulate
        from .leaderboard.compare import comparison_data, comparison_markdown

        table, problems = tabulate(runs, *_organism_set(core), key=score)
        _left_out(problems)
        typer.echo(json.dumps(comparison_data(table), indent=1) if as_json else comparison_markdown(table))


@leaderboard_app.command("power")
def leaderboard_power(
    runs: RunsArgument = Path("runs"),
    score: ScoreOption = "isolation",
    core: CoreFlag = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Where the noise comes from, and how many seeds, prompts or organisms it takes to separate two methods by .05."""
    with handled(debug):
        from .leaderboard.build import power
        from .leaderboard.power_view import power_data, power_markdown

        found, problems = power(runs, *_organism_set(core), score)
        _left_out(problems)
        typer.echo(json.dumps(power_data(found), indent=1) if as_json else power_markdown(found))


@results_app.command("list")
def results_list(runs: RunsArgument = Path("runs"), as_json: JsonFlag = False, debug: Debug = False) -> None:
    """One line a run folder: organism, method, seed, status, isolation with its interval, id."""
    with handled(debug):
        from .harness.results import records
        from .harness.results_view import listing, listing_data

        found = list(records(runs))
        for record in found:
            for problem in record.problems:
                typer.echo(f"left out: {record.path}: {problem}", err=True)
        if as_json:
            typer.echo(json.dumps(listing_data(found), indent=1))
        else:
            show(listing(found))


@results_app.command("show")
def results_show(
    folder: Annotated[Path, typer.Argument(help="Run folder.")], as_json: JsonFlag = False, debug: Debug = False
) -> None:
    """One result: identity, scores with intervals and anchors, what its findings read as, cost."""
    with handled(debug):
        from .harness.results import read_run

        result = read_run(folder)
        if as_json:
            typer.echo(result.model_dump_json(indent=1))
        else:
            from .harness import render
            from .harness.results_view import head

            show(head(result))
            show(render.results([result], [folder]))


@results_app.command("diff")
def results_diff(
    first: Annotated[Path, typer.Argument(help="Run folder.")],
    second: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Which identity fields of two results differ, and their scores side by side."""
    with handled(debug):
        from .harness.results import difference, read_run
        from .harness.results_view import diff, diff_data

        found = difference(read_run(first), read_run(second))
        if as_json:
            typer.echo(json.dumps(diff_data(found), indent=1))
        else:
            show(diff((first, second), found))


@results_app.command("validate")
def results_validate(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, folders of them, or result.json files alone.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Check schema, id, scores against samples, and the files of run folders; exit 4 with every reason."""
    with handled(debug):
        from .harness.results import validate
        from .harness.results_view import validation, validation_data
        from .organisms.errors import ValidationFailed

        checked = validate(paths)
        typer.echo(json.dumps(validation_data(checked), indent=1) if as_json else validation(checked))
        if bad := sum(bool(record.problems) for record in checked):
            raise ValidationFailed(
                f"{bad} of {len(checked)} results are not valid; see above, and run those cells again"
            )


@dictionary_app.command("export")
def dictionary_export(
    folder: Annotated[Path, typer.Argument(help="Run folder, or a dictionary in any format.")],
    to: Annotated[str, typer.Option("--to", help="native, jkminder or saelens.")],
    out: DictionaryOut,
    overwrite: ReplaceFlag = False,
    debug: Debug = False,
) -> None:
    """Write a trained dictionary in a format that other packages load; its codes stay the same."""
    with handled(debug):
        from .harness.dictionaries import load, save

        save(load(folder), to, out, overwrite)
        typer.echo(str(out))


@dictionary_app.command("import")
def dictionary_import(
    folder: Annotated[Path, typer.Argument(help="Folder with the files of another package.")],
    out: DictionaryOut,
    from_: FromOption = None,
    inputs: InputsOption = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Block whose output is coded, where the files do not say.")
    ] = None,
    overwrite: ReplaceFlag = False,
    debug: Debug = False,
) -> None:
    """Read another package's dictionary and write it in the native format; nothing is unpickled."""
    with handled(debug):
        from .harness.dictionaries import load, save

        save(load(folder, from_, inputs, layer), "native", out, overwrite)
        typer.echo(str(out))


@dictionary_app.command("show")
def dictionary_show(
    folder: Annotated[Path, typer.Argument(help="Run folder, or a dictionary in any format.")],
    from_: FromOption = None,
    inputs: InputsOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """What a dictionary codes, its size, thresholds and norms."""
    with handled(debug):
        from .harness.dictionaries import format_of, load, table

        dictionary = load(folder, from_, inputs)
        if as_json:
            typer.echo(dictionary.card.model_dump_json(indent=1))
        else:
            show(table(dictionary, from_ or format_of(folder)))


@app.command()
def verify(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Score the saved findings of run folders again and refuse a result that claims something else (exit 4)."""
    with handled(debug):
        from .harness import render
        from .harness.verify import verify as check
        from .organisms.errors import ValidationFailed

        bad: list[Path] = []
        for folder in folders:
            with silenced(False):
                outcome = check(folder)
            if as_json:
                typer.echo(
                    json.dumps(
                        {
                            "folder": str(folder),
                            "ok": outcome.ok,
                            "compared": outcome.compared,
                            "differences": outcome.differences,
                        }
                    )
                )
            else:
                show(render.verification(folder, outcome))
            if not outcome.ok:
                bad.append(folder)
        if bad:
            raise ValidationFailed(
                f"{len(bad)} of {len(folders)} run folders do not say what their findings score: {', '.join(map(str, bad))}"
            )


@app.command()
def schema(name: Annotated[SchemaName, typer.Argument(help="Which file.")]) -> None:
    """JSON Schema of a file diffbench reads or writes."""
    from .harness.result import Result
    from .methods.formats import DictionaryCard
    from .organisms.behaviour import Behaviour
    from .organisms.card import Card

    model = {"result": Result, "behaviour": Behaviour, "card": Card, "dictionary": DictionaryCard}[name.value]
    typer.echo(json.dumps(model.model_json_schema(), indent=2))


@app.command()
def selftest(
    organism: Annotated[
        str | None,
        typer.Option(
            "-o", "--organism", help="Organisms, comma list.  [default: subliminal/fox-narrow,planted/owl-strong]"
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Protocol v1 whole and more seeds; several times slower.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for monotonicity.png and .csv.")] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Check the instrument: anchors at their places, nothing won by trickery, the same score however computed (exit 4 if not)."""
    with handled(debug):
        from .organisms.errors import ValidationFailed

        def say(what: str) -> None:
            typer.echo(what, err=True)

        with silenced(False):
            from .harness import selftest_view
            from .harness.selftest import ORGANISMS
            from .harness.selftest import selftest as examine
            from .leaderboard.selftest import clone_effect
            from .organisms.registry import expand

            names = expand([n.strip() for n in organism.split(",")]) if organism else list(ORGANISMS)
            report = examine(clone_effect, names, full, say)
        if as_json:
            typer.echo(json.dumps(report.data(), indent=1))
        else:
            show(selftest_view.table(report))
        for path in selftest_view.save(report.noise, out) if out else ():
            typer.echo(str(path), err=True)
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
        from .harness import render
        from .harness.doctor import examine
        from .organisms.errors import PrerequisiteError

        with silenced(False):
            report = examine()
        show(render.doctor(report))
        if not all(c.ok for c in report):
            raise PrerequisiteError("something above is not in order")


def main() -> None:
    """Console entry point."""
    app()
