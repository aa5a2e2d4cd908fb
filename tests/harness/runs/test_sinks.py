"""A position whose residual has a hundred times the norm of the others must not decide what is found."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.sinks import Count, Sinks
from diffbench.harness.pairs.trees import Tree, grown
from diffbench.harness.runs.harvest import Memory
from diffbench.harness.runs.problem import Problem
from diffbench.methods.contract import Budget, DiffResult
from diffbench.methods.registry import load_method
from torch import Tensor

D, LENGTH, VOCAB, TEXTS = 32, 64, 997, 150


class Tokenizer:
    all_special_ids = (0, 1)
    chat_template = None

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.decode([token])

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"t{i}" for i in ids)


class Stream:
    """A pair whose residuals are a function of token and position: one planted direction, and a sink at one position of each text."""

    def __init__(self, sink: float, at: int = 0) -> None:
        g = torch.Generator().manual_seed(0)
        self.table = torch.randn(VOCAB, 6, generator=g).relu() @ torch.randn(6, D, generator=g)
        self.table += 0.3 * torch.randn(VOCAB, D, generator=g)
        self.v = torch.nn.functional.normalize(torch.randn(D, generator=g), dim=0)
        self.heavy = torch.nn.functional.normalize(torch.randn(2, D, generator=g), dim=1)
        self.sink, self.at = sink, at
        self.layer, self.d_model, self.vocab_size = 1, D, VOCAB
        self.dtype, self.at_once = torch.float32, 10_000
        self.device, self.tokenizer, self.sinks = torch.device("cpu"), Tokenizer(), cast(Sinks | None, None)
        self.rows = torch.randint(2, VOCAB, (TEXTS, LENGTH), generator=g).tolist()

    def pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
        return ids, mask

    def residuals(self, ids: Tensor, side: str, layout: None = None) -> Tensor:
        h = self.table[ids].clone()
        if side == "tuned":
            h = h + (1 + 3 * (ids % 5 == 0))[..., None] * self.v
        if self.sink and self.at < h.shape[1]:
            typical = float(self.table.norm(dim=1).mean())
            h[:, self.at] = self.sink * typical * self.heavy[0] + (side == "tuned") * 15 * typical * self.heavy[1]
        return h

    def lens(self, directions: Tensor) -> Tensor:
        return directions @ self.table.T

    patchscope = lens

    def plant(self, rows: list[list[int]]) -> list[Tree]:
        return [grown(rows, [i]) for i in range(len(rows))]

    def ends(self, residual: Tensor, ids: Tensor, side: str, where: Tensor, layout: None) -> Tensor:
        return residual[where[:, 0], where[:, 1]]

    def unembed(self, ends: Tensor, side: str) -> Tensor:
        return ends @ self.table.T / D**0.5


class Texts:
    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    def rows(self, text: str, purpose: str, losses: object = None) -> Iterator[list[int]]:
        yield from self._rows


def problem(stream: Stream, tokens: int = 9000, memory: Memory | None = None) -> Problem:
    texts = cast(Any, Texts(stream.rows))
    return Problem(cast(Pair, stream), texts, [], "activations", 0, Budget(tokens=tokens), memory=memory)


def dropping(stream: Stream) -> Stream:
    stream.sinks = Sinks.of(stream, stream.rows[:40])
    return stream


def found(stream: Stream, method: str, **options: Any) -> DiffResult:
    entry = load_method(method)
    torch.manual_seed(0)
    return entry.run(entry.config_class(**options), problem(stream))


def cosine(result: DiffResult, stream: Stream, most: int = 1) -> float:
    return max(abs(float(torch.cosine_similarity(f.direction, stream.v, dim=0))) for f in result.findings[:most])


@pytest.mark.parametrize("at", [0, 17], ids=["first position", "outlier inside a text"])
@pytest.mark.parametrize("method", ["mean_diff", "pca"])
def test_a_sink_does_not_turn_the_direction(method: str, at: int) -> None:
    clean = cosine(found(Stream(0), method), Stream(0))
    assert cosine(found(dropping(Stream(100, at)), method), Stream(0)) == pytest.approx(clean, abs=0.01)
    assert cosine(found(Stream(100, at), method), Stream(0)) < clean - 0.1


class WithoutPosition(Sinks):
    """The rule, and one further position of every row left out: a text without a sink is read where one with a sink is."""

    at = 0

    def ordinary(self, both: Tensor, ids: Tensor, mask: Tensor, count: Count) -> Tensor:
        return super().ordinary(both, ids, mask & (torch.arange(ids.shape[1]) != self.at), count)


def without_sink(at: int) -> Stream:
    """The stream as if it had no sink, read at the positions that remain of one with a sink at `at`."""
    stream = dropping(Stream(0))
    assert stream.sinks
    stream.sinks = WithoutPosition(stream.sinks.special.tolist(), stream.sinks.median)
    stream.sinks.at = at
    return stream


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 17], ids=["first position", "outlier inside a text"])
@pytest.mark.parametrize("method", ["batch_topk", "delta"])
def test_a_sink_does_not_decide_what_a_dictionary_explains(method: str, at: int) -> None:
    options = {"steps": 250}
    clean, dropped, kept = (
        found(s, method, **options) for s in (without_sink(at), dropping(Stream(100, at)), Stream(100, at))
    )
    explained = [r.diagnostics["explained_variance"] for r in (clean, dropped)]
    assert explained[0].keys() == {"base", "ft", "delta"}
    assert explained[1] == pytest.approx(explained[0], abs=1e-6)
    assert cosine(dropped, Stream(0), 16) == pytest.approx(cosine(clean, Stream(0), 16), abs=1e-6)
    assert cosine(kept, Stream(0), 16) < cosine(clean, Stream(0), 16) - 0.05


@pytest.mark.parametrize("tokens", [1, 5, 63, 64, 500])
def test_the_budget_counts_what_is_kept_and_no_more_text_is_read_than_it_takes(tokens: int) -> None:
    p = problem(dropping(Stream(100)), tokens)
    batches = list(p.activations())
    assert all(len(b.ids) for b in batches) and sum(len(b.ids) for b in batches) == p.tokens_used == tokens
    assert p.left_out.read - p.left_out.first == tokens and p.left_out.first <= tokens // 63 + 1


def test_positions_stay_those_of_the_text() -> None:
    stream = dropping(Stream(100, at=17))
    batch = next(problem(stream).activations(tokens=124))
    positions = [i for i in range(LENGTH) if i not in (0, 17)]
    assert set(batch.positions.tolist()) == set(positions)
    places = zip(batch.ids.tolist(), batch.positions.tolist(), strict=True)
    assert all(any(row[at] == token for row in stream.rows[:3]) for token, at in places)


def test_what_was_left_out_is_the_same_whether_the_text_was_read_now_or_before() -> None:
    stream, memory = dropping(Stream(100, at=17)), Memory()
    one, two = problem(stream, 500, memory), problem(stream, 500, memory)
    for p in (one, two):
        list(p.activations())
    assert two.spared_s > 0 and one.left_out == two.left_out and one.left_out.outliers > 0


@pytest.mark.parametrize("rows", [[], [[5]] * 30, [[5, 0, 1]] * 30], ids=["nothing", "single tokens", "special tokens"])
def test_texts_without_an_ordinary_position_are_refused(rows: list[list[int]]) -> None:
    with pytest.raises(PairError, match=r"no positions but first ones and special tokens.*--sinks keep"):
        Sinks.of(Stream(0), rows)
