"""What can be known before weights are read: the device, the memory, and whether a folder holds a model that may be loaded."""

import contextlib
import json
import re
from collections.abc import Generator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError
from .anatomy import PairError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
DEVICE_MAPS = re.compile(r"auto|balanced|balanced_low_0|sequential|cpu|mps|cuda(:\d+)?")
"""Device maps of transformers that are one word."""
HEADROOM = 1.15
"""Memory wanted for every byte of weights: activations of a few rows come on top."""


def check_device(device: str) -> None:
    """Refuse a device that is none, or that this machine does not have.

    Raises:
        UsageError: not a device. PrerequisiteError: not here.
    """
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        near = (
            "cuda" if "gpu" in device.lower() else next(iter(get_close_matches(device, ("cpu", "cuda", "mps"), 1)), "")
        )
        hint = f"did you mean {near}? " if near else ""
        raise UsageError(f"--device {device}: {hint}use cpu, cuda, cuda:N or mps")
    if device.startswith("cuda"):
        count, index = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
        if index >= count:
            raise PrerequisiteError(
                f"--device {device}: torch sees {count or 'no'} CUDA device{'s' * (count > 1)}; "
                "install a CUDA build of torch or use --device cpu"
            )
    if device == "mps" and not torch.backends.mps.is_available():
        raise PrerequisiteError("--device mps: torch sees no Apple GPU; use --device cpu")


def check_layer(name: str, base: Path, layer: int) -> None:
    """Refuse a layer that is asked for and that the base of an organism does not have.

    Raises:
        UsageError: with the layers it has. A base that does not say is left to loading.
    """
    from transformers import AutoConfig

    with contextlib.suppress(PairError), readable(base, "model"):
        blocks = int(AutoConfig.from_pretrained(base, trust_remote_code=False).get_text_config().num_hidden_layers)
        if layer >= blocks:
            raise UsageError(f"--layer {layer}: {name} has blocks 0 to {blocks - 1}")


def check_memory(folders: list[Path], dtype: torch.dtype, device: str) -> None:
    """Refuse models that cannot fit, before a byte of them is read.

    Raises:
        PrerequisiteError: with what is needed, what is free, and what would fit.
    """
    numbers = sum(_numbers(path) for folder in folders for path in folder.glob("*.safetensors"))
    needed = int(numbers * dtype.itemsize * HEADROOM)
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = int(psutil.virtual_memory().available)
    if needed <= free:
        return
    kind, most = str(dtype).removeprefix("torch."), free / HEADROOM / dtype.itemsize / 1e9
    halves = "--dtype bfloat16 halves it, " if dtype.itemsize == 4 else ""
    raise PrerequisiteError(
        f"the weights need {needed / 2**30:.1f} GiB in {kind} and {free / 2**30:.1f} GiB are free on {device}: {halves}"
        f"--device-map auto spreads it over devices, or take a model of at most {most:.1f} billion parameters"
    )


def _numbers(path: Path) -> int:
    """Numbers in a safetensors file, from its header."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 10**8 else {}
        spans = [
            entry["data_offsets"] + [BYTES.get(entry["dtype"], 1)]
            for name, entry in header.items()
            if name != "__metadata__"
        ]
        return sum((end - start) // each for start, end, each in spans)
    return 0


def check_whole(folder: Path) -> None:
    """Refuse a folder from which not every weight can be read."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        with readable(folder, "model"):
            named = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if missing := [n for n in named if not (folder / n).is_file()]:
            raise PairError(
                f"{folder} lacks {missing[0]} ({len(missing)} of {len(named)} shards); the download was interrupted: fetch it again"
            )
    elif not (folder / "model.safetensors").is_file():
        others = sorted(p.name for p in folder.glob("*.bin"))
        why = f"only {others[0]}, a pickle, which is never opened" if others else "no model.safetensors"
        raise PairError(f"{folder} holds {why}; save the model with save_pretrained(…), which writes safetensors")
    if not (folder / "config.json").is_file():
        raise PairError(f"there is no config.json in {folder}; it is not a model folder")


def check_quantised(folder: Path, config: Any) -> None:
    method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
    if str(method) != "bitsandbytes":
        raise PairError(f"{folder} is quantised by {method}; supported is bitsandbytes, or the model in full precision")
    if find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"{folder} is quantised by bitsandbytes, which is not installed: pip install bitsandbytes"
        )


@contextlib.contextmanager
def readable(where: str | Path, what: str) -> Generator[None, None, None]:
    """Turn a library's loading error into fact, cause and fix; what a damaged file makes a library raise is no closed list."""
    try:
        yield
    except (DiffbenchError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = str(error).strip()
        first = text.splitlines()[0] if text else type(error).__name__
        if "trust_remote_code" in text or "custom code" in text:
            first = "it brings code of its own, which is never run; give a model whose class transformers has"
        raise PairError(f"cannot load the {what} {where}: {first}") from error
