"""`bench submit`, `bench leaderboard add` and `private`, and `bench verify` of bundles: parse, call, print."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...harness.holders import holders
from ...harness.options import seed_numbers
from ...harness.terminal import Debug, JsonFlag, handled, say, silenced

if TYPE_CHECKING:
    from ...harness.runs.records import Record

Board = Annotated[Path, typer.Option("--board", help="Folder of packs that the method is added to.")]
PUBLISHED = Path("leaderboard/published")


def _records(path: Path) -> "Iterable[Record]":
    from .cells import records_of

    return records_of(path)


holders[".bundle.safetensors"] = _records


def submit(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of them.")],
    card: Annotated[Path, typer.Option("--card", help="The method card, YAML; `bench methods new` writes one.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle.  [default: NAME.bundle.safetensors]")] = None,
    set_: Annotated[
        str | None,
        typer.Option("--set", help="Frozen set of organisms that the cells cover whole.", show_default=False),
    ] = None,
    no_dictionaries: Annotated[
        bool, typer.Option("--no-dictionaries", help="Leave trained dictionaries out; nothing is scored with them.")
    ] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Build the bundle of a method's cells and check it; nothing is sent anywhere."""
    with handled(debug):
        from .build import build
        from .bundle import ENDING
        from .card import read_card

        method = read_card(card)
        path = out or Path(f"{method.name}{ENDING}")
        bundle, cells = build(runs, method, path, set_, not no_dictionaries)
        failed = sum(c.status != "ok" for c in cells)
        if as_json:
            data = {"bundle": str(path), "sha256": bundle.sha256, "cells": len(cells), "without_scores": failed}
            say(json.dumps({**data, "bytes": path.stat().st_size}, indent=1))
            return
        say(f"{path}  {path.stat().st_size / 1e6:.2f} MB  {bundle.sha256[:12]}")
        on = sorted({c.identity.organism for c in cells})
        say(f"{len(cells)} cells of {method.name} on {len(on)} organisms: {', '.join(on)}")
        if failed:
            say(f"{failed} cells have no scores and count as null", err=True)
        say(f"next: bench verify {path}")


def add(
    bundle: Annotated[Path, typer.Argument(help="NAME.bundle.safetensors.")],
    by: Annotated[str, typer.Option("--by", envvar="BENCH_VERIFIED_BY", help="Who verifies it: a name or an address.")],
    board: Board = PUBLISHED,
    row: Annotated[
        Path | None,
        typer.Option("--row", help="Write the method's row, its rank and its neighbours to this file, as Markdown."),
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Score a bundle again, and add it to the board if every cell agrees; says who verified what, where and with what."""
    with handled(debug), silenced(False), tempfile.TemporaryDirectory() as scratch:
        from .board import FOLDER
        from .board import add as add_to
        from .bundle import open_bundle

        note = add_to(open_bundle(bundle), board, by, lambda cell: say(cell.line, err=as_json), Path(scratch))
        if row is not None:
            from ...harness.files import atomic_write_text
            from ..board.build import tabulate
            from ..pages.text_formats import row_markdown

            atomic_write_text(row, row_markdown(tabulate(board), note.card.name))
        if as_json:
            say(note.model_dump_json(indent=1))
            return
        v = note.verified[-1]
        say(f"added {note.card.name}: {v.cells} cells verified, {v.values:,} values, by {v.by} on {v.cpu}")
        for line in note.notes:
            say(f"note: {line}")
        if note.seen_in_development:
            say(f"note: seen in development: {', '.join(note.seen_in_development)}")
        say(
            f"recorded in {board / FOLDER / note.card.name}.json; the board is rendered by: bench leaderboard build {board}"
        )


def private(
    method: Annotated[str, typer.Argument(help="The method whose code is run: an installed name, or its file.")],
    zoo: Annotated[
        Path, typer.Option("--zoo", envvar="BENCH_ZOO", help="Organisms nobody else has (docs/submitting.md).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run folders, which name the organisms.")],
    by: Annotated[str, typer.Option("--by", envvar="BENCH_VERIFIED_BY", help="Who runs it: a name or an address.")],
    seed: Annotated[str, typer.Option("--seed", help="Seeds of a method that draws anything: comma list.")] = "0,1,2",
    board: Board = PUBLISHED,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Run a method's code on a private set; only its mean, its interval and the set's size and hash go to the board."""
    with handled(debug), silenced(False):
        from ..board.private import write_private
        from ..pages.cells import estimate_text
        from ..statistics.rows import Estimate
        from .private import score_privately

        found = score_privately(method, zoo, out, seed_numbers(seed), by, board, lambda line: say(line, err=True))
        path = write_private(found, board)
        if as_json:
            say(found.model_dump_json(indent=1))
            return
        said = estimate_text(Estimate(**found.isolation.model_dump()))
        say(f"{found.method}: isolation {said} on {found.organisms} private organisms (set {found.set_sha256[:12]})")
        say(f"recorded in {path}, which names none of them; shown by: bench leaderboard build {board}")


def is_bundle(path: Path) -> bool:
    """Whether a path is meant as a bundle: a file that is no record and no pack."""
    return not path.is_dir() and path.suffix not in ("", ".json", ".xz")


def verify_bundles(paths: list[Path], as_json: bool) -> tuple[list[Path], list[str]]:
    """Verify the bundles among some paths, a line a cell; returns the other paths, and what is wrong with each bundle that is refused.

    Raises:
        PrerequisiteError: a path that is not there, before anything is scored.
    """
    from ...organisms.errors import PrerequisiteError, ValidationFailed

    for path in paths:
        if not path.exists():
            raise PrerequisiteError(f"there is no {path}; give run folders, packs or bundles")
    wrong = list[str]()
    for path in filter(is_bundle, paths):
        try:
            _verify_bundle(path, as_json)
        except ValidationFailed as error:
            wrong.append(str(error))
            if as_json:
                say(json.dumps({"bundle": str(path), "ok": False, "why": str(error)}))
    return [p for p in paths if not is_bundle(p)], wrong


def _verify_bundle(path: Path, as_json: bool) -> None:
    """Raises `ValidationFailed` for a bundle that is refused, or a cell that does not score what it says."""
    from ...organisms.errors import ValidationFailed
    from .bundle import open_bundle
    from .verification import verify_bundle

    bundle, lines = open_bundle(path), 0
    bad = list[str]()
    with silenced(False):
        for cell in verify_bundle(bundle):
            say(json.dumps({"bundle": str(path), **cell.data()}) if as_json else cell.line)
            lines += 1
            bad += [] if cell.ok else [cell.cell.name]
    if bad:
        said = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise ValidationFailed(
            f"{path}: {len(bad)} of {lines} cells do not say what their findings score ({said}); run those cells again"
        )
    if not as_json:
        say(
            f"{path}: all {lines} cells verified; that {bundle.manifest.card.name} found them was not seen (docs/reliability.md)"
        )
