"""A cell in little: the same functions on the same pair, with few controls, little text and a few steps, so that their pace is known.

The idea: nothing here knows how fast a pass or a step is, or what a method does. The cell itself is run on a little of everything, what it
asks for is counted, and its parts are timed; a method of somebody else's is rehearsed like one of ours, but in a process of its own.
"""

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch

from ...methods.coder.fitting import DictionaryConfig, rereads
from ...methods.contract import Batch, Budget, DiffProblem, DiffResult, Outputs, Text, check_findings
from ..cache import Kept
from ..protocol.controls import NULLS, TOGETHER, Place, blocks, groups
from ..protocol.discovery import CONTROLS, Panel
from ..runs.cell import Cell
from ..runs.harvest import Memory
from ..runs.problem import Problem, Written
from ..runs.stage import Stage, measure_controls, measured
from ..worker.host import Usage, run_method
from ..worker.servers import server

MOST_TOKENS, FEW_TOKENS, READ_S = 8192, 2048, 2.0
"""Tokens read of each text; fewer, but so many, where these take so many seconds. Answers are written many at a time, so all are read."""
TRAIN_S = 2.0
"""Seconds that training may take, as far as a method keeps to its budget."""
START_S = 0.05
"""Seconds that a process for a method takes to start (measured: docs/trust.md)."""
RESERVE = 0.9
"""Share of a budget of seconds that our methods train in."""
PANEL = 4
"""Controls of a null's panel."""


class Read(NamedTuple):
    """A text that a method asked for."""

    asked: int
    """Tokens it will be given: what it asked for within its budget, as far as the source has them."""
    given: int
    """Tokens it was given here."""
    seconds: float
    """What these took, without writing them."""
    written: Written
    """Of contrastive text: it is written in rounds, and a round is not read to its end."""

    @property
    def pace(self) -> float:
        """Seconds of reading a token."""
        return self.seconds / self.given if self.given else 0.0

    @property
    def wall_s(self) -> float:
        """Seconds of all that was asked for."""
        rounds = -(-self.asked // self.written.tokens) if self.written.tokens else 0
        return self.pace * self.asked + rounds * self.written.seconds


class Rehearsed:
    """A `DiffProblem` that gives a method a little of each text it asks for, and remembers how much that was."""

    def __init__(self, problem: Problem):
        self._problem, self._began = problem, time.perf_counter()
        self.asked: dict[Text, int] = {}
        self.given: dict[Text, int] = {}
        self.seconds: dict[Text, float] = {}
        self.kept_bytes = 0
        """Residuals that the method still held when a text was at its end."""
        self._read_until = 0.0
        self.reports: list[tuple[float, int, int]] = []
        """(seconds without reading, done, total) of the method's own progress, and after each text (…, 0, 0)."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    @property
    def budget(self) -> Budget:
        """The real one until a text has been read; from then on few seconds are left to train in."""
        real = self._problem.budget
        return Budget(real.tokens, (self._read_until + TRAIN_S) / RESERVE) if self.given else real

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """See `DiffProblem.activations`."""
        if start is not None and text in self.asked:
            yield from self._problem.activations(text, batch_tokens, self.given[text], start)
            return
        alive, held = [0], 0
        for batch in self._some(text, tokens, lambda n: self._problem.activations(text, batch_tokens, n, start)):
            size, held = batch.residuals.nbytes, max(held, batch.residuals.nbytes)
            alive[0] += size
            weakref.finalize(batch.residuals, partial(_less, alive, size))
            yield batch
        self.kept_bytes += alive[0] if alive[0] > held else 0

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """See `DiffProblem.outputs`."""
        yield from self._some(text, tokens, lambda n: self._problem.outputs(text, n))

    def progress(self, done: int, total: int) -> None:
        """See `DiffProblem.progress`."""
        self.reports.append((self._spent() - self._problem.harvest_s, done, total))

    def _spent(self) -> float:
        return time.perf_counter() - self._began

    def _some(self, text: Text, tokens: int | None, read: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
        left = self._problem.budget.tokens - sum(self.asked.values())
        wanted = left if tokens is None else min(tokens, left)
        self.asked[text] = self.asked.get(text, 0) + wanted
        given, seconds, items = 0, 0.0, read(min(wanted, MOST_TOKENS))
        try:
            more = True
            while more:  # a stream reads several texts in turns: only what this one reads is its own
                before, used = self._problem.harvest_s, self._problem.tokens_used
                item = next(items, None)
                seconds, given = seconds + self._problem.harvest_s - before, given + self._problem.tokens_used - used
                if item is not None:
                    yield item
                more = item is not None and (text == "contrastive" or given < FEW_TOKENS or seconds <= READ_S)
        finally:  # a method may stop before the end
            self.seconds[text] = self.seconds.get(text, 0.0) + seconds
            self.given[text] = self.given.get(text, 0) + given
            self._read_until = self._spent()
            self.progress(0, 0)

    def reads(self) -> dict[Text, Read]:
        """What was asked of each text."""
        return {
            text: Read(
                self._there(text, asked),
                self.given.get(text, 0),
                self.seconds.get(text, 0.0) - (self._problem.written.seconds if text == "contrastive" else 0.0),
                self._problem.written if text == "contrastive" else Written(0, 0.0),
            )
            for text, asked in self.asked.items()
        }

    def _there(self, text: Text, asked: int) -> int:
        """How many of the tokens asked for the source has. Answers are not counted before they are written."""
        given = self.given.get(text, 0)
        if given >= asked or text == "contrastive":
            return asked
        if given < min(asked, FEW_TOKENS):
            return given
        return self._problem.held(text, asked)

    def work(self) -> tuple[float, float]:
        """Seconds without reading of what the method reports (steps, tokens): those taken here, and those of all of it at their pace."""
        taken, all_ = 0.0, 0.0
        before, stages = 0.0, list[tuple[int, int, float]]()
        for when, done, total in self.reports:
            if total > 0:
                if not stages or total != stages[-1][1] or done < stages[-1][0]:
                    stages.append((0, total, 0.0))
                stages[-1] = (done, total, stages[-1][2] + when - before)
            before = when
        for done, total, seconds in stages:
            taken, all_ = taken + seconds, all_ + seconds * total / max(1, done)
        return taken, all_


def _less(alive: list[int], size: int) -> None:
    alive[0] -= size


@dataclass
class Rehearsal:
    """What a cell in little took."""

    reads: dict[Text, Read]
    setup_s: float
    """Seconds of measuring the pair itself; 0 if that was done before."""
    controls_s: float
    """Seconds of all constant controls, all workers together; 0 if another cell needs them before."""
    rest_s: float
    """Seconds of reading the findings and of whatever else follows them but putting them and their controls through the protocol."""
    own_s: float
    """Seconds of putting the findings through it, on one worker."""
    each_s: float
    """Seconds of a control, on one worker."""
    workers: int
    fit_s: float
    """Seconds of the method without reading."""
    read_again: int
    """Tokens that a stream will read another time, over all texts."""
    start_s: float
    """Seconds that its process takes to start."""
    buffer_tokens: int
    """Tokens that its buffer holds; 0 without one."""
    diff: DiffResult
    kept_bytes: int
    """Residuals that the method held of what it was given; all of them, if it ran in a process of its own."""
    controls: int
    """Controls that the cell has in all."""
    worker_bytes: int
    """Memory that the method's own process has, beside what it does with what it is given."""

    @property
    def score_s(self) -> float:
        """Seconds of scoring in all: no sooner than the findings are done, and no sooner than all workers have done it all."""
        return self.rest_s + max(self.own_s, (self.own_s + self.each_s * self.controls) / self.workers)


def small(stage: Stage) -> Stage:
    """The same pair with a control for each worker, and at least as many as are measured together; nothing of it kept."""
    workers = torch.get_num_threads() if stage.pair.device.type == "cpu" else 1
    protocol = stage.protocol.model_copy(update={"controls": min(max(workers, TOGETHER), stage.protocol.controls)})
    fresh = Stage(stage.organism, stage.pair, stage.texts, protocol, stage.load_s)
    if stage.organism.role == "null":
        fresh.__dict__["panel"] = Panel(stage.pair, stage.organism.behaviour, stage.texts, protocol, PANEL)
    return fresh


def rehearse(
    cell: Cell, stage: Stage, progress: Callable[[str, int, int], None], kept: Kept | None = None
) -> Rehearsal:
    """Run a cell in little.

    Args:
        stage: of `small`; what an earlier rehearsal measured of it is shared, as it is among the cells of a run.
        kept: where the run will look for what was measured of the pair on these prompts.

    Raises:
        NotScorable: the pair cannot be scored. DiffbenchError: whatever the method refuses.
    """
    few, fresh, note = (
        stage.protocol.controls,
        stage.panel is None and not stage.is_measured,
        partial(progress, "measure"),
    )
    began = time.perf_counter()
    _ = stage.panel or stage.measured(note)
    measured_s = time.perf_counter() - began
    problem = cell.problem(stage, progress, memory=Memory())
    torch.manual_seed(cell.seed)
    seen, began = Rehearsed(problem), time.perf_counter()
    usage = Usage(start_s=START_S)
    if here := cell.in_process or cell.method.origin == "built-in":
        diff = check_findings(cell.method.run(cell.config, cast(DiffProblem, seen)), stage.pair.d_model)
    else:
        diff = check_findings(run_method(cell.method, cell.config, cast(DiffProblem, seen), usage), stage.pair.d_model)
    method_s = time.perf_counter() - began - (0.0 if here else usage.start_s)
    began = time.perf_counter()
    unknown = _unknown(diff, stage, cell.protocol.controls, kept)
    measure_controls(diff, stage, note)
    climbed = time.perf_counter() - began
    began = time.perf_counter()
    measured(diff, stage, progress)
    whole = time.perf_counter() - began
    (taken, all_), nulls = seen.work(), stage.panel is not None
    took = [0.0] if diff.patch or nulls else stage.scorer.took
    columns = 2 if len(took) > 1 else 1  # gated findings are scored in both, and have controls
    own, others = sum(took[:columns]), took[columns:]
    threads = torch.get_num_threads() if stage.pair.device.type == "cpu" else 1
    workers, abreast = (min(threads, len(groups(range(n)))) for n in (few, cell.protocol.controls))
    each = whole / (PANEL + 1) if nulls else sum(others) / max(1, len(others))
    spent = each * PANEL if nulls else max(own, (own + sum(others)) / min(threads, columns + workers))
    ours = cell.config if isinstance(cell.config, DictionaryConfig) else None  # others say of themselves what they like
    stream: dict[str, Any] = diff.diagnostics.get("stream", {}) if ours else {}
    return Rehearsal(
        reads=seen.reads(),
        setup_s=measured_s if fresh else 0.0,
        controls_s=climbed * workers / _draws(few) * unknown / abreast,
        read_again=rereads(ours, seen.asked) if ours and stream else 0,
        buffer_tokens=stream.get("buffer_tokens", 0),
        rest_s=max(0.0, whole - spent),
        own_s=own,
        each_s=each,
        workers=1 if nulls else min(threads, columns + abreast),
        fit_s=max(0.0, method_s - problem.harvest_s - taken) + all_,
        start_s=usage.start_s,
        diff=diff,
        kept_bytes=seen.kept_bytes if here else sum(seen.given.values()) * 2 * 4 * stage.pair.d_model,
        controls=CONTROLS if nulls else cell.protocol.controls,
        worker_bytes=0 if cell.in_process else server().resident_bytes() if here else usage.peak_rss_bytes,
    )


def _draws(controls: int) -> int:
    """Constant controls of all nulls."""
    return sum(len(block) for kind in NULLS for block in blocks(kind, controls))


def _unknown(diff: DiffResult, stage: Stage, controls: int, kept: Kept | None) -> int:
    """Constant controls of these findings that a run will have to measure: none that came with the organism, or that is kept."""
    if stage.panel is not None or diff.patch or not diff.findings:
        return 0
    scorer, ks = stage.scorer, stage.scorer.ks(len(diff.findings))
    of = kept.but(**scorer.read_as) if kept else None
    return sum(
        len(block)
        for kind in NULLS
        if not scorer.controls.has(kind, ks)
        for block in blocks(kind, controls)
        if Place(of, kind, block, [ks]).get() is None
    )
