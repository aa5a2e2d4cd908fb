"""The state of a training run on disk: written now and then, whole or not at all, and only read by the run it belongs to."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

EVERY_S = 60.0
"""Seconds between checkpoints; a tiny run never writes one."""


@dataclass
class TrainReport:
    """What happened, JSON-serialisable."""

    steps: int
    tokens: int
    """Tokens seen, repeats counted."""
    seconds: float
    budget_exhausted: bool
    """True if the wall-clock limit stopped the run before its last step."""
    loss: dict[str, float]
    """Unweighted terms at the last check: loss, reconstruction, sparsity, delta, aux."""
    curve: list[float] = field(default_factory=list[float])
    """Reconstruction loss at every check."""


@dataclass
class Position:
    """Where training on a stream stands, JSON-serialisable."""

    half: int = 0
    """Halves drawn before, over all epochs."""
    epoch: int = 0
    begin: dict[str, int] = field(default_factory=dict[str, int])
    """Tokens of each text that were read in this epoch before the half."""
    drawn: int = 0
    """Tokens drawn from the half."""


class Checkpoint:
    """One file with weights, Adam's moments and counters; safetensors, so nothing is ever unpickled.

    Args:
        path: the file.
        fingerprint: hash of everything that decides the run.
    """

    def __init__(self, path: Path, fingerprint: str):
        self.path, self.fingerprint = path, fingerprint
        self.position: Position | None = None
        """Where a stream goes on."""
        self._last = time.monotonic()

    def save_if_due(
        self,
        coder: nn.Module,
        optimiser: torch.optim.Optimizer,
        since_N: Tensor,
        report: TrainReport,
        position: Position | None = None,
    ) -> None:
        """Write the state if the last one is `EVERY_S` old."""
        if time.monotonic() - self._last < EVERY_S:
            return
        tensors = {f"coder.{name}": t.detach() for name, t in coder.state_dict().items()} | {"since": since_N}
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": t for name, t in state.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".tmp")
        whole = {name: t.cpu().contiguous() for name, t in tensors.items()}
        facts = {"report": vars(report), "position": position and asdict(position)}
        save_file(whole, scratch, metadata={"fingerprint": self.fingerprint, "facts": json.dumps(facts)})
        os.replace(scratch, self.path)
        self._last = time.monotonic()

    def load(self, coder: nn.Module, optimiser: torch.optim.Optimizer, since_N: Tensor, report: TrainReport) -> bool:
        """Put the saved state in place; False, and nothing changed, if there is none of this run."""
        try:
            with safe_open(self.path, "pt") as file:
                facts = file.metadata() or {}
                if facts.get("fingerprint") != self.fingerprint:
                    return False
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return False
        coder.load_state_dict({n.removeprefix("coder."): t for n, t in tensors.items() if n.startswith("coder.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, t in tensors.items():
            if name.startswith("adam."):
                _, index, what = name.split(".", 2)
                state.setdefault(int(index), {})[what] = t
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        since_N.copy_(tensors["since"])
        found = json.loads(facts["facts"])
        for name, value in found["report"].items():
            setattr(report, name, value)
        self.position = Position(**found["position"]) if found["position"] else None
        return True
