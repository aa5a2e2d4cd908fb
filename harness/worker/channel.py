"""How the harness and a method's process talk: one socket, one message at a time, and trust in one direction only.

The idea: what the harness says may be any object (pickle), and its tensors lie in memory that only the method's process has mapped, so
writing into them changes nothing anywhere else. What a method's process says is JSON and raw bytes, whose lengths are declared first and
bounded; they are copied as they come. Nothing that it says is executed or mapped.
"""

import io
import json
import math
import mmap
import os
import pickle
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

MOST_WORDS, MOST_BYTES = 2**26, 2**32
"""Most bytes of JSON and of tensors in one message of a method."""
ALIGNED = 64
"""Tensors begin where torch would let them begin, so that the same numbers come out to the last bit."""
TYPES = {
    str(t).removeprefix("torch."): t
    for t in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}
"""Kinds of numbers that a method may send."""
_TO_METHOD, _FROM_METHOD = struct.Struct("<QQ"), struct.Struct("<QQ")


class Closed(Exception):
    """The other side is gone."""


class NoMessage(Exception):
    """What came is no message of this channel."""


class Said(NamedTuple):
    """A message of a method's process."""

    words: dict[str, Any]
    tensors: list[Tensor]


class HarnessEnd:
    """The harness's end of a channel."""

    def __init__(self, end: socket.socket):
        self._socket = end

    def tell(self, what: object) -> None:
        """Send an object; its tensors are copied once, into memory that is the receiver's alone.

        Raises:
            Closed: the method's process is gone.
        """
        packed = io.BytesIO()
        pickler = _Pickler(packed)
        pickler.dump(what)
        words = packed.getvalue()
        head = _TO_METHOD.pack(len(words), pickler.size)
        try:
            if not pickler.size:
                self._socket.sendall(head)
            else:
                memory = _memory(pickler.size, pickler.tensors)
                try:
                    sent = socket.send_fds(self._socket, [head], [memory])
                finally:
                    os.close(memory)
                self._socket.sendall(head[sent:])
            self._socket.sendall(words)
        except OSError as error:
            raise Closed from error

    def hear(self) -> Said:
        """The next message.

        Raises:
            Closed: the method's process is gone, perhaps in the middle of a message. NoMessage: what came is none, or too long.
        """
        length, size = _FROM_METHOD.unpack(_read(self._socket, _FROM_METHOD.size))
        if length > MOST_WORDS:
            raise NoMessage(f"a message of {length:,} bytes of words; {MOST_WORDS:,} is the most")
        if size > MOST_BYTES:
            raise NoMessage(f"{size / 2**30:.1f} GiB of tensors; {MOST_BYTES / 2**30:.0f} GiB is the most")
        words, shapes = _words(_read(self._socket, length))
        if sum(math.prod(shape) * TYPES[kind].itemsize for kind, shape in shapes) != size:
            raise NoMessage("tensors of another size than their shapes say")
        return Said(words, [self._tensor(TYPES[kind], shape) for kind, shape in shapes])

    def _tensor(self, dtype: torch.dtype, shape: list[int]) -> Tensor:
        flat = torch.empty(math.prod(shape) * dtype.itemsize, dtype=torch.uint8)
        view, at = _view(flat), 0
        while at < len(view):
            if not (got := _received(self._socket, view[at:])):
                raise Closed
            at += got
        return (flat != 0 if dtype == torch.bool else flat.view(dtype)).view(shape)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class MethodEnd:
    """The end that a method's process holds."""

    def __init__(self, end: socket.socket):
        self._socket = end

    def hear(self) -> Any:
        """The next object that the harness sends."""
        head, files, *_ = socket.recv_fds(self._socket, _TO_METHOD.size, 1)
        if not head:
            raise Closed
        head += _read(self._socket, _TO_METHOD.size - len(head))
        length, size = _TO_METHOD.unpack(head)
        memory = None
        if size:
            memory = torch.frombuffer(mmap.mmap(files[0], size, **_AT_ONCE), dtype=torch.uint8)
            os.close(files[0])
        return _Unpickler(io.BytesIO(_read(self._socket, length)), memory).load()

    def tell(self, words: dict[str, Any], tensors: Sequence[Tensor] = ()) -> None:
        """Send words that are JSON, and tensors.

        Raises:
            TypeError, ValueError: words that are no JSON.
        """
        plain = [t.detach().cpu().contiguous() for t in tensors]
        shapes = [[str(t.dtype).removeprefix("torch."), list(t.shape)] for t in plain]
        said = json.dumps([words, shapes], allow_nan=False).encode()
        self._socket.sendall(_FROM_METHOD.pack(len(said), sum(t.nbytes for t in plain)) + said)
        for t in plain:
            self._socket.sendall(_view(t.view(-1).view(torch.uint8)) if t.numel() else b"")


_AT_ONCE: dict[str, Any] = {"flags": mmap.MAP_SHARED | mmap.MAP_POPULATE} if hasattr(mmap, "MAP_POPULATE") else {}
"""All pages of a message at once, where the platform can."""


class _Pickler(pickle.Pickler):
    """Leaves tensors out and lays them one behind the other."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=5)
        self.tensors, self.size = list[tuple[int, Tensor]](), 0

    def persistent_id(self, obj: Any) -> Any:
        """Where a tensor will lie."""
        if not isinstance(obj, Tensor):
            return None
        place = self.size, obj.nbytes, obj.dtype, tuple(obj.shape), str(obj.device)
        if obj.nbytes:
            self.tensors.append((self.size, obj.detach()))
        self.size += -(-obj.nbytes // ALIGNED) * ALIGNED
        return place


class _Unpickler(pickle.Unpickler):
    """Puts tensors in from where they lie."""

    def __init__(self, file: io.BytesIO, memory: Tensor | None):
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, pid: Any) -> Tensor:
        """The tensor at a place, on the device that it was on."""
        at, length, dtype, shape, device = pid
        if not length or self._memory is None:
            return torch.empty(shape, dtype=dtype, device=device)
        return self._memory[at : at + length].view(dtype).view(shape).to(device)


def _view(flat: Tensor) -> memoryview:
    """The bytes of a tensor [bytes]."""
    return memoryview(cast(Any, flat.numpy()))


def _memory(size: int, tensors: list[tuple[int, Tensor]]) -> int:
    """A nameless file in memory (on disk where the platform has none) with tensors at their places."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("tensors")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    try:
        os.ftruncate(memory, size)
        for at, tensor in tensors:
            rest = _view(tensor.cpu().contiguous().view(-1).view(torch.uint8))
            while rest:
                done = os.pwrite(memory, rest, at)
                rest, at = rest[done:], at + done
    except BaseException:
        os.close(memory)
        raise
    return memory


def _words(said: bytes) -> tuple[dict[str, Any], list[tuple[str, list[int]]]]:
    """Words and the kinds and shapes of tensors; NoMessage if they are none."""
    try:
        words, shapes = json.loads(said)
        for kind, shape in shapes:
            if (
                kind not in TYPES
                or len(shape) > 8
                or any(type(n) is not int or not 0 <= n <= MOST_BYTES for n in shape)
            ):
                raise NoMessage(f"a tensor of kind {str(kind)[:20]} and shape {str(shape)[:80]}")
    except (ValueError, TypeError, RecursionError) as error:
        raise NoMessage(f"words that are no JSON of the right form ({type(error).__name__})") from error
    if not isinstance(words, dict):
        raise NoMessage(f"{type(words).__name__} where a message is a mapping")
    return cast(dict[str, Any], words), shapes


def _read(end: socket.socket, length: int) -> bytes:
    """So many bytes; Closed if there are fewer."""
    whole = bytearray(length)
    view, at = memoryview(whole), 0
    while at < length:
        if not (got := _received(end, view[at:])):
            raise Closed
        at += got
    return bytes(whole)


def _received(end: socket.socket, into: memoryview) -> int:
    try:
        return end.recv_into(into)
    except OSError as error:
        raise Closed from error
