"""Which of several records of one cell counts, and which records may stand in one table at all.

The rule, in its order: the published settings before any others; on one organism the measurement (weights, prompts, random controls)
that was used last by a cell that did not fail; of one cell the source that ran it last; of one record with two outcomes, the one of the
place named first. What loses is said, never dropped in silence. What was chosen on purpose (layer, precision,
sinks) is not chosen here: that is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ...harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION, sha256_json
from ...harness.records.result import FINISHED, Result
from ...methods.registry import GIVEN, is_given
from ...organisms.errors import ValidationFailed
from ..statistics.rows import Problem, SetAside
from .cell import Cell

RULE = (
    "Of several records of one cell the newest counts: on one organism those of the weights, prompts and random controls that were used "
    "last by a cell that did not fail, and of those the source that ran last."
)


class MixedResultsError(ValidationFailed):
    """Records that cannot stand in one table: the message names the two values, where they are and what to do."""


def resolve(cells: Sequence[Cell]) -> tuple[list[Cell], list[SetAside], list[Problem]]:
    """The cells that count, those that another one stands for, and those of another protocol."""
    kept, problems = _one_protocol(cells)
    kept, old = _newest(kept, _place, _measurement, "made on other weights, prompts or controls", finished_first=True)
    kept, older = _newest(
        kept, _same_cell, lambda c: (c.identity.code_sha256, c.identity.method_version), "made by other source"
    )
    return kept, [*old, *older], problems


def _one_protocol(cells: Sequence[Cell]) -> tuple[list[Cell], list[Problem]]:
    """The published one where it is there; several others are left to be refused."""
    published = [c for c in cells if c.identity.protocol_sha256 == PROTOCOL_SHA256]
    if not published or len(published) == len(cells):
        return list(cells), []
    said = f"no {PROTOCOL_VERSION} as the others are; run it with the published settings, or build a table of such records alone"
    others = (c for c in cells if c.identity.protocol_sha256 != PROTOCOL_SHA256)
    return published, [
        Problem(c.where, f"identity.protocol is {c.identity.protocol!r} ({c.identity.protocol_sha256[:12]}), {said}")
        for c in others
    ]


def _newest(
    cells: Iterable[Cell],
    of: Callable[[Cell], object],
    version: Callable[[Cell], object],
    why: str,
    finished_first: bool = False,
) -> tuple[list[Cell], list[SetAside]]:
    """Of what `of` says is one thing, the cells of the version that holds the one that was made last.

    Args:
        finished_first: a cell that failed decides only where all did.
    """
    rank = partial(_rank, finished_first=finished_first)
    last: dict[object, Cell] = {}
    every = list(cells)
    for cell in every:
        best = last.setdefault(of(cell), cell)
        if rank(cell) > rank(best):
            last[of(cell)] = cell
    kept, aside = list[Cell](), list[SetAside]()
    for cell in every:
        best = last[of(cell)]
        if version(cell) == version(best):
            kept.append(cell)
        else:
            which = "is newer" if rank(cell)[0] == rank(best)[0] else "did not fail"
            said = (
                f"{why} than {cell_name(best)}, which {which} ({best.made.finished_utc}, was {cell.made.finished_utc})"
            )
            aside.append(SetAside(cell.where, cell_name(cell), said))
    return kept, aside


def _rank(cell: Cell, finished_first: bool) -> tuple[bool, str, str]:
    """A cell that failed decides nothing for those that were scored."""
    return finished_first and cell.status in FINISHED, cell.made.finished_utc, cell.id


def _place(cell: Cell) -> object:
    i = cell.identity
    return i.organism, i.layer, i.dtype, i.sinks


def _measurement(cell: Cell) -> object:
    i = cell.identity
    return i.organism_sha256, i.prompts_sha256, i.controls_sha256


def _same_cell(cell: Cell) -> object:
    """Everything of the identity but its source; another version of a method that is not ours is another method."""
    i = cell.identity
    theirs = "" if cell.made.method_origin == "built-in" or is_given(i.method_version) else i.method_version
    return sha256_json([i.organism, i.method, theirs, i.access, i.config, i.budget, i.seeds, i.layer, i.dtype, i.sinks])


def sort_key(result: Result | Cell) -> tuple[str, str, list[tuple[str, int]], str]:
    """The order results have everywhere: organism, method, seeds, id."""
    identity = result.identity
    return identity.organism, identity.method, sorted(identity.seeds.items()), result.id


def check_comparable(results: Sequence[Result | Cell]) -> None:
    """Refuse records that measured different things.

    All must share a protocol; all records of one organism must share its weights, prompts, random controls, layer, dtype and
    sinks; one cell cannot count twice because the source, or a file of findings, changed between two runs of it.

    Raises:
        MixedResultsError: with both values, a cell for each, and what to do.
    """
    common: dict[str, tuple[str, Result | Cell]] = {}
    for result in results:
        identity = result.identity
        where = f"organism {identity.organism!r}: "
        same = sha256_json([identity.config, identity.budget, identity.seeds])[:8]
        cell = f"{identity.method} on {identity.organism} with one set of options and seeds ({same}): "
        given = [identity.method_version.removeprefix(GIVEN)] if is_given(identity.method_version) else []
        protocol = f"{identity.protocol} {identity.protocol_sha256}"
        for scope, what, value in (
            ("", "protocol", protocol),
            (where, "layer", str(identity.layer)),
            (where, "dtype", identity.dtype),
            (where, "sinks", str(identity.sinks)),
            (where, "weights", identity.organism_sha256),
            (where, "prompts", identity.prompts_sha256),
            (where, "random controls", str(identity.controls_sha256)),
            (cell, "source", identity.code_sha256),
            *((cell, "findings file", sha256) for sha256 in given),
        ):
            other, example = common.setdefault(scope + what, (value, result))
            if other != value:
                raise MixedResultsError(
                    f"{scope}results with {what} {other[:20]} and {value[:20]} cannot be mixed in one table "
                    f"(for example {cell_name(example)} and {cell_name(result)}). {FIX.get(what, SEPARATE)}"
                )


SEPARATE = "Keep them in separate folders and build one table for each, or run the older cells again."
FIX = {
    "layer": "Choose one with --layer N (`bench leaderboard`), or keep them in separate folders.",
}


def cell_name(result: Result | Cell) -> str:
    """Where the record lies in a run folder: `organism/method/id12`."""
    return f"{result.identity.organism}/{result.identity.method}/{result.id[:12]}"
