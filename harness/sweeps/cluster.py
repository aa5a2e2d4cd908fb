"""Cells in actors on a Ray cluster that is there; results are written here, by the process that sweeps.

The idea: an actor runs its cells as any process of a sweep does, into a folder of its own machine, and what it sends is the files of a run
folder. So no machine but this one needs to reach the store, and what a lost machine had in hand is given to another.
"""

import importlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from ...organisms.errors import PrerequisiteError, UsageError
from ..claims import claimed
from ..commands.settings import RunFile
from ..runs.folder import put_run, run_folder, tidy
from ..runs.run import finished_before
from .engine import Done, Lost, News, Work
from .processes import stopped
from .share import Ran, Share, Stopped

log = logging.getLogger(__name__)
GIB = 2**30
ENDING_S = 5.0
"""Longest that idle actors may take to clear away what they left."""
ANSWER_S = 10.0
"""Longest that a cluster may take to answer."""
LAST = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` writes down the address of a cluster, and `ray stop` removes it."""


@dataclass(frozen=True)
class Need:
    """What a cell needs of a machine."""

    cpus: float
    gpus: float
    memory_bytes: int
    """0: not said."""

    @classmethod
    def of(
        cls, device: str, cpus: float | None, gpus: float | None, memory_gib: float | None, known_bytes: int
    ) -> "Need":
        """From options.

        Args:
            known_bytes: what cells like these held; 0: not known.

        Raises:
            UsageError: none of something that is needed.
        """
        on_gpu = device.startswith("cuda")
        need = cls(
            1.0 if cpus is None else cpus,
            float(on_gpu) if gpus is None else gpus,
            known_bytes if memory_gib is None else int(memory_gib * GIB),
        )
        if need.cpus <= 0 or need.gpus < 0 or need.memory_bytes < 0:
            raise UsageError("a cell needs cores: give --cpus a number above 0, and --gpus and --memory none below it")
        if on_gpu and not need.gpus:
            raise UsageError(
                f"--device {device} and --gpus 0 contradict each other; give a cell a GPU, or a part of one (--gpus 0.5)"
            )
        return need

    @property
    def threads(self) -> int:
        """Threads of a cell."""
        return max(1, int(self.cpus))

    def room(self, nodes: Sequence[dict[str, float]]) -> int:
        """How many cells fit onto machines at a time.

        Args:
            nodes: what each machine has, as Ray names it.

        Raises:
            PrerequisiteError: not one does.
        """
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory_bytes)}
        asked = {name: n for name, n in asked.items() if n}
        found = sum(min(int(node.get(name, 0.0) / n) for name, n in asked.items()) for node in nodes)
        if not found:

            def most(name: str) -> float:
                return max((node.get(name, 0.0) for node in nodes), default=0.0)

            raise PrerequisiteError(
                f"no machine of the cluster has {self.cpus:g} CPUs, {self.gpus:g} GPUs and {self.memory_bytes / GIB:.1f} GiB of memory "
                f"for a cell; the most there is of each is {most('CPU'):g}, {most('GPU'):g} and {most('memory') / GIB:.1f}; ask for less "
                "with --cpus, --gpus or --memory, or start a machine that has it (`ray start`)"
            )
        return found


class Remote:
    """An actor: one process on a machine of the cluster.

    Args:
        file: options of the sweep.
        folder: where it was started; gone to if it is there, so that paths mean the same on a shared disk.
    """

    def __init__(self, file: dict[str, Any], threads: int, folder: str, command: list[str]):
        self._file, self._threads, self._folder, self._command = file, threads, folder, command
        self._share: Share | None = None
        self._out = Path()

    def start(self) -> str | Stopped:
        """Make ready; the name of its machine."""
        import torch

        from ..terminal import collect_log, silenced

        try:
            with suppress(OSError):
                os.chdir(self._folder)
            sys.argv = self._command
            torch.set_num_threads(self._threads)
            silenced(False).__enter__()
            self._out = Path(tempfile.mkdtemp(prefix="diffbench-sweep-"))
            self._share = Share(RunFile.model_validate(self._file), False, collect_log(False), out=self._out)
        except Exception as error:
            return Stopped.by(error)
        return socket.gethostname()

    def do(self, number: int, id_: str | None) -> tuple[Ran, dict[str, bytes]] | Stopped:
        """Run a cell; what came of it and the files of its folder, which is not kept."""
        assert self._share is not None
        try:
            ran = self._share.do(number, id_)
            folder = Path(ran.folder)
            files = {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}
            rmtree(folder, ignore_errors=True)
            return ran, files
        except Exception as error:
            return Stopped.by(error)

    def end(self) -> None:
        """Leave nothing on its machine."""
        rmtree(self._out, ignore_errors=True)


@dataclass
class _Actor:
    handle: Any
    ready: bool = False
    where: str = ""
    number: int | None = None
    """The cell that it has."""


class Cluster:
    """An engine.

    Args:
        file: options of the sweep.
        jobs: actors; those that find no room wait for a machine to join.
        ray: connected.
    """

    def __init__(self, work: Work, file: RunFile, jobs: int, need: Need, ray: Any):
        self._work, self._file, self._jobs, self._need, self._ray = work, file, jobs, need, ray
        self._actors, self._next = dict[int, _Actor](), 0
        self._pending = dict[Any, int]()
        """What is asked of actors → the actor."""
        self._found = list[News]()
        self._claims = dict[str, ExitStack]()
        """Ids of cells that are this sweep's, as long as they run."""
        self._aside = ExitStack()

    def __enter__(self) -> "Cluster":
        self._aside.enter_context(redirect_stdout(sys.stderr))  # where Ray tells of lost machines
        for _ in range(self._jobs):
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End the actors; what they had in hand is not kept."""
        ends = [a.handle.end.remote() for a in self._actors.values() if a.ready and a.number is None]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=ENDING_S)
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        for id_ in list(self._claims):
            self._release(id_)
        self._ray.shutdown()
        self._aside.close()

    def idle(self) -> Sequence[int]:
        """Actors that wait for a cell."""
        return [n for n, a in self._actors.items() if a.ready and a.number is None]

    def free(self, id_: str) -> bool:
        """Whether no other sweep has a cell; if so, it is this one's."""
        held = ExitStack()
        if held.enter_context(claimed(self._work.plan.work(id_), wait=False)):
            self._claims[id_] = held
            return True
        held.close()
        return False

    def give(self, process: int, number: int, id_: str | None) -> None:
        """A cell for an idle actor, unless another sweep has finished it meanwhile."""
        actor, cell, plan = self._actors[process], self._work.plan.cells[number], self._work.plan
        actor.number = number
        if id_ is not None:
            folder = run_folder(plan.out, cell.organism.name, cell.method.name, id_)
            tidy(folder)
            if (known := finished_before(plan, cell, id_)) is not None:
                actor.number = None
                self._release(id_)
                self._found.append(Done(process, Ran.of(known, folder, cached=True)))
                return
        self._pending[actor.handle.do.remote(number, id_)] = process

    def where(self, process: int) -> str:
        """The machine that an actor runs on."""
        return self._actors[process].where

    def news(self, seconds: float) -> list[News]:
        """What happened; waits for it so long at most."""
        found, self._found = self._found, []
        if self._pending:
            over, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=0 if found else seconds)
            for ref in over:
                found += self._heard(self._pending.pop(ref), ref)
        return found

    def _heard(self, process: int, ref: Any) -> list[News]:
        actor = self._actors[process]
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return [self._lost(process, error)]
        if isinstance(said, Stopped):
            if said.exit_code is not None or not actor.ready:
                raise stopped(f"{said.message} (on {actor.where or 'a machine of the cluster'})", said.exit_code or 1)
            self._replace(process)
            return [Lost(process, said.message, bug=True)]
        if isinstance(said, str):
            actor.ready, actor.where = True, said
            return []
        ran, files = said
        ran = self._saved(ran, files, actor.number)
        actor.number = None
        if not ran.spent:
            return [Done(process, ran)]
        self._replace(process)
        return [Done(process, ran), Lost(process, ran.reason or "its device failed")]

    def _saved(self, ran: Ran, files: dict[str, bytes], number: int | None) -> Ran:
        """What an actor sent, in the store."""
        assert number is not None
        cell, plan = self._work.plan.cells[number], self._work.plan
        folder = run_folder(plan.out, cell.organism.name, cell.method.name, ran.id)
        if files and (ran.id in self._claims or self.free(ran.id)):
            put_run(folder, files)
        self._release(ran.id)
        return replace(ran, folder=str(folder))

    def _lost(self, process: int, error: Exception) -> Lost:
        actor = self._actors[process]
        number = actor.number
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if not actor.ready and isinstance(error, self._ray.exceptions.RuntimeEnvSetupError):
            raise PrerequisiteError(f"no actor starts on the cluster: {first}") from error
        self._replace(process)
        if number is not None and (id_ := self._work.ids[number]):
            self._release(id_)
        return Lost(process, f"its machine or its process there was lost ({type(error).__name__}: {first})\n{error}")

    def _release(self, id_: str) -> None:
        if (held := self._claims.pop(id_, None)) is not None:
            held.close()

    def _replace(self, process: int) -> None:
        actor = self._actors.pop(process)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor.handle)
        self._start()

    def _start(self) -> None:
        options = {"num_cpus": self._need.cpus, "num_gpus": self._need.gpus, "max_restarts": 0}
        if self._need.memory_bytes:
            options["memory"] = self._need.memory_bytes
        actor = self._ray.remote(Remote).options(**options)
        file = self._file.model_dump(mode="json")
        handle = actor.remote(file, self._need.threads, os.getcwd(), sys.argv)
        self._actors[self._next] = _Actor(handle)
        self._pending[handle.start.remote()] = self._next
        self._next += 1


def connected(address: str | None) -> Any:
    """Ray, connected to a cluster that is there.

    Raises:
        PrerequisiteError: no Ray, or no cluster.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise PrerequisiteError(
            "Ray is not installed here; `pip install 'diffbench[ray]'`, here and on every machine of the cluster, or leave out --engine ray"
        ) from error
    where, named = _address(address)
    try:
        if where is not None:
            host, _, port = where.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()  # Ray itself tries for minutes
        ray.init(address=address or "auto", logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray has no one error for it
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise PrerequisiteError(
            f"no Ray cluster answers {named} ({first}); start one (`ray start --head`), or name one with --address HOST:PORT or RAY_ADDRESS"
        ) from error
    return ray


def _address(given: str | None) -> tuple[str | None, str]:
    """Where a cluster is looked for, as far as that is known, and in words."""
    if where := given or os.environ.get("RAY_ADDRESS"):
        return (None if where == "auto" else where), f"at {where}"
    with suppress(OSError):
        where = LAST.read_text().strip()
        return where, f"at {where}, which was the last that was started on this machine"
    return None, "on this machine"


def machines(ray: Any) -> list[dict[str, float]]:
    """What each machine of a cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
