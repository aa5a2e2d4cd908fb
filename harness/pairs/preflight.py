"""What can be known before weights are read: the device, the memory, and whether a folder holds a model that may be loaded."""

import contextlib
import json
import re
from collections.abc import Generator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError
from .anatomy import PairError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
MOST_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format has it."""
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
    blocks = _of_config(base, "num_hidden_layers")
    if blocks is not None and layer >= blocks:
        raise UsageError(f"--layer {layer}: {name} has blocks 0 to {blocks - 1}")


def width_of(base: Path) -> int | None:
    """Width of the residual stream of the model in a folder; None: its config does not say."""
    return _of_config(base, "hidden_size")


def _of_config(base: Path, field: str) -> int | None:
    from transformers import AutoConfig

    with contextlib.suppress(PairError), readable(base, "model"):
        return int(getattr(AutoConfig.from_pretrained(base, trust_remote_code=False).get_text_config(), field))
    return None


def check_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The dtype asked for, else fp32 on a CPU and bf16 elsewhere; UsageError if it is none of `DTYPES`."""
    name = dtype or ("float32" if device == "cpu" else "bfloat16")
    if name not in DTYPES:
        raise UsageError(f"--dtype {name}: use {', '.join(DTYPES)}")
    return DTYPES[name]


def check_memory(folders: Sequence[Path], dtype: torch.dtype, device: str, device_map: str | None = None) -> bool:
    """Refuse models that cannot fit, before a byte of them is read.

    Returns:
        Whether two models have to take turns on the device: it holds one, and this machine's memory both.

    Raises:
        PrerequisiteError: with what is needed, what is free, and what would fit.
    """
    each = [int(HEADROOM * sum(_bytes(path, dtype) for path in weight_files(folder))) for folder in folders]
    host = free_on_host()
    if device_map is not None:
        free = host + sum(free_on(f"cuda:{n}") for n in range(torch.cuda.device_count()))
    else:
        free = free_on(device) if device.startswith("cuda") else host
    if sum(each) <= free:
        return False
    if device.startswith("cuda") and device_map is None and max(each) <= free and sum(each) <= host:
        return len(each) > 1
    kind, where = str(dtype).removeprefix("torch."), "all devices" if device_map else device
    fixes = ["--dtype bfloat16 halves it"] * (dtype.itemsize == 4)
    fixes += ["--device-map auto spreads it over devices"] * (device.startswith("cuda") and device_map is None)
    most = free / HEADROOM / dtype.itemsize / 1e9 / len(each)
    raise PrerequisiteError(
        f"the weights need {sum(each) / 2**30:.1f} GiB in {kind} and {free / 2**30:.1f} GiB are free on {where}; "
        f"{', '.join([*fixes, f'a model of at most {most:.1f} billion parameters fits'])}"
    )


def free_on(device: str) -> int:
    """Free bytes of a CUDA device."""
    return int(torch.cuda.mem_get_info(device)[0])


def free_on_host() -> int:
    """Bytes that this process can still take, within a container's limit too."""
    import psutil

    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError, KeyError):
        used = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, int((CGROUP / "memory.max").read_text()) - int(used["anon"]))
    return max(free, 0)


CGROUP = Path("/sys/fs/cgroup")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that loading reads; a folder may hold others, such as the same weights in one piece."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        with readable(folder, "model"):
            return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else []


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Entries of a safetensors file, and the length that they make of it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MOST_HEADER:
            raise ValueError(f"a header of {size:,} bytes")
        entries: dict[str, Any] = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    return entries, 8 + size + max((int(e["data_offsets"][1]) for e in entries.values()), default=0)


def _bytes(path: Path, dtype: torch.dtype) -> int:
    """Memory for a file's tensors: floats as `dtype`, what is packed as it is; 0 if its header does not say (`check_whole` does)."""
    total = 0
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        for entry in _header(path)[0].values():
            start, end = entry["data_offsets"]
            width = FLOATS.get(entry["dtype"])
            total += (end - start) // width * dtype.itemsize if width else end - start
    return total


def check_whole(folder: Path) -> None:
    """Refuse a folder from which not every weight can be read."""
    if not (folder / "config.json").is_file():
        raise PairError(f"there is no config.json in {folder}; it is not a model folder")
    if (folder / "adapter_config.json").is_file():
        raise PairError(
            f"{folder} holds an adapter beside a model, and loading would apply it; move adapter_config.json elsewhere, or give the "
            "adapter as --adapter"
        )
    files = weight_files(folder)
    if not files:
        others = sorted(p.name for p in folder.glob("*.bin"))
        why = f"only {others[0]}, a pickle, which is never opened" if others else "no model.safetensors"
        raise PairError(f"{folder} holds {why}; save the model with save_pretrained(…), which writes safetensors")
    if missing := [path.name for path in files if not path.is_file()]:
        raise PairError(
            f"{folder} lacks {missing[0]} ({len(missing)} of {len(files)} shards); the download was interrupted: fetch it again"
        )
    for path in files:
        try:
            length, found = _header(path)[1], path.stat().st_size
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PairError(f"{path} is damaged: it has no safetensors header ({error}); fetch it again") from error
        if length != found:
            raise PairError(
                f"{path} is damaged, or its download was interrupted: {found:,} bytes, and its header speaks of {length:,}; fetch it again"
            )


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
