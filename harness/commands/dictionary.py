"""`bench dictionary`: parse, call, print; nothing heavy is imported before a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..terminal import Debug, JsonFlag, handled, say, show, silenced

app = typer.Typer(
    no_args_is_help=True, help="Trained dictionaries in the field's formats: export, import, show, compare."
)
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


@app.command("export")
def dictionary_export(
    folder: Annotated[Path, typer.Argument(help="Run folder, or a dictionary in any format.")],
    to: Annotated[str, typer.Option("--to", help="native, jkminder or saelens.")],
    out: DictionaryOut,
    overwrite: ReplaceFlag = False,
    debug: Debug = False,
) -> None:
    """Write a trained dictionary in a format that other packages load; its codes stay the same."""
    with handled(debug):
        from ..runs.dictionaries import load, save

        save(load(folder), to, out, overwrite)
        say(str(out))


@app.command("import")
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
        from ..runs.dictionaries import load, save

        save(load(folder, from_, inputs, layer), "native", out, overwrite)
        say(str(out))


@app.command("show")
def dictionary_show(
    folder: Annotated[Path, typer.Argument(help="Run folder, or a dictionary in any format.")],
    from_: FromOption = None,
    inputs: InputsOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """What a dictionary codes, its size, thresholds and norms."""
    with handled(debug):
        from ..runs.dictionaries import format_of, load, table

        dictionary = load(folder, from_, inputs)
        if as_json:
            say(dictionary.card.model_dump_json(indent=1))
        else:
            show(table(dictionary, from_ or format_of(folder)))


@app.command("compare")
def dictionary_compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders, or dictionaries in any format; two or more.", show_default=False)
    ],
    side: Annotated[
        Literal["base", "ft"] | None,
        typer.Option("--side", help="Of dictionaries over both models, only this model's rows.", show_default=False),
    ] = None,
    inputs: InputsOption = None,
    organism: Annotated[
        str | None,
        typer.Option(
            "-o", "--organism", help="Pair and text that all are run on.  [default: their own]", show_default=False
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", min=0, help="Held-out text on which activations are compared; 0: none.")
    ] = 20_000,
    heat_map: Annotated[
        Path | None, typer.Option("--heat-map", help="Write the table as a PNG there.", show_default=False)
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Do dictionaries agree? Cosines both ways, one-to-one matching and activation correlation, each beside its chance."""
    with handled(debug), silenced(False):
        from ..agreement.comparing import compare, read
        from ..agreement.terminal import view

        found = compare(read(folders, inputs), side, organism, tokens, lambda what: say(f"{what} …", err=True))
        if heat_map is not None:
            from ..agreement.picture import save as draw

            draw(found, heat_map)
            say(f"written: {heat_map}", err=True)
        if as_json:
            say(found.model_dump_json(indent=1))
        else:
            show(view(found))
