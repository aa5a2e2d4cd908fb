"""A text can be read again, and from its middle on: the same tokens, paid once, without a model for what was read before a kill."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.runs import problem as problem_module
from diffbench.harness.runs.problem import Problem
from diffbench.methods.contract import Batch, Budget

from .test_sinks import Stream, Texts, dropping

ASKED = 3000
Open = Callable[..., tuple[Problem, list[int]]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Problems on text with outliers inside, which only the models tell, and for each the rows that were run."""
    monkeypatch.setattr(problem_module, "WINDOW", 20)
    monkeypatch.setattr(problem_module, "ROWS", 4)

    def open_one(tokens: int = 9000, scratch: Path | None = tmp_path / "scratch") -> tuple[Problem, list[int]]:
        stream, run = dropping(Stream(100, at=17)), list[int]()
        p = Problem(
            cast(Pair, stream), cast(Any, Texts(stream.rows)), [], "activations", 0, Budget(tokens), scratch=scratch
        )
        paired = p._paired

        def counted(rows: list[list[int]]) -> Any:
            run.append(len(rows))
            return paired(rows)

        p._paired = counted  # pyright: ignore[reportAttributeAccessIssue]
        return p, run

    return open_one


def joined(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def read(p: Problem, start: int | None, tokens: int = ASKED) -> Batch:
    return joined(list(p.activations("neutral", 256, tokens, start)))


@pytest.mark.parametrize("start", [0, 1, 256, 1000, 2999])
def test_a_reading_from_the_middle_is_the_rest_of_the_whole(opened: Open, start: int) -> None:
    whole, rest = read(opened()[0], None), read(opened()[0], start)
    assert all(torch.equal(a[start:], b) for a, b in zip(whole, rest, strict=True)) and len(whole.ids) == ASKED


def test_what_was_read_before_is_paid_once_and_counted_once(opened: Open) -> None:
    p, _ = opened()
    first = read(p, 0)
    counted = p.left_out.read
    assert torch.equal(read(p, 0).residuals, first.residuals)
    assert p.tokens_used == ASKED and p.left_out.read == counted
    read(p, None)  # a reading of its own is paid as ever
    assert p.tokens_used == 2 * ASKED


def test_the_budget_ends_a_reading_again_where_it_ended_the_first(opened: Open) -> None:
    p, _ = opened(tokens=1000)
    assert len(read(p, 0).ids) == len(read(p, 0).ids) == p.tokens_used == 1000
    assert len(read(p, 600).ids) == 400


@pytest.mark.parametrize("killed_after", [1, 5, 9])
def test_a_killed_reading_goes_on_without_running_what_it_read(opened: Open, killed_after: int) -> None:
    whole, _ = opened(scratch=None)
    expected = read(whole, 0)
    p, run_before = opened()
    seen = list(islice(p.activations("neutral", 256, ASKED, 0), killed_after))
    at = sum(len(b.ids) for b in seen)
    again, run_after = opened()
    rest = read(again, at)
    assert torch.equal(torch.cat([joined(seen).residuals, rest.residuals]), expected.residuals)
    assert again.left_out == whole.left_out and again.tokens_used == whole.tokens_used == ASKED
    assert (
        sum(run_before) + sum(run_after) <= sum(opened_rows(opened)) + 2 * 4
    )  # the groups around the place, twice at most


def opened_rows(opened: Open) -> list[int]:
    p, run = opened(scratch=None)
    read(p, 0)
    return run


def test_a_mark_cut_off_by_the_kill_is_read_again(opened: Open, tmp_path: Path) -> None:
    p, _ = opened()
    seen = joined(list(islice(p.activations("neutral", 256, ASKED, 0), 4)))
    (file,) = (tmp_path / "scratch").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    again, _ = opened()
    assert torch.equal(
        torch.cat([seen.residuals, read(again, len(seen.ids)).residuals]), read(opened()[0], 0).residuals
    )


def test_a_source_that_ends_early_ends_there_again_and_says_so_once(opened: Open) -> None:
    p, _ = opened(tokens=10**9)
    asked = 10**8
    first, again = read(p, 0, asked), read(p, 0, asked)
    assert torch.equal(first.residuals, again.residuals) and p.ended == {"neutral": (asked, len(first.ids))}
    assert p.tokens_used == len(first.ids)


def test_rounds_of_generated_text_that_are_passed_over_are_not_answered(stage: Any, tmp_path: Path) -> None:
    def made() -> tuple[Problem, list[int]]:
        p = Problem(stage.pair, stage.texts, [], "+generations", 0, Budget(tokens=100_000), scratch=tmp_path)
        calls = list[int]()

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(stage.pair, name)

            def generate(self, prompts: Any, *args: Any, **kwargs: Any) -> Any:
                calls.append(len(prompts))
                return [prompt[-3:] for prompt in prompts]

            def residuals(self, ids: torch.Tensor, side: str) -> torch.Tensor:
                return ids[..., None].expand(*ids.shape, stage.pair.d_model).float()

        p._pair = cast(Pair, Counting())
        return p, calls

    one, answered = made()
    whole = joined(list(one.activations("contrastive", tokens=12_000, start=0)))
    two, less = made()
    rest = joined(list(two.activations("contrastive", tokens=12_000, start=11_500)))
    assert torch.equal(whole.ids[11_500:], rest.ids) and len(less) < len(answered)
    rounds = len(answered)
    again = joined(list(one.activations("contrastive", tokens=12_000, start=0)))
    assert torch.equal(whole.ids, again.ids) and len(answered) == rounds  # no answer is written twice
    assert one.written.tokens >= 12_000 and one.written.seconds <= one.harvest_s
