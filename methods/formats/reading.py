"""Reading files of others: tensors and JSON that are checked before anything is computed with them.

The idea: a layout names every tensor and its dimensions by letter; whatever is missing, unexpected, of another shape or
not finite is refused, because a tensor that is ignored (a threshold, a skip connection) is a dictionary that silently
computes something else.
"""

import json
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...organisms.errors import PrerequisiteError, ValidationFailed

Tensors = dict[str, Tensor]


def read_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, floating ones in fp32.

    Raises:
        PrerequisiteError: there is no such file.
        ValidationFailed: it is not a whole safetensors file.
    """
    _exists(path)
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValidationFailed(f"{path} is damaged ({error}); copy or download it again") from error
    return {name: _fp32(t) for name, t in found.items()}


def read_state_dict(path: Path) -> Tensors:
    """The tensors of a PyTorch checkpoint, floating ones in fp32; nothing in it is executed (`weights_only`).

    Raises:
        PrerequisiteError: there is no such file.
        ValidationFailed: it is damaged, or holds anything but tensors by name.
    """
    _exists(path)
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValidationFailed(
            f"{path} is damaged or holds more than tensors, and is never unpickled; save its state_dict alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValidationFailed(f"{path} is damaged ({error}); copy or download it again") from error
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValidationFailed(f"{path} is not a state_dict of tensors; save the dictionary's state_dict alone")
    return {str(name): _fp32(t) for name, t in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        PrerequisiteError: there is no such file.
        ValidationFailed: it is not JSON, or not an object.
    """
    _exists(path)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValidationFailed(f"{path} is not JSON ({error}); copy or download it again") from error
    if not isinstance(found, dict):
        raise ValidationFailed(f"{path} holds {type(found).__name__}, not an object; it is another kind of file")
    return found  # pyright: ignore[reportUnknownVariableType]


def dimensions(found: Tensors, layout: Mapping[str, str], path: Path, ignored: Collection[str] = ()) -> dict[str, int]:
    """Sizes by letter of tensors that must be there, e.g. `{"W_enc": "Dn", "threshold": "n"}` → `{"D": 64, "n": 256}`.

    Args:
        found: tensors by name.
        layout: required names with one letter per dimension.
        path: where they come from.
        ignored: names that may also be there.

    Raises:
        ValidationFailed: a tensor is missing, unexpected, empty, of another shape, or holds NaN or infinity.
    """
    missing = [name for name in layout if name not in found]
    if missing:
        raise ValidationFailed(f"{path} has no {', '.join(missing)} (it holds {', '.join(sorted(found)) or 'nothing'})")
    extra = sorted(set(found) - set(layout) - set(ignored))
    if extra:
        raise ValidationFailed(
            f"{path} also holds {', '.join(extra)}, which this format does not have; it is another kind"
        )
    sizes: dict[str, int] = {}
    for name, letters in layout.items():
        shape = found[name].shape
        expected = ", ".join(f"{c} = {sizes[c]}" if c in sizes else c for c in letters)
        agrees = len(shape) == len(letters) and all(
            s > 0 and sizes.setdefault(c, s) == s for c, s in zip(letters, shape, strict=True)
        )
        if not agrees:
            raise ValidationFailed(
                f"{path}: {name} has shape {list(shape)}, expected [{expected}]; the file is damaged"
            )
        if not torch.isfinite(found[name]).all():
            raise ValidationFailed(f"{path}: {name} contains NaN or infinity; training diverged or the file is damaged")
    return sizes


def agree(path: Path, stated: Mapping[str, Any], actual: Mapping[str, int]) -> None:
    """Refuse a configuration that states other sizes than the weights have.

    Raises:
        ValidationFailed: a stated size differs.
    """
    for name, value in actual.items():
        if stated.get(name, value) != value:
            raise ValidationFailed(
                f"{path} says {name} {stated[name]!r}, the weights beside it have {value}; the files do not belong together"
            )


def _exists(path: Path) -> None:
    if not path.is_file():
        raise PrerequisiteError(f"there is no {path}; check the folder, or copy the file there")


def _fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
