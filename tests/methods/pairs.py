"""Pairs whose difference is one known direction, and the real pairs of the zoo with a small budget."""

import math
import warnings
from functools import lru_cache

import torch
from diffbench.harness.records.settings import PROTOCOL_V2
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Budget, DiffResult, Method, check_findings
from diffbench.organisms.registry import load_organism
from torch import Tensor

D = 32
TOKENS = 4000


def narrow(tokens: int = 3000) -> tuple[Tensor, Tensor]:
    """(residuals [tokens, 2, D], unit direction): every twentieth token moves along the direction, all a little at random."""
    g = torch.Generator().manual_seed(0)
    v = torch.randn(D, generator=g)
    v /= v.norm()
    base = 3 * torch.randn(tokens, D, generator=g)
    fires = (torch.arange(tokens) % 20 == 0) * (1 + torch.rand(tokens, generator=g))
    ft = base + 5 * fires[:, None] * v + 0.05 * torch.randn(tokens, D, generator=g)
    return torch.stack([base, ft], 1), v


def one_writer(u: Tensor, sigma: float = 2.0) -> dict[str, Tensor]:
    """A rank-1 change of one matrix that writes along u."""
    read = torch.ones(D) / math.sqrt(D)
    return {"layers.0.mlp.down_proj": sigma * torch.outer(u, read)}


def cos(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))


def rows(result: DiffResult) -> Tensor:
    """Directions [k, D] of findings that honour the contract."""
    return torch.stack([f.direction for f in check_findings(result, result.findings[0].direction.numel()).findings])


class Words:
    """A tokenizer whose token i reads "t<i>"."""

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.decode([token])

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"t{i}" for i in ids)


@lru_cache
def stage(organism: str) -> Stage:
    """A loaded organism, kept between tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Stage.load(load_organism(organism), "cpu", PROTOCOL_V2)


def run(method: Method, organism: str) -> DiffResult:
    """What a method finds on a real pair, if it honours contract and budget."""
    s = stage(organism)
    problem = Problem(s.pair, s.texts, s.organism.behaviour.of("dev"), method.access, 0, Budget(tokens=TOKENS))
    result = check_findings(method.diff(problem), problem.d_model)
    assert problem.tokens_used <= TOKENS
    return result
