"""A method's code, run on purpose on a maintainer's private set; of that only a mean is written down.

The one idea: everything that could name an organism stays in two folders, the zoo and the runs, and both are refused where the next commit
could take them along. What is printed are numbers of cells. An error's own words, which may hold a name, go into a file among the runs.

The method runs in the worker as in any run: what that keeps from it, and what not, docs/trust.md says.
"""

import contextlib
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed

if TYPE_CHECKING:
    from ...harness.records.identity import Identity
    from ...harness.records.result import Result
    from ...harness.runs.run import Plan
    from ...methods.entry import MethodEntry
    from ...organisms.organism import Organism
    from ..board.private import PrivateScore

LABELLED = "supervised"
"""Decides which organisms count, as on the public board."""
LOG = "private.log"


def check_hidden(path: Path, what: str) -> None:
    """UsageError if `path` lies in a git work tree that does not ignore it."""
    path = path.resolve()
    tree = next((p for p in (path, *path.parents) if (p / ".git").exists()), None)
    if tree is None:
        return
    try:
        ignored = subprocess.run(["git", "-C", str(tree), "check-ignore", "-q", str(path)], capture_output=True)
    except OSError as error:
        raise PrerequisiteError(
            f"{what} {path} is in the git work tree {tree}, and git, which would say whether it is ignored, does not run: "
            f"{error.strerror}; move it out of the tree"
        ) from error
    if ignored.returncode != 0:
        raise UsageError(
            f"{what} {path} is in the git work tree {tree} and not ignored, so the next commit may publish it; move it out of the tree, or "
            "add it to .gitignore"
        )


def score_privately(
    method: str, zoo: Path, out: Path, seeds: Sequence[int], by: str, board: Path, tell: Callable[[str], None]
) -> "PrivateScore":
    """Run a method on every organism of a private zoo, and give what may be published of that.

    Args:
        method: a name of an installed method, or a file.
        out: where the run folders go; a cell that is finished there is not run again.
        board: packs in which the method has its public row.
        tell: is told how many cells there are and how they ended.

    Raises:
        UsageError: a folder that could be committed, or organisms that are published.
        PrerequisiteError: no zoo, no row of the method, too few organisms, or a run that stopped.
        ValidationFailed: other code than that of the row, or no headline.
    """
    check_hidden(zoo, "the private zoo")
    check_hidden(out, "the folder of private runs")
    entry = _loaded(method)
    with _unnamed(out), _zoo(zoo):
        plan, organisms = _planned(entry, zoo, out, seeds)
        first = plan.cells[0]
        ours = first.identity(first.organism.layer or 0)
    _check_row(ours, board)
    with _unnamed(out), _zoo(zoo):
        results = _run(plan, tell)
        return _summary(ours.row, organisms, results, out, by)


def _loaded(method: str) -> "MethodEntry":
    """A method; a file or a package is looked at in the worker."""
    from ...harness.worker.foreign import load

    return load(method)


def _planned(entry: "MethodEntry", zoo: Path, out: Path, seeds: Sequence[int]) -> "tuple[Plan, list[Organism]]":
    from ...harness.runs.run import plan
    from ...organisms.registry import SHIPPED, expand, load_organism, organism_names

    entries = [entry, *([] if entry.name == LABELLED else [_loaded(LABELLED)])]
    organisms = [load_organism(name, zoo) for name in expand(["all"], zoo)]
    there = set(organism_names(SHIPPED))
    published = [o for o in organisms if o.name in there and load_organism(o.name, SHIPPED, True).sha256 == o.sha256]
    if published:
        raise Said(
            UsageError(
                f"{len(published)} organisms of {zoo} are published ones; make a set of others (docs/submitting.md)"
            )
        )
    cells = plan(organisms, [(e, e.configure({})) for e in entries], seeds, out)
    return cells, organisms


def _check_row(ours: "Identity", board: Path) -> None:
    """The private score stands beside a public one, so both have to be of the same code, options, budget and precision."""
    from ...harness.runs.records import records
    from ..board.private import code_of

    name = ours.row
    rows = [r.result.identity for r in records(board, judge=False) if r.result and r.result.identity.row == name]
    if not rows:
        raise PrerequisiteError(
            f"{board} has no record of {name}, beside which its private score would stand; add it first"
        )
    if code_of(ours) not in {code_of(i) for i in rows}:
        raise ValidationFailed(
            f"code, options, budget and precision of {name} are not those of its records in {board} (version {ours.method_version[:20]}, "
            f"{ours.dtype} here, {rows[-1].method_version[:20]}, {rows[-1].dtype} there); run the file that was submitted"
        )


def _run(plan: "Plan", tell: Callable[[str], None]) -> "list[Result]":
    from ...harness.runs.run import Quiet, run
    from ...harness.terminal import collect_log

    log_text, results = collect_log(False), list["Result"]()
    tell(f"{len(plan.cells)} cells")
    for result in run(plan, Quiet(), log_text):
        results.append(result)
        tell(f"{len(results)} of {len(plan.cells)}: {result.status.replace('_', ' ')}")
    return results


def _summary(
    name: str, organisms: "Sequence[Organism]", results: "Sequence[Result]", out: Path, by: str
) -> "PrivateScore":
    from ...harness.records.identity import sha256_json
    from ...harness.records.result import FINISHED
    from ...harness.runs.provenance import git_state
    from ..board.build import Ask, tabulated
    from ..board.cell import Cell
    from ..board.keep import Keep
    from ..board.private import FEWEST, Mean, PrivateScore
    from ..board.store import Loaded

    names = [o.name for o in organisms]
    loaded = Loaded(
        tuple(Cell.of(r) for r in results), ()
    )  # of these alone: older runs of other seeds may lie beside them
    table = tabulated(loaded, Ask(names, "private", keep=Keep(on=False)))
    mine = [r for r in results if r.identity.row == name]
    row = next((r for r in table.overall if r.method == name), None)
    if row is None or row.scores["isolation"].value is None:
        ended = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in Counter(r.status for r in mine).items())
        raise Said(ValidationFailed(f"there is no mean of {name}: of its cells {ended}; see {out}"))
    if row.organisms < FEWEST:
        raise Said(
            ValidationFailed(
                f"{row.organisms} of {len(names)} organisms count in the mean, and fewer than {FEWEST} say too much of each; make a "
                "larger set"
            )
        )
    isolation, constant = (
        Mean(**row.scores[s]._asdict()) if row.scores[s].value is not None else None
        for s in ("isolation", "isolation_constant")
    )
    assert isolation is not None
    return PrivateScore(
        method=mine[0].identity.method,
        method_version=mine[0].identity.method_version,
        config=mine[0].identity.config,
        budget=mine[0].identity.budget,
        dtype=mine[0].identity.dtype,
        layers=sorted({r.identity.layer for r in mine}),
        protocol_sha256=mine[0].identity.protocol_sha256,
        isolation=isolation,
        isolation_constant=constant,
        organisms=row.organisms,
        seeds=len({r.identity.seeds["method"] for r in mine}),
        failed=sum(r.status not in FINISHED for r in mine),
        set_sha256=sha256_json(sorted(o.sha256 for o in organisms)),
        by=by,
        at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        diffbench=version("diffbench"),
        commit=str((git_state() or {}).get("commit") or "") or None,
    )


class Said(Exception):
    """An error whose words name no organism, so that they may be shown."""

    def __init__(self, error: DiffbenchError):
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _unnamed(out: Path) -> Generator[None, None, None]:
    """Keep an error's own words off the terminal, which may be a public log."""
    try:
        yield
    except Said as said:
        raise said.error from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"finished cells are kept in {out}; the same command goes on from here") from None
    except Exception as error:  # whatever it is, its words and its traceback may hold a name
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG).write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
        raise PrerequisiteError(f"the private run stopped ({type(error).__name__}); {out / LOG} says why") from None


@contextlib.contextmanager
def _zoo(zoo: Path) -> Generator[None, None, None]:
    """Let the zoo of this process be another one: what asks for an organism by name finds it there."""
    from ...organisms import registry

    if not zoo.is_dir():
        raise Said(PrerequisiteError("there is no such private zoo; `python -m benchmarks.private_set` makes one"))
    before, registry.ZOO = registry.ZOO, zoo
    try:
        yield
    finally:
        registry.ZOO = before
