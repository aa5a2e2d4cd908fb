"""Runs methods on a pair that nobody knows, as `bench run` does up to the score: same text, same budget, a process of their own."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import BaseModel

from ...methods.contract import DiffResult, check_findings
from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError, UsageError, ValidationFailed
from ...organisms.organism import Organism
from ..cache import Cache
from ..devices import trouble
from ..pairs.pair import Pair
from ..records.making import Cost
from ..records.reading import prompts_sha256, text_read
from ..runs.cell import Cell, Clock, peak_rss_bytes
from ..runs.folder import run_folder
from ..runs.stage import Stage, left_out
from ..worker.host import Usage, run_method
from .record import DIFF, Diff, What, id_of, packed, read, write

log = logging.getLogger(__name__)
DEFAULT = ("mean_diff", "pca", "logit_diff")
"""Methods that take seconds; those that are named run as well."""
TROUBLE = (DiffbenchError, MemoryError, RuntimeError)
"""What may be `trouble`, which does not stop the other methods."""
UNNAMED = "pair"
"""What every pair is called where its name is not to count."""
MOST_UNKNOWN = 0.1
"""Share of tokens that a tokenizer does not know, above which text is not text to it."""
LOOKED_AT = 50
"""Texts of each kind by which that is judged."""


@dataclass(frozen=True)
class Done:
    """What became of one method."""

    method: str
    folder: Path | None
    """None: it failed."""
    error: DiffbenchError | None = None
    before: bool = False
    """Whether it was there already."""
    stage: Stage | None = None
    """The pair, loaded, for who looks at the findings; None: it failed."""


def check_methods(methods: Sequence[tuple[MethodEntry, BaseModel]]) -> None:
    """Refuse methods that need what is not known.

    Raises:
        UsageError: a method that reads labels of the behaviour, or an anchor of the scores.
    """
    for entry, _ in methods:
        if entry.access == "supervised":
            raise UsageError(
                f"{entry.name} learns from labels of a known behaviour, and here there is none; leave it out"
            )
        if entry.access == "anchor":
            raise UsageError(f"{entry.name} is an anchor of the scores, and here nothing is scored; leave it out")


def diff(
    cells: Sequence[Cell],
    out: Path,
    cache: Cache | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda what: None,
    log_text: Callable[[], str] = str,
) -> Iterator[Done]:
    """Run each method of some cells, all on one pair, which is loaded once; one that fails does not stop the others.

    Raises:
        PairError: models that do not belong together. ValidationFailed: text that is none to their tokenizer.
    """
    stage: Stage | None = None
    for cell in cells:
        if stage is None:
            tell("loading the pair")
            stage = Stage.load(cell.organism, cell.machine, drops=cell.drops, cache=cache)
            check_text(stage)
        what = what_of(cell, stage.pair)
        folder = run_folder(out, what.pair, what.method, id_of(what))
        if not overwrite and (folder / DIFF).is_file():
            read(folder)
            yield Done(cell.method.row, folder, before=True, stage=stage)
            continue
        tell(f"running {cell.method.row}")
        try:
            folder = _run(cell, stage, what, out, tell, log_text)
        except TROUBLE as error:
            if (known := trouble(error, cell.machine.device)) is None:
                raise
            log.error("%s failed", cell.method.row, exc_info=error)
            yield Done(cell.method.row, None, known)
            continue
        yield Done(cell.method.row, folder, stage=stage)


def what_of(cell: Cell, pair: Pair) -> What:
    """Everything that decides what a cell finds."""
    i = cell.identity(pair.layer)
    return What(
        pair=i.organism,
        organism_sha256=i.organism_sha256,
        texts_sha256=texts_sha256(cell.organism),
        method=i.method,
        method_version=i.method_version,
        access=i.access,
        code_sha256=i.code_sha256,
        config=i.config,
        layer=pair.layer,
        seed=cell.seed,
        budget=i.budget,
        dtype=i.dtype,
        sinks="drop" if cell.drops else "keep",
    )


def texts_sha256(organism: Organism) -> str:
    """Hash over the ordinary text and how it is shown to the models, whatever their folders are called."""
    unnamed = organism.behaviour.model_copy(update={"name": UNNAMED})
    return prompts_sha256(replace(organism, behaviour=unnamed))


def check_text(stage: Stage) -> None:
    """Refuse text that the tokenizer does not know, before a method reads it."""
    unknown = stage.pair.tokenizer.unk_token_id
    rows = [r for kind in ("neutral", "chat") for r in islice(stage.texts.rows(kind, "harvest"), LOOKED_AT)]
    tokens = [t for row in rows for t in row]
    share = sum(t == unknown for t in tokens) / max(1, len(tokens))
    if unknown is not None and share > MOST_UNKNOWN:
        raise ValidationFailed(
            f"{100 * share:.0f} % of the ordinary text is {stage.pair.tokenizer.unk_token} to this tokenizer, so nothing that is found "
            "in it would be of these models; name text in their language with --texts (docs/real-models.md)"
        )


def matches(diff: Diff, organism: Organism, where: Path) -> None:
    """Refuse a pair that is not the one of a diff.

    Raises:
        ValidationFailed: other models or other text.
    """
    here = {"organism_sha256": organism.sha256, "texts_sha256": texts_sha256(organism)}
    said = {"organism_sha256": "models are", "texts_sha256": "ordinary text is"}
    for name, found in here.items():
        if (there := getattr(diff.what, name)) != found:
            raise ValidationFailed(
                f"{where}: the {said[name]} not what it was made on ({there[:12]} there, {found[:12]} here); name the same models and "
                "--texts as then, or run `bench diff` again"
            )


def _run(
    cell: Cell, stage: Stage, what: What, out: Path, tell: Callable[[str], None], log_text: Callable[[], str]
) -> Path:
    """One method run and kept; raises as it fails."""
    started, cpu, clock = datetime.now(UTC), time.process_time(), Clock({"load": stage.load_s})
    usage = Usage()
    problem = cell.problem(stage, partial(_progress, tell))
    with clock.phase("diff"):
        found: DiffResult = check_findings(run_method(cell.method, cell.config, problem, usage), stage.pair.d_model)
    clock.phases |= {"harvest": problem.harvest_s + problem.spared_s, "start": usage.start_s}
    clock.phases["fit"] = max(0.0, clock.phases.pop("diff") - problem.harvest_s - usage.start_s)
    id_ = id_of(what)
    data = packed(found, id_, what.layer)
    diff = Diff(
        id=id_,
        what=what,
        findings=len(found.findings),
        findings_sha256=hashlib.sha256(data).hexdigest() if data else None,
        diagnostics={**found.diagnostics, "findings": [{"score": f.score, **f.evidence} for f in found.findings]},
        claims=found.claims,
        cost=Cost(
            wall_s=round(sum(clock.phases.values()), 3),
            cpu_s=round(time.process_time() - cpu + usage.cpu_s, 3),
            peak_rss_bytes=peak_rss_bytes() + usage.peak_rss_bytes,
            phases={k: round(v, 3) for k, v in clock.phases.items()},
            tokens=problem.tokens_used,
        ),
        provenance=cell.made(str(stage.pair.device), started),
        left_out=left_out(problem.left_out, stage.pair),
        text=text_read(problem.ended, problem.losses, stage.pair.tokenizer, stage.notes),
    )
    return write(out, diff, found, data, log_text())


def _progress(tell: Callable[[str], None], phase: str, done: int, total: int) -> None:
    """What a method is doing, once a phase."""
    if done == 0 and phase.startswith("harvest"):
        tell(f"  reading {phase.removeprefix('harvest ')} text")
