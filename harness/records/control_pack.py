"""What random controls do on a pair, as a file: measured once, so that nobody who scores a method on that pair measures it again.

The numbers of a null depend on no findings but how many there are, so they can be shipped. The file says what they were measured of;
where one byte of that is another (weights, prompts, text, settings, procedure), it counts for nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...organisms.errors import ValidationFailed
from ..files import atomic_write_bytes
from .identity import SIDES

Arrays = dict[str, NDArray[np.float64]]
"""`SIDE mean` [prompts] and `SIDE shares` [controls] of each side, and `volumes` [controls]."""


class ControlPackError(ValidationFailed):
    """A file that holds no controls; the message says what to do."""


@dataclass
class ControlPack:
    """Nulls by kind and by how many directions may be used."""

    key: Mapping[str, Any]
    """What they were measured of."""
    nulls: dict[tuple[str, tuple[int, ...]], Arrays] = field(default_factory=dict[tuple[str, tuple[int, ...]], Arrays])

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; numbers in single precision."""
        from safetensors.numpy import save

        arrays = {
            f"{kind} {' '.join(map(str, ks))} {name}": array.astype(np.float32)
            for (kind, ks), some in self.nulls.items()
            for name, array in some.items()
        }
        atomic_write_bytes(path, save(arrays, {"key": _text(self.key)}))

    @classmethod
    def read(cls, path: Path) -> "ControlPack":
        """Read a file.

        Raises:
            ControlPackError: no such file, or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                pack = cls(json.loads((file.metadata() or {})["key"]))
                for name in file.keys():  # noqa: SIM118
                    kind, *ks, what = _words(name)
                    some = pack.nulls.setdefault((kind, tuple(map(int, ks))), {})
                    some[what] = file.get_tensor(name).astype(np.float64)
            for some in pack.nulls.values():
                _whole(some)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise _damaged(path, error) from error
        return pack


def key_of(path: Path) -> dict[str, Any]:
    """What the controls in a file were measured of, without reading them.

    Raises:
        ControlPackError: no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(json.loads((file.metadata() or {})["key"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ControlPackError:
    return ControlPackError(
        f"{path} holds no random controls ({type(error).__name__}: {error}); delete it, and build it with `bench controls build`"
    )


def _words(name: str) -> list[str]:
    """Kind, numbers and what an array is."""
    words = name.split()
    return words if words[-1] == "volumes" else [*words[:-2], " ".join(words[-2:])]


def _whole(some: Arrays) -> None:
    """Raise KeyError or ValueError unless the arrays are those of a null."""
    means, shares = ([some[f"{side} {what}"] for side in SIDES] for what in ("mean", "shares"))
    shapes = {a.shape for a in [*shares, some["volumes"]]}, {a.shape for a in means}
    if any(len(each) > 1 for each in shapes) or not all(a.ndim == 1 and np.isfinite(a).all() for a in some.values()):
        raise ValueError("arrays that do not fit each other, or are not finite")


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def matching(path: Path | None, key: Mapping[str, Any]) -> ControlPack | None:
    """The controls at `path`, if they were measured of `key`; None where there are none, or others.

    Raises:
        ControlPackError: a damaged file.
    """
    if path is None or not path.is_file():
        return None
    pack = ControlPack.read(path)
    return pack if _text(pack.key) == _text(key) else None
