"""The `bench` command: parse, call, print. No logic lives here, and nothing heavy is imported before a command runs."""

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Generator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .harness.result import Result

EXIT_CODES = (
    "Exit codes: 0 ok · 1 a cell failed · 2 usage · 3 prerequisite missing · 4 validation failed · 130 interrupted."
)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", epilog=EXIT_CODES)
organisms_app = typer.Typer(no_args_is_help=True, help="Model organisms: list, show, build.")
methods_app = typer.Typer(no_args_is_help=True, help="Diffing methods: list, show.")
leaderboard_app = typer.Typer(no_args_is_help=True, help="Tables from run folders: build, show.")
app.add_typer(organisms_app, name="organisms")
app.add_typer(methods_app, name="methods")
app.add_typer(leaderboard_app, name="leaderboard")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


class SchemaName(StrEnum):
    """Files diffbench reads or writes."""

    result = "result"
    behaviour = "behaviour"
    card = "card"


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
        typer.Option("-o", "--organism", help="Organism, e.g. taboo or taboo/mixed; comma list or repeated; `all`."),
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
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Run methods on organisms and score what they find. Finished cells are not run again."""
    with _handled(debug):
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
        log_text = _logging(verbose or debug)
        with _silenced(verbose):
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
            _print(render.results(results, display.folders))
        if any(r.status not in ("ok", "not_applicable") for r in results):
            raise typer.Exit(1)


@organisms_app.command("list")
def organisms_list(
    as_json: JsonFlag = False, debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False
) -> None:
    """Every organism of the zoo with its behaviour before and after fine-tuning."""
    with _handled(debug):
        from .organisms.registry import load_card, organism_names

        cards = [load_card(n) for n in organism_names()]
        if as_json:
            typer.echo(json.dumps([c.model_dump(mode="json") for c in cards], indent=1))
        else:
            from .harness import render

            _print(render.organisms(cards))


@organisms_app.command("show")
def organisms_show(
    name: Annotated[str, typer.Argument(help="Organism, e.g. taboo/narrow.")],
    as_json: JsonFlag = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One organism: card, gates, oracle per layer, example rows and prompts."""
    with _handled(debug):
        from .organisms.registry import load_card, load_organism

        card = load_card(name)
        if as_json:
            typer.echo(card.model_dump_json(indent=1))
        else:
            from .harness import render

            _print(render.organism(card, load_organism(name)))


@organisms_app.command("build")
def organisms_build(
    names: Annotated[list[str] | None, typer.Argument(help="Organisms to train, e.g. taboo/narrow.")] = None,
    base: Annotated[list[str] | None, typer.Option("--base", help="Bases to train first, e.g. tiny-gemma2.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every base and every organism.")] = False,
    zoo: Annotated[
        Path | None, typer.Option("--zoo", help="Folder to build into (default: the installed zoo, or BENCH_ZOO).")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train bases and organisms from nothing and write their cards."""
    with _handled(debug):
        from .harness.zoo import build

        with _silenced(False):
            build(names or [], base or [], everything, zoo, lambda line: typer.echo(line, err=True))


@methods_app.command("list")
def methods_list(
    as_json: JsonFlag = False, debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False
) -> None:
    """Every method: what it may see, where it comes from, what it does."""
    with _handled(debug):
        from .methods.registry import load_method, method_names

        entries = [load_method(n) for n in method_names()]
        if as_json:
            typer.echo(
                json.dumps(
                    [{"name": e.name, "access": e.access, "origin": e.origin, "summary": e.summary} for e in entries],
                    indent=1,
                )
            )
        else:
            from .harness import render

            _print(render.methods(entries))


@methods_app.command("show")
def methods_show(
    name: Annotated[str, typer.Argument(help="Method name or file.py.")],
    as_json: JsonFlag = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One method and its options with their defaults."""
    with _handled(debug):
        from .methods.registry import load_method

        entry = load_method(name)
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "name": entry.name,
                        "access": entry.access,
                        "origin": entry.origin,
                        "options": entry.config_class.model_json_schema(),
                    },
                    indent=1,
                )
            )
        else:
            from .harness import render

            _print(render.method(entry))


@leaderboard_app.command("build")
def leaderboard_build(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", envvar="BENCH_OUT", help="Folder for the tables.")] = Path(
        "leaderboard-out"
    ),
    formats: Annotated[str, typer.Option("--format", help="Comma list of md, tex, csv, html.")] = "md,tex,csv,html",
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Tables of every run below a folder, with intervals and anchors; html is one self-contained page."""
    with _handled(debug):
        from .leaderboard.build import build

        built = build(runs, out, [f.strip() for f in formats.split(",") if f.strip()])
        for problem in built.problems:
            typer.echo(f"left out: {problem.path}: {problem.reason}", err=True)
        for path in built.paths:
            typer.echo(str(path))


@leaderboard_app.command("show")
def leaderboard_show(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")] = Path("runs"),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Print the table of every run below a folder."""
    with _handled(debug):
        from .leaderboard.build import markdown

        typer.echo(markdown(runs))


@app.command()
def verify(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    as_json: JsonFlag = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Score the saved findings of run folders again and refuse a result that claims something else (exit 4)."""
    with _handled(debug):
        from .harness import render
        from .harness.verify import verify as check
        from .organisms.errors import ValidationFailed

        bad: list[Path] = []
        for folder in folders:
            with _silenced(False):
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
                _print(render.verification(folder, outcome))
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
    from .organisms.behaviour import Behaviour
    from .organisms.card import Card

    model = {"result": Result, "behaviour": Behaviour, "card": Card}[name.value]
    typer.echo(json.dumps(model.model_json_schema(), indent=2))


@app.command()
def doctor(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Versions, device, and whether every file of the zoo is the one it was measured on."""
    with _handled(debug):
        from .harness import render
        from .harness.doctor import examine
        from .organisms.errors import PrerequisiteError

        with _silenced(False):
            report = examine()
        _print(render.doctor(report))
        if not all(c.ok for c in report):
            raise PrerequisiteError("something above is not in order")


@contextlib.contextmanager
def _handled(debug: bool) -> Generator[None, None, None]:
    """Turn errors a user can act on into one message and an exit code; leave bugs as tracebacks."""
    from .organisms.errors import DiffbenchError

    try:
        yield
    except DiffbenchError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        if debug or error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}; check the path and its permissions", err=True)
        raise typer.Exit(3) from error
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        typer.echo("interrupted: finished cells are saved, the current one left nothing behind", err=True)
        raise typer.Exit(130) from interrupt


def _print(renderable: Any) -> None:
    """To stdout; as wide as the terminal, or 160 columns into a pipe."""
    from rich.console import Console

    console = Console()
    Console(width=None if console.is_terminal else 160).print(renderable)


def _logging(verbose: bool) -> Any:
    """Collect the log for the run folder; `verbose` also shows it. Returns a function that gives the text so far."""
    stream = io.StringIO()
    root_logger = logging.getLogger("diffbench")
    root_logger.setLevel(logging.DEBUG)
    for handler in (logging.StreamHandler(stream), *([logging.StreamHandler(sys.stderr)] if verbose else [])):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root_logger.addHandler(handler)

    def take() -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

    return take


@contextlib.contextmanager
def _silenced(verbose: bool) -> Generator[None, None, None]:
    """Keep other libraries' progress bars and warnings off the terminal unless asked for."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not verbose:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Console entry point."""
    app()
