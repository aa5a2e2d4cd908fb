"""A stream gives each token of an epoch once, in an order of the seed alone, holds what it says, and goes on where it was killed."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.coder import checkpoint
from diffbench.methods.coder.analysis import survey
from diffbench.methods.coder.fitting import harvest
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.stream import TURN, Stream
from diffbench.methods.coder.training import Held, Schedule, TrainConfig, TrainingError, train
from diffbench.methods.contract import Batch, Budget, Text
from diffbench.methods.crosscoders import BatchTopKConfig, BatchTopKCrosscoder, DeltaConfig, DeltaCrosscoder
from diffbench.methods.saes import DifferenceSAE, PairConfig, PairedSAEs, SAEConfig, StagewiseConfig, StagewiseSAE
from torch import Tensor

from ..fakes import FakeProblem, planted, problem_of

D = 8
TURN_BYTES = TURN * 2 * D * 2


@dataclass
class Source:
    """Texts whose tokens carry their number in their first coordinate, base and fine-tuned."""

    lengths: dict[Text, int]
    pause_s: float = 0.0
    reads: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    given: int = 0

    def __call__(self, text: Text, start: int) -> Iterator[Batch]:
        self.reads.append((text, start))
        offset = 10_000 * list(self.lengths).index(text)
        for first in range(start, self.lengths[text], TURN):
            number = torch.arange(first, min(first + TURN, self.lengths[text]))
            residuals = torch.zeros(len(number), 2, D)
            residuals[:, :, 1] = 1  # never all zero
            residuals[:, 1, 0] = (offset + number) % 128  # bf16 has 8 bits
            residuals[:, 1, 2] = (offset + number) // 128
            time.sleep(self.pause_s)
            self.given += len(number)
            yield Batch(residuals, number, torch.zeros_like(number))


def stream(source: Source, halves: int = 2, **wanted: int) -> Stream:
    """Halves of `halves` turns."""
    return Stream(source, {**source.lengths, **wanted}, D, 2 * halves * TURN_BYTES)  # pyright: ignore[reportArgumentType]


def numbers(batch: Tensor) -> list[int]:
    return (batch[:, 1, 0] + 128 * batch[:, 1, 2]).long().tolist()


def drawn(opened: Stream, steps: int, batch: int = 500, seed: int = 0) -> list[list[int]]:
    with opened.draw(batch, steps, seed, 0, None) as draw:
        return [numbers(b) for _, b in zip(range(steps), draw.batches, strict=False)]


TEXTS: dict[Text, int] = {"neutral": 9000, "chat": 4500, "contrastive": 1500}
IDS = {10_000 * i + n for i, length in enumerate(TEXTS.values()) for n in range(length)}


@pytest.mark.parametrize("halves", [1, 2, 3, 50])
@pytest.mark.parametrize("batch", [500, 750, 3000])
def test_each_token_of_an_epoch_is_drawn_exactly_once(halves: int, batch: int) -> None:
    found = stream(Source(TEXTS), halves)
    rows = drawn(found, 2 * 15_000 // batch, batch)
    first, second = (
        Counter(n for row in part for n in row) for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :])
    )
    assert set(first) == set(second) == IDS and set(first.values()) == set(second.values()) == {1}
    assert found.counts == TEXTS and found.epochs == 2


def test_what_is_left_of_an_epoch_stands_before_the_next_one() -> None:
    rows = drawn(stream(Source({"neutral": 3100})), 31, 200)
    counts = Counter(n for row in rows for n in row)
    assert set(counts.values()) == {2}


def test_the_order_depends_on_the_seed_and_not_on_who_is_faster() -> None:
    slow = Source(TEXTS, pause_s=0.01)
    assert drawn(stream(slow), 30) == (rows := drawn(stream(Source(TEXTS)), 30))
    assert drawn(stream(Source(TEXTS)), 30, seed=1) != rows
    with stream(Source(TEXTS)).draw(500, 30, 0, 0, None) as draw:
        late = list[list[int]]()
        for _, batch in zip(range(30), draw.batches, strict=False):
            time.sleep(0.005)
            late.append(numbers(batch))
    assert late == rows


def test_texts_are_mixed_by_their_shares_in_every_half() -> None:
    rows = drawn(stream(Source(TEXTS), halves=5), 10)
    counts = Counter(n // 10_000 for row in rows for n in row)
    assert counts.keys() == {0, 1, 2} and 2500 <= counts[0] <= 3600 and 900 <= counts[1] <= 2100


def test_no_more_is_read_than_is_drawn_and_no_more_is_held_than_is_allowed() -> None:
    source = Source(TEXTS)
    found = stream(source, halves=2)
    with found.draw(500, 10, 0, 0, None) as draw:
        next(draw.batches)
        time.sleep(0.1)
        assert source.given <= 2 * found.capacity  # the reader waits
        for _ in range(9):
            next(draw.batches)
    assert 5000 <= source.given < 5000 + TURN and 2 * found.capacity * 2 * D * 2 <= found.memory_bytes


def test_training_does_not_wait_for_all_of_the_reading() -> None:
    source = Source({"neutral": 100_000}, pause_s=0.001)
    with stream(source, halves=200).draw(1000, 64, 0, 0, None) as draw:  # the buffer could hold them all
        next(draw.batches)
        assert source.given < 40_000


def test_reading_goes_on_while_the_trainer_is_busy() -> None:
    source = Source(TEXTS, pause_s=0.01)
    with stream(source, halves=2).draw(2 * TURN, 3, 0, 0, None) as draw:
        next(draw.batches)
        before = source.given
        time.sleep(0.1)
        assert source.given > before


def test_a_small_change_survives_beside_a_large_residual() -> None:
    base = 100 * torch.randn(TURN, D)
    change = 0.01 * torch.randn(TURN, D)
    read = Batch(torch.stack([base, base + change], 1), torch.arange(TURN), torch.arange(TURN))
    found = Stream(lambda text, start: iter([read][start:]), {"neutral": TURN}, D, 2 * TURN_BYTES)
    with found.draw(TURN, 1, 0, 0, None) as draw:
        batch = next(draw.batches)
    seen = (batch[:, 1] - batch[:, 0]).norm(dim=1).sort().values
    assert batch.dtype == torch.float32
    torch.testing.assert_close(
        seen, (read.residuals[:, 1] - read.residuals[:, 0]).norm(dim=1).sort().values, rtol=0.01, atol=1e-4
    )


class Broken(Exception):
    pass


def test_what_the_reader_raises_reaches_the_trainer_and_its_thread_ends() -> None:
    def read(text: Text, start: int) -> Iterator[Batch]:
        yield from list(Source(TEXTS)(text, start))[:2]
        raise Broken("the disk is gone")

    with pytest.raises(Broken, match="the disk is gone"):
        drawn(Stream(read, TEXTS, D, 4 * TURN_BYTES), 30)
    assert not [t for t in threading.enumerate() if t.name == "reader"]


def test_a_trainer_that_stops_stops_the_reader() -> None:
    source = Source(TEXTS, pause_s=0.002)
    with stream(source).draw(500, 1000, 0, 0, None) as draw:
        next(draw.batches)
    given = source.given
    time.sleep(0.05)
    assert source.given == given and not [t for t in threading.enumerate() if t.name == "reader"]


def test_numbers_that_are_not_finite_are_named_by_text_and_token() -> None:
    def read(text: Text, start: int) -> Iterator[Batch]:
        for batch in Source(TEXTS)(text, start):
            if text == "chat" and 2000 in batch.ids:
                batch.residuals[batch.ids == 2000, 1] = float("inf")
            yield batch

    with pytest.raises(TrainingError, match=r"NaN or infinity \(fine-tuned model, token 2,000 of chat text\)"):
        drawn(Stream(read, TEXTS, D, 4 * TURN_BYTES), 30)


@pytest.mark.parametrize(
    ("lengths", "says"),
    [({"neutral": 300}, "300 tokens were harvested but a batch takes 500"), ({"neutral": 0}, "0 tokens")],
)
def test_a_source_of_less_than_a_batch_is_refused(lengths: dict[Text, int], says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        drawn(stream(Source(lengths), neutral=20_000), 3)


def test_a_text_that_ends_early_leaves_its_turns_to_the_others() -> None:
    found = stream(Source({"neutral": 9000, "chat": 100}), chat=9000)
    rows = drawn(found, 2 * 91, 100)
    assert set(Counter(n for row in rows for n in row).values()) == {2} and found.counts == {
        "neutral": 9000,
        "chat": 100,
    }


def test_a_bound_too_small_to_shuffle_is_refused_with_the_least_there_is() -> None:
    with pytest.raises(TrainingError, match=f"set at least {2 * TURN_BYTES:,}"):
        Stream(Source(TEXTS), TEXTS, D, 2 * TURN_BYTES - 1)


# Training


CONFIG = TrainConfig(steps=120, batch=256)
ONCE = Objective(aux=1 / 32)


class Killed(Exception):
    pass


def texts(tokens: int = 12_000) -> FakeProblem:
    return problem_of(
        planted(d=D, n_shared=12, tokens=3 * tokens, active=3).residuals_T2d, budget=Budget(tokens=tokens)
    )


SMALL = {"memory_bytes": 4 * TURN_BYTES}
SHARES: dict[Text, float] = {"neutral": 0.5, "chat": 0.5}


def coder() -> SparseCoder:
    return SparseCoder(D, [Group(32, 3)])


def test_killed_twice_in_the_middle_of_a_pass_and_resumed_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    problem, config, schedule = texts(), BatchTopKConfig(**SMALL), Schedule(dead_after=0.2)
    straight = coder()
    whole = train(straight, harvest(problem, config, SHARES), CONFIG, ONCE, schedule)

    def kill_at(step: int) -> Any:
        def progress(done: int, total: int) -> None:
            if done == step:
                raise Killed

        return progress

    path, again = tmp_path / "coder.safetensors", coder()
    for step in (40, 100):  # the second one in the second epoch; each loses the 20 steps since its checkpoint
        with pytest.raises(Killed):
            train(
                coder(),
                harvest(problem, config, SHARES),
                CONFIG,
                ONCE,
                schedule,
                checkpoint=path,
                progress=kill_at(step),
            )
    problem.asked.clear()
    report = train(again, harvest(problem, config, SHARES), CONFIG, ONCE, schedule, checkpoint=path)
    assert report.curve == whole.curve and report.steps == 120
    assert all(
        torch.equal(a, b) for a, b in zip(straight.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_resumed_run_reads_no_more_than_the_half_it_was_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    source, path = Source(TEXTS), tmp_path / "coder.safetensors"

    def kill(done: int, total: int) -> None:
        if done == 40:
            raise Killed

    with pytest.raises(Killed):
        train(coder(), stream(source), CONFIG, ONCE, checkpoint=path, progress=kill)
    source.reads.clear()
    train(coder(), stream(source), CONFIG.model_copy(update={"steps": 120}), ONCE, checkpoint=path)
    assert sum(start for _, start in source.reads[:3]) == 4096  # 20 steps drew 5,120 tokens: the third half


def test_a_stream_trains_as_well_as_a_tensor() -> None:
    problem = texts()
    held, streamed = coder(), coder()
    train(held, problem_tensor(problem), CONFIG, ONCE)
    data = harvest(problem, BatchTopKConfig(stream=True), SHARES)
    report = train(streamed, data, CONFIG, ONCE)
    reference = train(coder(), problem_tensor(problem), CONFIG, ONCE)
    assert report.loss["reconstruction"] == pytest.approx(reference.loss["reconstruction"], rel=0.1)
    torch.testing.assert_close(streamed.mean_D, held.mean_D, rtol=0.05, atol=0.05)


def problem_tensor(problem: FakeProblem) -> Tensor:
    found = harvest(problem, BatchTopKConfig(), SHARES)
    assert isinstance(found, Held)
    return found.residuals_T2d


def test_a_budget_within_the_bound_is_held_and_one_above_it_streams() -> None:
    problem = texts()
    need = 12_000 * 2 * D * 4
    assert isinstance(harvest(problem, BatchTopKConfig(memory_bytes=need), SHARES), Held)
    assert isinstance(harvest(problem, BatchTopKConfig(memory_bytes=need - 1), SHARES), Stream)
    assert isinstance(harvest(problem, BatchTopKConfig(stream=True), SHARES), Stream)


METHODS = {
    "batch_topk": BatchTopKCrosscoder(BatchTopKConfig(stream=True, steps=60, batch=128)),
    "delta": DeltaCrosscoder(DeltaConfig(stream=True, steps=60, batch=128, k=2, **PUBLISHED["delta"])),
    "sae_diff": DifferenceSAE(SAEConfig(stream=True, steps=60, batch=128, rank="contribution")),
    "sae_pair": PairedSAEs(PairConfig(stream=True, steps=30, batch=128)),
    "sae_stagewise": StagewiseSAE(StagewiseConfig(stream=True, steps=60, batch=128)),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_kind_of_dictionary_method_streams_and_says_what_it_read(name: str) -> None:
    problem = texts(6000)
    result = METHODS[name].diff(problem)
    facts = result.diagnostics
    assert result.findings[0].direction.isfinite().all() and sum(facts["harvest_tokens"].values()) <= 6000
    assert ("contrastive" in facts["harvest_tokens"]) == (name == "delta")
    assert all(facts["harvest_tokens"].values())
    assert facts["stream"]["normaliser_tokens"] and facts["stream"]["readout_tokens"]


def test_the_read_out_of_a_stream_is_that_of_the_same_tokens_held() -> None:
    problem, trained = texts(6000), coder()
    held = harvest(problem, BatchTopKConfig(), SHARES)
    streamed = harvest(problem, BatchTopKConfig(stream=True), SHARES)
    train(trained, held, CONFIG, ONCE)
    one, other = survey(trained, held.parts()), survey(trained, streamed.parts())
    for name in ("fires_N", "sums_N", "squares_N", "along_2N", "error_MN", "mean_2d"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-6)
    assert one.explained == pytest.approx(other.explained) and one.tokens == other.tokens == 6000


def test_the_read_out_is_bounded_by_tokens_and_by_the_clock() -> None:
    problem = texts(6000)
    few = harvest(problem, BatchTopKConfig(stream=True, readout_tokens=1000), SHARES)
    assert sum(len(part[0]) for part in few.parts()) == 1000
    problem.budget = Budget(tokens=6000, seconds=0)
    late = harvest(problem, BatchTopKConfig(stream=True), SHARES)
    assert sum(len(part[0]) for part in late.parts()) == 2 * TURN  # a turn of each text


KILLED = """
import sys, os, signal, torch
from pathlib import Path
from diffbench.methods.coder import checkpoint
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.stream import Stream
from diffbench.methods.coder.training import TrainConfig, train
from diffbench.methods.contract import Batch
torch.set_num_threads(1)
checkpoint.EVERY_S, kill_at = 0.0, int(sys.argv[2])
h = torch.randn(9000, 2, 8, generator=torch.Generator().manual_seed(0))
ids = torch.arange(9000)
def read(text, start):
    for first in range(start, 9000, 1024):
        yield Batch(*(t[first:first + 1024] for t in (h, ids, ids)))
def progress(done, total):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
coder = SparseCoder(8, [Group(32, 3)])
path = Path(sys.argv[1])
stream, config = Stream(read, {"neutral": 9000}, 8, 2**17), TrainConfig(steps=120, batch=256)
train(coder, stream, config, Objective(aux=1 / 32), checkpoint=path, progress=progress)
torch.save(coder.state_dict(), path.with_suffix(".pt"))
"""


@pytest.mark.slow
def test_a_process_killed_twice_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def run(name: str, kill_at: int = 0) -> int:
        command = [sys.executable, "-c", KILLED, str(tmp_path / name), str(kill_at)]
        return subprocess.run(command, check=False).returncode

    assert run("straight.safetensors") == 0
    assert [run("killed.safetensors", step) for step in (40, 80, 0)] == [-9, -9, 0]
    one, other = (torch.load(tmp_path / f"{name}.pt") for name in ("straight", "killed"))
    assert all(torch.equal(one[key], other[key]) for key in one)
