"""The cells of a command: run them, show what they gave, and end with the exit code that it deserves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..terminal import say, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..records.result import Result
    from .recall import Known
    from .settings import Settings


def carry_out(
    settings: "Settings",
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    log_text: Callable[[], str],
    verbose: bool = False,
) -> "Known":
    """Run every cell and show the results.

    Args:
        verbose: a line for each number of a cell.

    Raises:
        typer.Exit: a cell failed, a pair cannot be scored, or something was left out. PrerequisiteError: no place to write to.
    """
    from ..runs.folder import check_writable
    from ..runs.run import exit_code, run
    from ..views.progress import RunDisplay
    from .recall import Known

    plan = settings.plan(overwrite)
    check_writable(settings.out)
    results: list[Result] = []
    with RunDisplay(plan, quiet=quiet or as_json) as display:
        results.extend(run(plan, display, log_text))
    show_records(results, display.folders, as_json, len(plan.cells) == 1, verbose)
    save_layers(results, settings.out)
    if plan.cache and plan.cache.trouble:
        say(f"note: {plan.cache.trouble}", err=True)
    for name, why in settings.left_out.items():
        say(f"error: {name} was left out: {why}", err=True)
    if code := max(exit_code(results), int(bool(settings.left_out))):
        raise typer.Exit(code)
    return Known(results, display.folders)


def save_layers(results: "Sequence[Result]", out: Path) -> None:
    """The figure of each sweep of layers, beside the run folders of its organism."""
    from ..views import layers

    for name, of in layers.by_organism(results):
        for path in layers.save(of, out / name):
            say(f"by layer: {path}", err=True)


def show_records(
    results: "Sequence[Result]", folders: "Sequence[Path]", as_json: bool, alone: bool, verbose: bool = False
) -> None:
    """What a run gave, on stdout; the JSON of one cell is no list."""
    from ..views import render

    if as_json:
        dumped = [r.model_dump(mode="json") for r in results]
        say(json.dumps(dumped[0] if alone else dumped, indent=1))
    else:
        show(render.results(results, folders, verbose))
