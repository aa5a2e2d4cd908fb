"""What a process of its own costs a method: its start, and a cell's method in it beside the same in the scorer's process.

    python -m benchmarks.worker

CPU seconds are of the scorer's and the method's process together; wall seconds are the shortest of the repeats.
"""

import json
import os
import socket
import time

import torch
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.harness.terminal import say
from diffbench.harness.worker.host import Usage, run_method
from diffbench.harness.worker.servers import Server, server
from diffbench.methods.contract import Budget, check_findings
from diffbench.methods.registry import load_method
from diffbench.organisms.registry import load_organism

ORGANISM = "taboo/gold-narrow"
REPEATS = {"random": 3, "mean_diff": 3, "logit_diff": 2, "batch_topk": 1, "delta@published": 1}


def started() -> float:
    """Seconds until a fork server that was just started has forked."""
    began = time.perf_counter()
    fresh = Server()
    one, other = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDWR)
    fresh.fork(other.fileno(), nothing, nothing)
    took = time.perf_counter() - began
    other.close()
    one.close()
    os.close(nothing)
    fresh.ended(0)
    fresh.close()
    return took


def compared(stage: Stage, name: str, repeats: int) -> dict[str, object]:
    """A method with its default options in both processes, in turns."""
    entry = load_method(name)
    config, dev = entry.configure({}), stage.organism.behaviour.of("dev")
    wall, cpu, starts, same = {0: [], 1: []}, {0: [], 1: []}, list[float](), True
    for _ in range(repeats):
        found = []
        for own in (0, 1):
            problem, used = Problem(stage.pair, stage.texts, dev, entry.access, 0, Budget()), Usage()
            torch.manual_seed(0)
            w, c = time.perf_counter(), time.process_time()
            result = run_method(entry, config, problem, used) if own else entry.run(config, problem)
            found.append(check_findings(result, stage.pair.d_model))
            wall[own].append(time.perf_counter() - w)
            cpu[own].append(time.process_time() - c + used.cpu_s)
            starts += [used.start_s] * own
        same &= all(
            torch.equal(a.direction, b.direction) for a, b in zip(found[0].findings, found[1].findings, strict=True)
        )
    return {
        "method": name,
        "start_s": round(min(starts), 3),
        "wall_s": [round(min(wall[i]), 2) for i in (0, 1)],
        "cpu_s": [round(min(cpu[i]), 2) for i in (0, 1)],
        "same_findings": same,
    }


def main() -> None:
    """Print a row each."""
    say(json.dumps({"fork server, s": [round(started(), 2) for _ in range(3)]}))
    stage = Stage.load(load_organism(ORGANISM))
    server()
    time.sleep(5)
    for name, repeats in REPEATS.items():
        say(json.dumps(compared(stage, name, repeats)))


if __name__ == "__main__":
    main()
