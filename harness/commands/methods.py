"""`bench methods`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import Debug, JsonFlag, handled, say, show, silenced

app = typer.Typer(no_args_is_help=True, help="Diffing methods: list, show, check, new.")


@app.command("list")
def methods_list(as_json: JsonFlag = False, debug: Debug = False) -> None:
    """Every method: what it may see, its paper and cost, where it comes from, what it does."""
    with handled(debug):
        from ...methods.registry import all_facts

        found = all_facts()
        if as_json:
            say(json.dumps(found, indent=1))
        else:
            from ..views import render

            show(render.methods(found))


@app.command("show")
def methods_show(
    name: Annotated[str, typer.Argument(help="Method name or file.py.")],
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """One method and its options with their defaults."""
    with handled(debug):
        from ..worker.foreign import load

        entry = load(name)
        if as_json:
            options = entry.config_class.model_json_schema()
            for option, value in entry.published.items():
                options["properties"][option]["default"] = value
            facts = {**entry.facts(), "row": entry.row, "options": options, "published": entry.departures}
            say(json.dumps(facts, indent=1))
        else:
            from ..views import render

            show(render.method(entry))


@app.command("check")
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
            from ..studies.check_method import check_method
            from ..views import render
            from ..worker.foreign import load

            report = check_method(load(name), organism)
        if as_json:
            say(json.dumps(report.data(), indent=1))
        else:
            show(render.method_check(report))
        if not report.ok:
            raise typer.Exit(1)


@app.command("new")
def methods_new(
    name: Annotated[str, typer.Argument(help="Name of the method: lower-case letters, digits, underscores.")],
    debug: Debug = False,
) -> None:
    """Write a package NAME/ to start from: a method that works as it stands, its entry point, its test and its card."""
    with handled(debug):
        from ...methods.scaffold import write_package

        path = write_package(name, Path())
        for file in sorted(path.parent.iterdir()):
            say(f"wrote {file}")
        say(f"next: bench methods check {path}")
