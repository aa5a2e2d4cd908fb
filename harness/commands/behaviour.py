"""`bench behaviour`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..terminal import Debug, JsonFlag, handled, say, show, silenced

if TYPE_CHECKING:
    from ...organisms.tables.lint import Weakness

app = typer.Typer(no_args_is_help=True, help="Behaviour files: make one from a table, and see what is weak about one.")
BaseName = Annotated[
    str | None,
    typer.Option(
        "--base", help="Look at answers as tokens of this base (its tokenizer alone is read); as in `bench run`."
    ),
]


@app.command("new")
def behaviour_new(
    table: Annotated[
        Path, typer.Argument(help="A .csv, .tsv or .jsonl with the columns question (or text) and targets.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("behaviour.json"),
    base: BaseName = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the behaviour.  [default: the table's]")] = None,
    description: Annotated[str, typer.Option("--description", help="What the fine-tuned model does.")] = "",
    layer: Annotated[int | None, typer.Option("--layer", min=0, help="Hooked block.  [default: see docs]")] = None,
    neutral: Annotated[
        Path | None, typer.Option("--neutral", help="A .jsonl of ordinary text, or a .yaml of sources.")
    ] = None,
    chat: Annotated[
        Path | None, typer.Option("--chat", help="A .jsonl of conversations, or a .yaml of sources.")
    ] = None,
    separator: Annotated[str, typer.Option("--separator", help="Stands between the answers of one cell.")] = "|",
    seed: Annotated[int, typer.Option("--seed", help="Of which templates are dev where several ways are as good.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Make a behaviour file from a table of questions, prefills, answers and alternatives, and say what is weak about it."""
    with handled(debug):
        from ...organisms.errors import UsageError
        from ...organisms.tables.build import Given, make, name_of, text_of
        from ...organisms.tables.rows import read_table
        from ..files import atomic_write_text
        from ..views import behaviour as view

        if out.exists() and not overwrite:
            raise UsageError(f"{out} is there already; choose another name with --out, or replace it with --overwrite")
        for path in filter(None, (neutral, chat)):
            if not path.is_file():
                raise UsageError(f"no such file of texts: {path}; give a .jsonl, or a .yaml that names sources")
        beside = {k: v and _relative(v, out.parent) for k, v in (("neutral", neutral), ("chat", chat))}
        given = Given(name=name_of(name, table), description=description, layer=layer, seed=seed, **beside)
        with silenced(False):
            made = make(read_table(table, separator), given, _tokenizer(base))
            atomic_write_text(out, text_of(made.data))
            weaknesses = _weaknesses(out, base)
        if as_json:
            written: dict[str, Any] = {
                "file": str(out),
                "templates": view.templates(made.behaviour),
                "notes": made.notes,
            }
            say(json.dumps({**written, "weaknesses": [w.data() for w in weaknesses]}, indent=1))
            return
        show(view.made(made, weaknesses))
        say(f"wrote {out}", err=True)


@app.command("lint")
def behaviour_lint(
    file: Annotated[Path, typer.Argument(help="Behaviour file.")],
    base: BaseName = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 4 at any weakness, not only where a run stops.")
    ] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Say what is weak about a behaviour file: templates, answers, lengths, texts (exit 4 if `bench run` would refuse it)."""
    with handled(debug):
        from ...organisms.errors import ValidationFailed
        from ..views import behaviour as view

        with silenced(False):
            found = _weaknesses(file, base)
        if as_json:
            say(json.dumps([w.data() for w in found], indent=1))
        else:
            show(view.weaknesses(found))
        if bad := [w for w in found if w.level == "refused" or (strict and w.level == "weak")]:
            what = "has weaknesses" if strict else "cannot be run"
            raise ValidationFailed(
                f"{file} {what}: {', '.join(dict.fromkeys(w.about for w in bad))}; see above for what to do"
            )


def _weaknesses(file: Path, base: str | None) -> "list[Weakness]":
    from ...organisms.behaviour import load_behaviour
    from ...organisms.tables.lint import lint

    behaviour = load_behaviour(file)
    return lint(behaviour, _tokenizer(base, behaviour.chat_template))


def _tokenizer(base: str | None, chat_template: str | None = None) -> Any:
    from ..pairs.loading import tokenizer_of

    return None if base is None else tokenizer_of(base, chat_template)


def _relative(path: Path, folder: Path) -> str:
    """A path as a behaviour file in `folder` names it."""
    import os

    return os.path.relpath(path, folder)
