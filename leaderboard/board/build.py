"""From a folder of runs to files: load, tabulate, render, write. The command line only prints what comes back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from ...harness.files import atomic_write_text
from ...harness.records.result import Result
from ...methods.catalogue import BUILTIN
from ...organisms.errors import PrerequisiteError, ValidationFailed, unknown
from ..pages.latex import to_latex
from ..pages.site import to_html
from ..pages.text_formats import to_csv, to_markdown
from ..statistics.power import Components, components
from ..statistics.rows import SORT_KEY, Table
from ..statistics.tables import DRAWS, build_table
from .store import Loaded, Problem, load_results

RENDERERS: Mapping[str, Callable[[Table, Sequence[Problem]], str]] = {
    "md": lambda table, problems: to_markdown(table, problems),
    "tex": lambda table, _: to_latex(table),
    "csv": lambda table, _: to_csv(table),
    "html": lambda table, problems: to_html(table, problems),
}


@dataclass(frozen=True)
class Built:
    """What `build` wrote and read."""

    paths: tuple[Path, ...]
    """In the order of the formats asked for."""
    table: Table
    problems: tuple[Problem, ...]
    """Files that were left out, with their reasons: print them."""

    @property
    def overall(self) -> pd.DataFrame:
        """One row per method."""
        return self.table.overall_frame()


def build(
    runs: Path,
    out: Path,
    formats: Sequence[str] = tuple(RENDERERS),
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
    method_seeds: Sequence[int] | None = None,
) -> Built:
    """Write `leaderboard.<format>` into `out` for each format of md, tex, csv, html; see `tabulate` for the rest.

    Everything is rendered before anything is written, and each file is replaced in one step.

    Raises:
        UsageError: an unknown format.
        PrerequisiteError, MixedResultsError: from `load_results` and `build_table`.
    """
    for name in formats:
        if name not in RENDERERS:
            raise unknown("format", name, list(RENDERERS))
    table, problems = tabulate(runs, organisms, organism_set, draws, seed, method_seeds=method_seeds)
    texts = {out / f"leaderboard.{name}": RENDERERS[name](table, problems) for name in formats}
    for path, text in texts.items():
        atomic_write_text(path, text)
    return Built(tuple(texts), table, problems)


def markdown(
    runs: Path,
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
    method_seeds: Sequence[int] | None = None,
) -> str:
    """The tables as `leaderboard.md` would hold them, nothing written. Raises as `build` does."""
    return to_markdown(*tabulate(runs, organisms, organism_set, draws, seed, method_seeds=method_seeds))


def tabulate(
    runs: Path,
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
    key: str = SORT_KEY,
    method_seeds: Sequence[int] | None = None,
) -> tuple[Table, tuple[Problem, ...]]:
    """The table of every run below a folder (or of these method seeds), sorted and compared by the score `key`, and the files left out.

    `seed` is the bootstrap's; see `build_table` for the rest.
    """
    loaded = _load(runs, method_seeds)
    known = settled(loaded.results)
    return build_table(loaded.results, organisms, organism_set, draws, seed, key, known), loaded.problems


def settled(results: Iterable[Result]) -> frozenset[str]:
    """Methods that draw nothing, as their records say, or the built-in method where they do not."""
    said: dict[str, set[bool | None]] = {}
    for r in results:
        said.setdefault(r.identity.method, set()).add(r.provenance.stochastic)
    return frozenset(m for m, answers in said.items() if not any(_built_in(m) if a is None else a for a in answers))


def _built_in(method: str) -> bool:
    """Whether a method draws anything; one that is not built in may."""
    return BUILTIN[method].stochastic if method in BUILTIN else True


def power(
    runs: Path,
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    score: str = SORT_KEY,
    method_seeds: Sequence[int] | None = None,
) -> tuple[Components, tuple[Problem, ...]]:
    """Variance components of a score over every run below a folder (or of these method seeds), and the files left out."""
    loaded = _load(runs, method_seeds)
    return components(loaded.results, organisms, organism_set, score), loaded.problems


def _load(runs: Path, method_seeds: Sequence[int] | None) -> Loaded:
    """Every usable result below a folder, or those of some method seeds.

    Raises:
        ValidationFailed: there are files, and none can be used.
        PrerequisiteError: no result has one of the seeds.
    """
    loaded = load_results(runs)
    if not loaded.results and loaded.problems:
        first = loaded.problems[0]
        raise ValidationFailed(f"none of {len(loaded.problems)} result files can be used; {first.path}: {first.reason}")
    if method_seeds is None:
        return loaded
    kept = tuple(r for r in loaded.results if r.identity.seeds["method"] in method_seeds)
    if not kept:
        there = sorted({r.identity.seeds["method"] for r in loaded.results})
        raise PrerequisiteError(
            f"no result has method seed {', '.join(map(str, method_seeds))}; there are {', '.join(map(str, there))}"
        )
    return replace(loaded, results=kept)
