"""Methods as third parties write them: files."""

from pathlib import Path
from textwrap import indent

from diffbench.harness.worker.foreign import load
from diffbench.methods.entry import MethodEntry

HEAD = """
import ctypes, gc, os, signal, socket, subprocess, sys, threading, time
import torch
from diffbench.methods.contract import DiffResult, Finding, Gate

class Mine:
    \"\"\"A method file.\"\"\"
    name = "mine"
    access = "activations"
    stochastic = False

    def diff(self, problem):
"""
MEAN = """
total = torch.zeros(problem.d_model)
for batch in problem.activations("chat", tokens=1000):
    total += (batch.residuals[:, 1] - batch.residuals[:, 0]).mean(0)
return DiffResult([Finding(total)])
"""


def method(folder: Path, body: str, name: str = "mine") -> MethodEntry:
    """A method whose `diff` is these lines, loaded as `bench run -m` loads it."""
    path = folder / f"{name}.py"
    path.write_text(HEAD + indent(body.strip(), 8 * " ") + "\n")
    return load(str(path))


def line_of(entry: MethodEntry, text: str) -> int:
    """The line of a method's file that holds a text."""
    assert entry.file is not None
    return next(i for i, line in enumerate(entry.file.read_text().splitlines(), 1) if text in line)
