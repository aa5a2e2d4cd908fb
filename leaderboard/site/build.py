"""From places that hold records to a folder of pages: gather, render page by page, and put the whole in place at once."""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...harness.escape import plain
from ...harness.files import public_mode
from ...organisms.errors import UsageError, ValidationFailed
from ..board.build import Ask, asked, check_complete, tabulated
from ..board.private import with_private
from ..lineup import page as lineups
from ..pages.site import MOST_PANELS, curves_of
from ..statistics.rows import Table
from . import facts, overall
from .assets import assets
from .cell import cell
from .compare import compared
from .facts import MOST_CELLS, Board
from .links import Page, root
from .method import method
from .organism import organism

WRITTEN = "assets/files.txt"
"""The files of a site, a line each: a folder that holds these and no others is one of ours, which a new one may take the place of."""
SECTIONS = (
    ("Leaderboard", "index.html"),
    ("Organisms", "organisms.html"),
    ("Compare", "compare.html"),
    ("Claims", "claims.html"),
    ("Tiers", "tiers.html"),
    ("Beside the scores", "findings.html"),
    ("Cost and gaps", "records.html"),
    ("Line-ups", lineups.PATH),
)


@dataclass(frozen=True)
class Built:
    """What `site` wrote and read."""

    out: Path
    pages: int
    bytes: int
    table: Table
    notes: Sequence[str]
    """What could not be used, and which pages were left out."""


def site(
    sources: Sequence[Path],
    out: Path,
    ask: Ask | None = None,
    most_cells: int = MOST_CELLS,
    collect: bool = False,
    use_cache: bool = True,
    strict: bool = False,
    tell: Callable[[str], None] = lambda what: None,
) -> Built:
    """Write the pages of every record in some places; the same records and reports give the same bytes.

    Args:
        most_cells: pages of records at most; beyond, one a method and organism, and beyond that none.
        collect: look at the findings of run folders that nobody has looked at: about ten seconds each.
        use_cache: whether reports are taken from the cache, and kept there.
        strict: refuse a table that lacks a cell or an anchor, or from which a record was left out.

    Raises:
        UsageError: `out` holds something else than a site, or beside one. PrerequisiteError: no itables.
        ValidationFailed: not as `strict` wants it, or two pages have one path.
        Others as `board.build.tabulate`.
    """
    _check_out(out)
    shared = assets()
    board = gathered(sources, ask or Ask(), most_cells, collect, use_cache, tell)
    if strict:
        check_complete(board.table)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, text in shared.items():
            _write(scratch, f"assets/{name}", text)
        pages = sum(_write(scratch, page.path, rendered(page)) for page in every_page(board, tell))
        _write(scratch, WRITTEN, "".join(f"{name}\n" for name in sorted({WRITTEN, *_files(scratch)})))
        size = sum((scratch / name).stat().st_size for name in _files(scratch))
        scratch.chmod(0o777 & (public_mode() | 0o111))
        _replace(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Built(out, pages, size, board.table, [*board.notes, *([board.rule] if "at most" in board.rule else [])])


def gathered(
    sources: Sequence[Path], ask: Ask, most_cells: int, collect: bool, use_cache: bool, tell: Callable[[str], None]
) -> Board:
    """Everything that pages say."""
    loaded = asked(sources, ask)
    table = with_private(tabulated(loaded, ask), loaded.every, sources)
    cells = [c for row in table.cells for c in row.cells]
    reports, notes = facts.reports(cells, sources, use_cache, collect, tell)
    judged, unused = lineups.gathered(sources)
    return Board(table, loaded, ask, most_cells, reports, _submissions(sources), [*notes, *unused], judged)


def _submissions(sources: Sequence[Path]) -> dict[str, Any]:
    """What is known of methods of others, where a source is a board."""
    boards = [s for s in sources if (s / "submissions").is_dir()]
    if not boards:
        return {}
    from ..submissions.board import submissions

    return {name: note for b in boards for name, note in submissions(b).items()}


def every_page(board: Board, tell: Callable[[str], None] = lambda what: None) -> Iterator[Page]:
    """All pages, those of records organism by organism, so that one pack after another is read."""
    parts = [*overall.parts(board)]
    yield from overall.overall(board, parts)
    yield overall.organisms(board)
    yield from compared(board)
    yield overall.claims(board)
    yield overall.tiers(board, parts)
    yield overall.findings(board)
    yield overall.records(board)
    yield lineups.lineups(board.lineups)
    drawn: dict[str, dict[str, Markup]] = {m: {} for m in board.methods}
    draws = len(board.table.cells) <= MOST_PANELS
    for name, rows in board.rows.items():
        tell(f"pages of {name}")
        panels = {m: Markup(curves_of(row)) if draws else Markup() for m, row in rows.items()}
        yield organism(board, name, panels)
        for m, row in rows.items():
            drawn[m][name] = panels[m]
            yield from (cell(board, row, c, c.result) for c in row.cells if c.id in board.paged)
    for row in board.table.overall:
        yield method(board, row, parts, drawn[row.method])


def rendered(page: Page) -> str:
    """A page as HTML."""
    told = {"sections": SECTIONS, "root": root(page.path), "page": page, **page.told}
    return _environment().get_template(page.template).render(told) + "\n"


@functools.cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Text with its controls written out, before it is escaped."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _write(folder: Path, name: str, text: str) -> int:
    path = folder / name
    if path.exists():
        raise ValidationFailed(
            f"two pages of the site would be {name}, so none was written; give one of the two methods or organisms another name"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 1


def _files(folder: Path) -> Iterator[str]:
    """All that is no folder, relative to it."""
    return (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def _check_out(out: Path) -> None:
    """Refuse to put a site in the place of something else, or of a folder that holds something beside a site."""
    written = (out / WRITTEN).read_text(encoding="utf-8").splitlines() if (out / WRITTEN).is_file() else []
    if out.exists() and not (out.is_dir() and (written or not any(out.iterdir()))):
        raise UsageError(
            f"{out} is there and holds no site, so nothing was written over it; choose another folder with --out, or move it away"
        )
    if others := sorted({*_files(out)} - {*written}):
        raise UsageError(
            f"{out} holds {others[0]}, which is not of the site there and would be gone with it, so nothing was written; move it away, or "
            f"choose another folder with --out ({len(others)} such files in all)"
        )


def _replace(new: Path, out: Path) -> None:
    """Put a whole folder in the place of an older one, which is gone only when the new one stands."""
    if not out.exists():
        os.rename(new, out)
        return
    old = new.with_name(f"{new.name}.old")
    os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
