"""`bench cache`: what is kept on disk of measured pairs, and how to get rid of it."""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import Debug, JsonFlag, handled, say, show

app = typer.Typer(
    no_args_is_help=True,
    help="What `bench run` keeps of measured pairs, so that it is not measured again. No result depends on it.",
)
DAY_S = 86_400


@app.command("show")
def cache_show(as_json: JsonFlag = False, debug: Debug = False) -> None:
    """How much is kept of which pair, and when it was last used."""
    with handled(debug):
        from rich.table import Table

        from ..cache import Cache, Stored
        from ..files import tables_folder

        cache = Cache.of_user()
        groups: dict[tuple[str, str, str], list[Stored]] = {}
        for each in cache.stored():
            groups.setdefault((*each.about(), each.kind), []).append(each)
        total = sum(each.bytes for group in groups.values() for each in group)
        if as_json:
            kept = [
                {"pair": pair, "sha256": sha, "kind": kind, "entries": len(group)}
                | {"bytes": sum(e.bytes for e in group), "last_used_unix": max(e.used for e in group)}
                for (pair, sha, kind), group in sorted(groups.items())
            ]
            tables = {"folder": str(tables_folder()), "bytes": _size(tables_folder())}
            about = {"folder": str(cache.folder), "most_bytes": cache.most_bytes, "kept": kept, "tables": tables}
            say(json.dumps(about, indent=1))
            return
        if groups:
            table = Table("pair", "sha256", "kind", "entries", "MB", "last used")
            for (pair, sha, kind), group in sorted(groups.items()):
                size, ago = sum(e.bytes for e in group) / 1e6, _ago(time.time() - max(e.used for e in group))
                table.add_row(pair or "unreadable", sha[:12], kind, str(len(group)), f"{size:.1f}", ago)
            show(table)
        say(f"{total / 1e9:.2f} of at most {cache.most_bytes / 1e9:g} GB in {cache.folder}")
        if size := _size(tables_folder()):
            say(f"{size / 1e9:.2f} GB of intervals of tables in {tables_folder()}")


@app.command("clear")
def cache_clear(
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
    pair: Annotated[
        str | None, typer.Option("--pair", help="Of this pair: its name, or the start of its sha256.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of this kind: residuals or controls.")] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Not used for so many days.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Remove what is kept; several options together remove what fits all of them."""
    with handled(debug):
        from ...organisms.errors import UsageError
        from ..cache import Cache, Stored
        from ..files import tables_folder

        if everything == any(given is not None for given in (pair, kind, older_than)):
            raise UsageError("say what is to go: --all, or some of --pair, --kind and --older-than")
        cache, now = Cache.of_user(), time.time()

        def chosen(each: Stored) -> bool:
            if (kind is not None and each.kind != kind) or (
                older_than is not None and now - each.used < older_than * DAY_S
            ):
                return False
            if pair is None:
                return True
            name, sha = each.about()
            return pair == name or (len(pair) >= 6 and sha.startswith(pair))

        gone = cache.clear(chosen)
        if everything:
            shutil.rmtree(tables_folder(), ignore_errors=True)
        say(f"removed {len(gone)} entries, {sum(s.bytes for s in gone) / 1e6:.1f} MB, of {cache.folder}")


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*.json"))


def _ago(seconds: float) -> str:
    for unit, name in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return "now"
