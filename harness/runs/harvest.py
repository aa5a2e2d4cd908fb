"""Harvested text: rows taken within a budget, and the residuals of what was read kept for the next method and the next run."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, islice

import torch

from ...methods.contract import Batch
from ..cache import Kept, ids_sha256
from ..pairs.sinks import Count

MEMORY_BYTES = 2**28
"""Most residuals that are kept for the next method."""


class Memory:
    """Paired residuals of harvested rows, and the seconds they took: most methods of a run read the same text.

    Kept in memory on a CPU only, up to `MEMORY_BYTES`, and on disk for the next run, up to half of what may be kept there. Methods get
    copies.

    Args:
        kept: where they are kept between runs; None: nowhere.
        device: where methods want them.
        dtype: of the models: residuals are their numbers, and need no more room.
    """

    KIND, VERSION = "residuals", "1"

    def __init__(
        self,
        kept: Kept | None = None,
        device: torch.device = torch.device("cpu"),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._kept, self._device, self._dtype = kept, device, dtype
        self._known: dict[tuple[tuple[int, ...], ...], tuple[Batch, Count, float]] = {}
        self._bytes = self._written = 0

    def read(
        self, rows: list[list[int]], read: Callable[[list[list[int]]], tuple[Batch, Count]]
    ) -> tuple[Batch, Count, float]:
        """What `read(rows)` gives, and the seconds that it took when it was done."""
        key = tuple(map(tuple, rows))
        if key not in self._known:
            found = self._on_disk(rows) or self._read(rows, read)
            batch = found[0]
            size = batch.residuals.nbytes
            if batch.residuals.device.type != "cpu" or self._bytes + size > MEMORY_BYTES:
                return found
            self._known[key] = found
            self._bytes += size
        return self._known[key]

    def _read(
        self, rows: list[list[int]], read: Callable[[list[list[int]]], tuple[Batch, Count]]
    ) -> tuple[Batch, Count, float]:
        began = time.perf_counter()
        batch, count = read(rows)
        took = time.perf_counter() - began
        if self._kept is not None and 2 * self._written < self._kept.cache.most_bytes:
            narrow = batch.residuals.to(self._dtype)
            tensors = batch._replace(
                residuals=narrow if torch.equal(narrow.to(batch.residuals), batch.residuals) else batch.residuals
            )._asdict()
            facts = {"seconds": took, "left_out": [*vars(count).items()]}
            self._kept.put(self.KIND, self.VERSION, tensors, facts, rows=ids_sha256(rows))
            self._written += sum(t.nbytes for t in tensors.values())
        return batch, count, took

    def _on_disk(self, rows: list[list[int]]) -> tuple[Batch, Count, float] | None:
        entry = self._kept.get(self.KIND, self.VERSION, rows=ids_sha256(rows)) if self._kept is not None else None
        if entry is None:
            return None
        batch = Batch(**{name: t.to(self._device) for name, t in entry.tensors.items()})
        count = Count.of(dict(entry.facts["left_out"]))
        return batch._replace(residuals=batch.residuals.float()), count, entry.facts["seconds"]


def take(
    rows: Iterator[list[int]], most: int, tokens: int, certain: Callable[[list[int]], list[bool]]
) -> list[list[int]]:
    """The next rows: at most `most`, at most `tokens` tokens that count in all (the last row is cut). Rows without any are skipped."""
    out: list[list[int]] = []
    for row in islice((r for r in rows if any(certain(r))), most):
        counts = list(accumulate(certain(row)))
        out.append(row[: bisect_right(counts, tokens)] if counts[-1] > tokens else row)
        tokens -= min(counts[-1], tokens)
        if tokens <= 0:
            break
    return out


def joined(batches: list[Batch]) -> Batch:
    """Batches one behind the other."""
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
