"""From a bundle to the board: what verifies is added to the packs, and who verified it, where and with what is written beside them.

A board is a folder of packs (`leaderboard/published`). Of each submission it holds `submissions/NAME.json`; the note is written last, so
that an addition which was interrupted is finished by the same command.
"""

import platform
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ...harness.files import atomic_write_text
from ...harness.records.identity import Amount, Count, Hash, Line, Name, Record, Said
from ...harness.records.loading import load_result
from ...harness.records.result import Result
from ...harness.runs.packs import pack, reason
from ...harness.runs.provenance import cpu_name, git_state, package_versions
from ...harness.runs.records import FINDINGS_FILE
from ...harness.runs.verify import TOLERANCE
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.files import MOST_YAML, read_text
from ...organisms.sets import members, sets
from ..board.keep import Keep
from ..board.store import load_results
from .bundle import Bundle, BundleError
from .card import MethodCard
from .cells import SubmittedCell
from .check import MEASURED, check
from .verification import CheckedCell, score_again

FOLDER = "submissions"
ANCHORS = ("oracle", "random")
"""Rows that a table puts a method between."""


class Verified(Record):
    """Who scored a bundle again, where and with what."""

    by: Said = Field(min_length=1, max_length=200)
    at_utc: Line
    diffbench: Line
    git: dict[str, Any] | None
    """Commit of the source, and whether it was changed."""
    packages: dict[str, str]
    platform: Line
    cpu: Line
    tolerance: Amount
    cells: Count
    """Cells whose findings were scored again."""
    without_scores: Count
    """Cells that failed and count as null."""
    values: Count
    """Values compared."""


class Submission(Record):
    """What a board says of a method of somebody else's."""

    card: MethodCard
    bundle_sha256: Hash
    """Of its manifest, which names every byte."""
    organism_set: Name | None
    seen_in_development: list[Name]
    """Organisms of the bundle that its card says were seen while the method was made."""
    cells: list[Hash]
    """Ids of its records."""
    notes: list[Said] = Field(default_factory=list[Said])
    """What a reader should know."""
    verified: list[Verified] = Field(min_length=1)
    """Every time that it was, the first one first."""


def submissions(board: Path) -> dict[str, Submission]:
    """What a board knows of submissions, by method.

    Raises:
        ValidationFailed: a damaged note.
    """
    found = dict[str, Submission]()
    for path in sorted((board / FOLDER).glob("*.json")):
        try:
            note = Submission.model_validate_json(read_text(path, MOST_YAML * 8))
        except (ValidationError, OSError, ValueError) as error:
            raise ValidationFailed(f"{path}: {reason(error)}; restore it, or add the bundle again") from error
        found[note.card.name] = note
    return found


def add(bundle: Bundle, board: Path, by: str, tell: Callable[[CheckedCell], None], scratch: Path) -> Submission:
    """Score every cell again, and add the bundle to a board if all agree.

    Args:
        tell: called with each cell.
        scratch: where the cells are unpacked.

    Raises:
        BundleError: a name that is taken, a board without the anchors that the row stands between, a cell that does not verify; nothing
            was written then.
    """
    if not board.is_dir():
        raise PrerequisiteError(f"there is no board {board}; give the folder of packs, --board leaderboard/published")
    known, on_board = submissions(board), load_results(board, Keep()).results
    _check_name(bundle, known)
    submitted = check(bundle, scratch)
    _check_taken(bundle, known, {c.id for c in submitted}, on_board)
    _check_anchors(bundle, submitted, on_board)
    cells, bad = list[CheckedCell](), list[CheckedCell]()
    for checked in score_again(submitted):
        tell(checked)
        cells.append(checked)
        bad += [] if checked.ok else [checked]
    if bad:
        raise BundleError(
            bundle.path,
            bad[0].cell.name,
            f"{len(bad)} of {len(cells)} cells do not verify, first: {bad[0].detail}",
            "nothing was added; run those cells again",
        )
    results = [load_result(c.cell.folder / "result.json") for c in cells]
    note = _note(bundle, cells, [*_one_seed(cells), *_copies(results, on_board)], by)
    if before := known.get(note.card.name):
        note.verified[:0] = before.verified
    files = {r.id: c.cell.folder / FINDINGS_FILE for r, c in zip(results, cells, strict=True)}
    pack(results, board, {id_: file.read_bytes() for id_, file in files.items() if file.is_file()})
    atomic_write_text(board / FOLDER / f"{note.card.name}.json", note.model_dump_json(indent=1) + "\n")
    return note


def _check_name(bundle: Bundle, known: dict[str, Submission]) -> None:
    """Refuse a name that another submission has, before anything is scored."""
    card = bundle.manifest.card
    if (there := known.get(card.name)) is not None and there.bundle_sha256 != bundle.sha256:
        raise BundleError(
            bundle.path,
            "card.name",
            f"{card.name!r} is taken: by another bundle ({there.bundle_sha256[:12]}) of {', '.join(there.card.authors)}",
            f"give the method another name, such as {card.name}_2, with `supersedes: {card.name}` if it is yours",
        )
    if card.supersedes is not None and card.supersedes not in known:
        raise BundleError(
            bundle.path, "card.supersedes", f"{card.supersedes!r} is no submission on this board", "mend the card"
        )


def _check_taken(
    bundle: Bundle, known: dict[str, Submission], ours: Collection[str], on_board: Sequence[Result]
) -> None:
    """Refuse a name that rows of the board have which came in without a note."""
    name = bundle.manifest.card.name
    if name in known:
        return
    for result in on_board:
        if result.identity.method == name and result.id not in ours:
            raise BundleError(
                bundle.path,
                "card.name",
                f"{name!r} is taken: the board has a record of it that is not in the bundle ({result.id[:12]})",
                "give the method another name and run it again",
            )


def _check_anchors(bundle: Bundle, cells: Sequence[SubmittedCell], on_board: Sequence[Result]) -> None:
    """A row stands between the random directions and the oracle of the same measurement, its failed cells too."""
    anchors = {(r.identity.organism, r.identity.method): r.identity for r in on_board if r.status == "ok"}
    for cell in cells:
        i = cell.identity
        is_null = i.organism.startswith("null/")
        for method in ANCHORS[is_null:]:
            anchor = anchors.get((i.organism, method))
            again = f"bench run -m {','.join(ANCHORS[is_null:])} -o {i.organism} and `bench results pack`"
            if anchor is None:
                raise BundleError(
                    bundle.path, cell.name, f"the board has no {method} of {i.organism}: an anchor is missing", again
                )
            for field in MEASURED:
                if getattr(anchor, field) != getattr(i, field):
                    said = f"{field} is not that of the board's {method}: they were measured on other things"
                    raise BundleError(
                        bundle.path, f"{cell.name}: identity", said, f"run the cell with this version, or {again}"
                    )


def _copies(results: Sequence[Result], on_board: Sequence[Result]) -> list[str]:
    """Cells that score, prompt by prompt, exactly what a cell of another method does: findings that were copied, or none."""
    theirs = {(r.identity.organism, r.samples.model_dump_json()): r for r in on_board if r.samples}
    said = list[str]()
    for r in results:
        other = theirs.get((r.identity.organism, r.samples.model_dump_json())) if r.samples else None
        if other is not None and other.identity.method != r.identity.method:
            seed = r.identity.seeds["method"]
            said.append(
                f"{r.identity.organism} seed {seed} scores exactly, prompt by prompt, what {other.identity.method} does"
            )
    return said


def _one_seed(cells: Sequence[CheckedCell]) -> list[str]:
    """That a row stands on one seed, where no other was asked for."""
    if len({c.cell.seed for c in cells}) > 1:
        return []
    return ["stands on one seed: that another gives the same findings is its author's word"]


def _note(bundle: Bundle, cells: Sequence[CheckedCell], notes: list[str], by: str) -> Submission:
    card, organism_set = bundle.manifest.card, bundle.manifest.organism_set
    developed = {
        o
        for name in card.developed_on
        for o in (members(name) if name in sets() and sets()[name].organisms else [name])
    }
    on = sorted({c.cell.identity.organism for c in cells})
    now = Verified(
        by=by,
        at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        diffbench=version("diffbench"),
        git=git_state(),
        packages=package_versions(),
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cpu=cpu_name(),
        tolerance=TOLERANCE,
        cells=sum(c.outcome == "agrees" for c in cells),
        without_scores=sum(c.outcome == "no scores" for c in cells),
        values=sum(c.values for c in cells),
    )
    return Submission(
        card=card,
        bundle_sha256=bundle.sha256,
        organism_set=organism_set,
        seen_in_development=[o for o in on if o in developed],
        cells=sorted(c.cell.id for c in cells),
        notes=notes,
        verified=[now],
    )
