"""The loop: every cell has an outcome, whatever becomes of the processes that run them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.claims import claimed
from diffbench.harness.records.loading import load_result
from diffbench.harness.runs.cell import unloaded
from diffbench.harness.runs.folder import RESULT, run_folder, write_run
from diffbench.harness.runs.run import plan
from diffbench.harness.sweeps.driver import Ended, LostCell, sweep
from diffbench.harness.sweeps.engine import Done, Lost, Moved, News, Work
from diffbench.harness.sweeps.plan import work_of
from diffbench.harness.sweeps.share import Ran
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError
from diffbench.organisms.organism import Organism


class Here:
    """An engine that runs nothing: what comes of a cell is asked of a function."""

    def __init__(self, work: Work, becomes: Callable[[int], Ran | Lost | DiffbenchError], processes: int = 2):
        self._work, self._becomes = work, becomes
        self._given, self._idle = dict[int, int](), list(range(processes))
        self.tried, self.left, self.busy = list[int](), list[BaseException | None](), set[str]()

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.left.append(error)

    def idle(self) -> Sequence[int]:
        return list(self._idle)

    def free(self, id_: str) -> bool:
        return id_ not in self.busy

    def give(self, process: int, number: int, id_: str | None) -> None:
        self._idle.remove(process)
        self._given[process] = number
        self.tried.append(number)

    def where(self, process: int) -> str:
        return ""

    def news(self, seconds: float) -> list[News]:
        self.busy.clear()
        found = list[News]()
        for process, number in [*self._given.items()]:
            came = self._becomes(number)
            if isinstance(came, DiffbenchError):
                raise came
            del self._given[process]
            self._idle.append(process if isinstance(came, Ran) else process + 100)
            found.append(Moved(process, "fit", 1, 2))
            found.append(Done(process, came) if isinstance(came, Ran) else Lost(process, came.why, came.bug))
        return found


class Unseen:
    """Shows nothing, and notes what was lost."""

    def __init__(self) -> None:
        self.losses, self.over = list[tuple[int | None, bool]](), list[Ended]()

    def began(self, process: int, number: int, where: str) -> None: ...
    def moved(self, process: int, phase: str, done: int, total: int) -> None: ...
    def tick(self) -> None: ...

    def lost(self, process: int, number: int | None, why: str, again: bool) -> None:
        self.losses.append((number, again))

    def ended(self, ended: Ended) -> None:
        self.over.append(ended)


@pytest.fixture
def work(organism: Organism, tmp_path: Path) -> Work:
    """Five cells."""
    entry = load_method("random")
    return work_of(plan([organism], [(entry, entry.configure({}))], range(5), tmp_path / "runs"))


def saved(work: Work, number: int, **fields: Any) -> Ran:
    """A cell's outcome, on the disk."""
    cell = work.plan.cells[number]
    result = unloaded(cell, 2, DiffbenchError("not run"), "not_applicable").result
    folder = run_folder(work.plan.out, cell.organism.name, cell.method.name, result.id)
    write_run(folder, result, None, "")
    ran = Ran.of(result, folder, cached=False)
    return Ran(**ran.data() | {"pair": ran.pair} | fields)


def test_every_cell_ends_once_and_a_busy_one_is_left_to_its_sweep_first(work: Work) -> None:
    engine = Here(work, lambda n: saved(work, n))
    engine.busy.add(work.ids[0] or "")
    clock = iter(range(1000))
    ended = list(sweep(work, [0, 1, 2, 3, 4], engine, Unseen(), 1, lambda: float(next(clock))))
    assert sorted(e.number for e in ended) == [0, 1, 2, 3, 4] and engine.tried[0] == 1
    assert engine.left == [None] and all(e.ran.good and e.wall_s > 0 for e in ended)


def test_a_cell_whose_process_is_lost_is_run_again_as_often_as_it_may(work: Work) -> None:
    losses = {1: 1, 2: 3}

    def becomes(number: int) -> Ran | Lost:
        losses[number] = losses.get(number, 0) - 1
        return Lost(0, "the process ended (SIGKILL)\nmore") if losses[number] >= 0 else saved(work, number)

    engine, shown = Here(work, becomes), Unseen()
    ended = {e.number: e.ran for e in sweep(work, [0, 1, 2], engine, shown, 2)}
    assert [engine.tried.count(n) for n in (0, 1, 2)] == [1, 2, 3]
    assert ended[0].good and ended[1].good and shown.losses.count((2, False)) == 1
    failed = load_result(Path(ended[2].folder) / RESULT)
    assert failed.status == "failed" and failed.failure and failed.failure.type == LostCell.__name__
    assert (failed.reason or "").startswith("the process ended (SIGKILL); other cells go on")
    assert (Path(ended[2].folder) / "run.log").read_text() == "the process ended (SIGKILL)\nmore\n"


def test_a_bug_fails_its_cell_at_once_and_a_spent_device_costs_a_process(work: Work) -> None:
    spent = [False, True]

    def becomes(number: int) -> Ran | Lost:
        if number == 0:
            return Lost(0, "Traceback\nValueError: no", bug=True)
        return saved(work, number, status="failed", spent=True) if number == 1 and spent.pop() else saved(work, number)

    engine = Here(work, becomes)
    ended = {e.number: e.ran for e in sweep(work, [0, 1, 2], engine, Unseen(), 1)}
    assert engine.tried.count(0) == 1 and "a bug in diffbench or in a library: ValueError: no" in (
        ended[0].reason or ""
    )
    assert engine.tried.count(1) == 2 and ended[1].good and ended[2].good


def test_what_another_sweep_saved_meanwhile_is_taken_for_a_lost_cell(work: Work) -> None:
    def becomes(number: int) -> Lost:
        saved(work, number)
        return Lost(0, "gone")

    (ended,) = sweep(work, [3], Here(work, becomes), Unseen(), 0)
    assert ended.ran.good and ended.ran.cached


def test_a_full_disk_ends_the_sweep_and_the_engine_is_told(work: Work) -> None:
    engine = Here(work, lambda n: PrerequisiteError("cannot write") if n == 2 else saved(work, n), 1)
    ended = list[Ended]()
    with pytest.raises(PrerequisiteError, match="cannot write"):
        ended.extend(sweep(work, [0, 1, 2, 3], engine, Unseen(), 1))
    assert isinstance(engine.left[0], PrerequisiteError) and 3 not in engine.tried


def test_the_failure_of_a_lost_cell_waits_for_who_has_it(work: Work) -> None:
    """The record is written under the claim, as any other."""
    waited = list[bool]()
    scratch = work.plan.work(work.ids[0] or "")

    def becomes(number: int) -> Lost:
        with claimed(scratch, wait=False) as mine:
            waited.append(mine)
        return Lost(0, "gone")

    (ended,) = sweep(work, [0], Here(work, becomes), Unseen(), 0)
    assert waited == [True] and not ended.ran.good and not scratch.exists()
