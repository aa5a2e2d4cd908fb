"""An accelerator that is not there: tensors that say they are on it, compute on the processor, and refuse what it would refuse.

Its results are those of the processor to the bit, so a cell on it must score the same. What it refuses: an operation on tensors of two
devices (a 0-d tensor of the processor may take part, as torch has it), numpy, and on `mps` any tensor of float64.
"""

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
LISTS = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""Indices may be on the processor."""
WHOLE = ("cosine_similarity", "pad_sequence")
"""Functions that make tensors inside torch, where nobody can wrap them: run as a whole, unchecked."""


class Mixed(RuntimeError):
    """Expected all tensors to be on the same device."""


class Far(torch.Tensor):
    """A tensor on the far device, over a real one."""

    held: torch.Tensor
    place: torch.device

    @property
    def device(self) -> torch.device:  # pyright: ignore
        """Not `meta`, which the dispatcher sees because every build of torch has it."""
        return self.place

    @staticmethod
    def __new__(cls, real: torch.Tensor, device: torch.device) -> "Far":
        if device.type == "mps" and real.dtype is torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        far = torch.Tensor._make_wrapper_subclass(  # pyright: ignore
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device="meta",
        )
        far.held, far.place = real, device
        return far

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    def __repr__(self) -> str:
        return f"Far({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    @property
    def is_meta(self) -> bool:  # pyright: ignore
        return False

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        far = [x for x in flat if isinstance(x, Far)]
        near = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, Far)]
        device = far[0].device
        if func is aten._local_scalar_dense.default:
            return far[0].held.item()
        moves = func in (aten._to_copy.default, aten.copy_.default, aten.set_.source_Tensor)
        if any(x.device != device for x in far):
            raise Mixed(f"{func}: two far devices")
        if not moves and any(x.ndim for x in near) and func not in LISTS:
            raise Mixed(f"{func}: {[tuple(x.shape) for x in near]} on cpu, {[tuple(x.shape) for x in far]} on {device}")
        wanted = kwargs.get("device")
        real_args, real_kwargs = tree_map(lambda x: x.held if isinstance(x, Far) else x, (args, kwargs))
        if wanted is not None:
            real_kwargs["device"] = torch.device("cpu")
        out = func(*real_args, **real_kwargs)
        if isinstance(args[0] if args else None, torch.Tensor) and not isinstance(args[0], Far) and moves:
            return args[0]  # copied from here onto the processor
        if wanted is not None and torch.device(wanted).type not in ("meta", device.type):
            return out
        known = {id(x.held): x for x in far}

        def wrapped(x: Any) -> Any:
            return (known[id(x)] if id(x) in known else Far(x, device)) if isinstance(x, torch.Tensor) else x

        return tree_map(wrapped, out)


class _There(TorchFunctionMode):
    """Makes tensors for the far device, which torch is not built for."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def _far(self, device: Any) -> bool:
        return isinstance(device, str | torch.device) and torch.device(device).type == self.device.type

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # where a wrapped tensor has no views
            with torch.inference_mode(False), torch.no_grad():
                return self.__torch_function__(func, types, args, kwargs)
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.__setitem__ and isinstance(args[0], Far):
            return _put(*args)
        if func is torch.Tensor.to and len(args) > 1 and self._far(args[1]):
            kwargs |= {"device": args[1]} | ({"dtype": args[2]} if args[2:] and args[2] is not None else {})
            args = args[:1]
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], Far):
            kwargs, args = {"device": self.device, "dtype": args[1].dtype}, args[:1]
        if func is torch.where and len(args) == 3 and any(isinstance(a, Far) for a in args):
            kind = next((a.dtype for a in args[1:] if isinstance(a, torch.Tensor)), None)
            args = (args[0], *(a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=kind) for a in args[1:]))
        if getattr(func, "__name__", "") in WHOLE and any(isinstance(x, Far) for x in tree_flatten(args)[0]):
            return Far(func(*tree_map(lambda x: x.held if isinstance(x, Far) else x, args), **kwargs), self.device)
        if not self._far(kwargs.get("device")):
            return func(*args, **kwargs)
        if args and isinstance(args[0], Far):
            rest = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking")}
            return args[0] if func is torch.Tensor.to and not rest and len(args) == 1 else func(*args, **rest)
        made = func(*args, **(kwargs | {"device": "cpu"}))
        return Far(made.detach(), self.device) if not isinstance(made, Far) else made


def _put(into: Far, index: Any, value: Any) -> None:
    """`into[index] = value`; a value from the processor is copied, as torch does."""
    index, value = tree_map(lambda x: x.held if isinstance(x, Far) else x, (index, value))
    into.held[index] = value


@contextlib.contextmanager
def far(device: str) -> Generator[torch.device, None, None]:
    """Inside the block there is a device of this kind."""
    there = torch.device(device, 0)
    made = {name: getattr(torch, name) for name in ("arange", "zeros", "ones", "full", "empty")}
    try:
        with _There(there) as mode:
            for name, make in made.items():  # a backward pass does not see the mode
                setattr(torch, name, lambda *a, make=make, **k: mode.__torch_function__(make, (), a, k))
            yield there
    finally:
        for name, make in made.items():
            setattr(torch, name, make)


def move(module: torch.nn.Module, device: torch.device) -> Any:
    """A module with its parameters and buffers there; tied ones stay tied."""
    seen: dict[int, Any] = {}
    for part in module.modules():
        for store, wrap in ((part._parameters, True), (part._buffers, False)):
            for name, tensor in store.items():
                if tensor is not None and not isinstance(tensor, Far):
                    if id(tensor) not in seen:
                        there = Far(tensor.detach(), device)
                        seen[id(tensor)] = torch.nn.Parameter(there, tensor.requires_grad) if wrap else there
                    store[name] = seen[id(tensor)]
    return module
