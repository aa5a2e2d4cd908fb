"""From places that hold records to files: load, tabulate, render, write. The command line only prints what comes back."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from ...harness.files import atomic_write_text
from ...harness.records.result import Result
from ...methods.catalogue import BUILTIN
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed, unknown
from ..pages.data import to_csv, to_json
from ..pages.latex import to_latex
from ..pages.site import to_html
from ..pages.text_formats import to_markdown
from ..statistics.power import Components, components
from ..statistics.rows import SORT_KEY, Problem, Table, count
from ..statistics.tables import DRAWS, build_table
from .cell import Cell
from .keep import Keep
from .private import with_private
from .store import Loaded, load, narrowed

NAME = "leaderboard"
Files = Mapping[str, str]
"""File name → text."""
RENDERERS: Mapping[str, Callable[[Table], Files]] = {
    "md": lambda table: {f"{NAME}.md": to_markdown(table)},
    "tex": lambda table: {f"{NAME}{name}.tex": text for name, text in to_latex(table).items()},
    "csv": lambda table: {f"{NAME}{name}.csv": text for name, text in to_csv(table).items()},
    "html": lambda table: {f"{NAME}.html": to_html(table)},
    "json": lambda table: {f"{NAME}.json": to_json(table)},
}


@dataclass(frozen=True)
class Ask:
    """What a table is to stand on."""

    organisms: Sequence[str] | None = None
    """The set, whole; None: every organism that is found."""
    organism_set: str = "as found"
    """What it is called."""
    method_seeds: Collection[int] | None = None
    tiers: Collection[str] | None = None
    layer: int | None = None
    """Only cells of these; None: of all."""
    key: str = SORT_KEY
    """The score to sort and compare by."""
    draws: int = DRAWS
    seed: int = 0
    """Of the bootstrap."""
    pairs: bool = False
    """Whether pairs of methods are compared."""
    keep: Keep = field(default_factory=Keep)


@dataclass(frozen=True)
class Built:
    """What `build` wrote and read."""

    paths: tuple[Path, ...]
    """In the order of the formats asked for."""
    table: Table

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Files that were left out, with their reasons: print them."""
        return self.table.problems

    @property
    def overall(self) -> pd.DataFrame:
        """One row per method."""
        return self.table.overall_frame()


def build(
    sources: Path | Sequence[Path],
    out: Path,
    formats: Sequence[str] = tuple(RENDERERS),
    ask: Ask | None = None,
    strict: bool = False,
) -> Built:
    """Write the files of each format into `out`; the same records give the same bytes, in whatever order and from however many places.

    Everything is rendered before anything is written, and each file is replaced in one step.

    Args:
        strict: refuse a table that lacks a cell or an anchor, or from which a record was left out.

    Raises:
        UsageError: an unknown format. ValidationFailed: not as `strict` wants it; no file was written.
        Others as `tabulate`.
    """
    check_format(formats, list(RENDERERS))
    table = tabulate(sources, ask)
    if strict:
        check_complete(table)
    texts = {out / file: text for name in formats for file, text in RENDERERS[name](table).items()}
    for path, text in texts.items():
        atomic_write_text(path, text)
    return Built(tuple(texts), table)


def check_complete(table: Table) -> None:
    """Refuse a table from which anything was left out, or that lacks cells or anchors: `ValidationFailed` with the first of each."""
    wrong = [f"{p.path}: {p.reason}" for p in table.problems] + [f"{m.reason}: {m.command}" for m in table.missing]
    if wrong:
        raise ValidationFailed(
            f"{count(len(table.problems), 'record')} cannot be used and {count(len(table.missing), 'command')} would make what is missing; "
            f"first: {wrong[0]}. Nothing was written; leave --strict away for a table without them"
        )


def markdown(sources: Path | Sequence[Path], ask: Ask | None = None) -> str:
    """The tables as `leaderboard.md` would hold them, nothing written. Raises as `build` does."""
    return to_markdown(tabulate(sources, ask))


def tabulate(sources: Path | Sequence[Path], ask: Ask | None = None) -> Table:
    """The table of every record in some places, sorted and compared by a score, with what was left out.

    Raises:
        PrerequisiteError, ValidationFailed, MixedResultsError: from `load` and `build_table`.
    """
    ask = ask or Ask()
    loaded = asked(sources, ask)
    return with_private(tabulated(loaded, ask), loaded.every, [sources] if isinstance(sources, Path) else sources)


def tabulated(loaded: Loaded, ask: Ask) -> Table:
    """The table of cells that were loaded, without scores on private sets; raises as `build_table`."""
    return replace(
        build_table(
            loaded.cells,
            ask.organisms,
            ask.organism_set,
            ask.draws,
            ask.seed,
            ask.key,
            settled(loaded.cells),
            pairs=ask.pairs,
            keep=ask.keep,
        ),
        problems=loaded.problems,
        set_aside=loaded.set_aside,
    )


def settled(results: Iterable[Result | Cell]) -> frozenset[str]:
    """Methods that draw nothing: built-in ones as the catalogue has it, others as every record of theirs says."""
    said: dict[str, set[bool | None]] = {}
    for r in results:
        stochastic = r.made.stochastic if isinstance(r, Cell) else r.provenance.stochastic
        said.setdefault(r.identity.method, set()).add(stochastic)
    return frozenset(
        m for m, answers in said.items() if (not BUILTIN[m].stochastic if m in BUILTIN else answers == {False})
    )


def power(sources: Path | Sequence[Path], ask: Ask | None = None) -> tuple[Components, tuple[Problem, ...]]:
    """Variance components of a score over every record in some places, and the files left out."""
    ask = ask or Ask()
    loaded = asked(sources, ask)
    return components(loaded.cells, ask.organisms, ask.organism_set, ask.key), loaded.problems


def asked(sources: Path | Sequence[Path], ask: Ask) -> Loaded:
    """Every usable cell in some places, or those that were asked for.

    Raises:
        ValidationFailed: there are files, and none can be used.
        PrerequisiteError: no cell is of what was asked for.
    """
    loaded = load([sources] if isinstance(sources, Path) else sources, ask.keep)
    if not loaded.cells and loaded.problems:
        first = loaded.problems[0]
        raise ValidationFailed(f"none of {len(loaded.problems)} result files can be used; {first.path}: {first.reason}")
    loaded = _only(loaded, "method seed", ask.method_seeds, lambda c: c.identity.seeds["method"])
    loaded = _only(loaded, "tier", ask.tiers, lambda c: c.identity.tier)
    return _only(loaded, "layer", None if ask.layer is None else [ask.layer], lambda c: c.identity.layer)


def _only(loaded: Loaded, what: str, wanted: Collection[object] | None, value: Callable[[Cell], object]) -> Loaded:
    if wanted is None:
        return loaded
    kept = narrowed(loaded, lambda c: value(c) in wanted)
    if not kept.cells:
        there = sorted({str(value(c)) for c in loaded.cells})
        raise PrerequisiteError(f"no result has {what} {', '.join(map(str, wanted))}; there are {', '.join(there)}")
    return kept


def check_format(names: Sequence[str], known: Sequence[str]) -> None:
    """Raises `UsageError` for a format that there is not."""
    for name in names:
        if name not in known:
            raise unknown("format", name, known)
    if not names:
        raise UsageError(f"--format names nothing; formats: {', '.join(known)}")
