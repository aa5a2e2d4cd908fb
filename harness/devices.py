"""What a device does to a run: it has too little memory, or it fails for good. Libraries tell both by a RuntimeError's text.

A fault on an accelerator is asynchronous: it is reported by whatever call comes next, and every later call of the process reports it
again. So one cell that met it is the last that this process can run there, whoever was at fault.
"""

import re
import traceback
from collections.abc import Iterator

import torch

from ..organisms.errors import DiffbenchError, PrerequisiteError

FULL = re.compile(r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory", re.IGNORECASE)
"""How torch and its libraries say that memory is not there where they do not raise `OutOfMemoryError`."""
FAILED = re.compile(r"\b(CUDA|HIP|XPU|MPS|NCCL)\s(driver\s)?error\b|\bCU(DNN|BLAS|SOLVER|SPARSE)_STATUS_\w+")


class OutOfMemory(DiffbenchError):
    """A cell needs more memory than there is; the others may fit."""


class DeviceFailed(PrerequisiteError):
    """An accelerator failed under this process, which can run nothing more on it."""


def trouble(error: BaseException, device: str) -> DiffbenchError | None:
    """What an exception means to a user; None for a bug.

    Args:
        error: what was raised, perhaps by way of a method's or a pair's own error.
        device: where the cell ran.
    """
    for cause in _causes(error):
        words = next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
        full = isinstance(cause, MemoryError | torch.OutOfMemoryError)
        if full or (isinstance(cause, RuntimeError) and FULL.search(words)):
            where = "this machine" if device == "cpu" else device
            less = "a shorter text, --dtype bfloat16" + (" or --device-map auto" if device.startswith("cuda") else "")
            return OutOfMemory(
                f"the memory of {where} did not hold the cell ({words}); other cells go on. Fewer --tokens, {less}, or a "
                "device that nobody else uses"
            )
        if isinstance(cause, RuntimeError) and FAILED.search(words):
            return DeviceFailed(
                f"{device} failed ({words}), and the process that met it can run nothing more on it. What is finished is kept: run the "
                "same command again, and it goes on from there; with CUDA_LAUNCH_BLOCKING=1 and --debug the place is told"
            )
    return error if isinstance(error, DiffbenchError) else None


def release(error: BaseException) -> None:
    """Let go of what an exception's frames still hold, so that the next cell has the memory."""
    for cause in _causes(error):
        traceback.clear_frames(cause.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
