"""Shuffled batches of paired activations: one gather per batch against a loader that fetches token by token."""

from collections.abc import Iterator

import torch
from diffbench.methods.coder.training import permuted as index_batches
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from .records import Row, agree, interleaved, row

SHARD = 8192
"""Tokens in one shard of the per-item dataset."""


class PairedShard(Dataset[Tensor]):
    """A map-style dataset as activation caches publish it: one model beside the other, a token at a time."""

    def __init__(self, base_Td: Tensor, tuned_Td: Tensor) -> None:
        self.base_Td, self.tuned_Td = base_Td, tuned_Td

    def __len__(self) -> int:
        return len(self.base_Td)

    def __getitem__(self, token: int) -> Tensor:
        """[2, d_model]."""
        return torch.stack([self.base_Td[token], self.tuned_Td[token]])


def per_item(shards: Dataset[Tensor], index: list[Tensor]) -> Iterator[Tensor]:
    """Batches [B, 2, d_model] through a DataLoader in this process, in the given order."""
    yield from DataLoader(shards, batch_sampler=[rows.tolist() for rows in index])


def gathered(h_T2d: Tensor, index: list[Tensor]) -> Iterator[Tensor]:
    """The same batches, one gather each, as `methods.training` reads them."""
    return (h_T2d[rows] for rows in index)


def measure(tokens: int, d_model: int, batch: int, batches: int, repetitions: int, goal: float) -> Row:
    """Equality of every batch, then milliseconds per batch; activations are bf16."""
    h_T2d = torch.randn(tokens, 2, d_model, generator=torch.Generator().manual_seed(0)).bfloat16()
    shards = ConcatDataset([PairedShard(*(m.contiguous() for m in some.unbind(1))) for some in h_T2d.split(SHARD)])
    index = list(index_batches(tokens, batch, batches, seed=0))
    pairs = zip(gathered(h_T2d, index), per_item(shards, index), strict=True)
    unequal = sum(not torch.equal(ours, theirs) for ours, theirs in pairs)
    found = {"batches": agree("a batch", float(unequal), 0.0)}
    timings = interleaved(
        {
            "one gather": lambda: [None for _ in gathered(h_T2d, index)],
            "per item": lambda: [None for _ in per_item(shards, index)],
        },
        repetitions,
        batches,
    )
    return row(f"Activation batches, d {d_model}, B {batch}, bf16", "batch", batch, timings, goal, found)
