"""Residuals that are read as a sparse coder needs them, in bounded memory.

The idea: a buffer of two halves. A thread reads paired residuals into one half while the trainer draws from the
other, then they change places. A half is drawn in a random order of its own, each token once; so an epoch gives every token
exactly once, in an order that depends on the seed alone and not on who is faster. Where training stands is a place in the texts
and a number of tokens drawn from one half: a killed run reads that half again and goes on with the same bits. Several epochs read
the source again: a store of a published run would be terabytes (200M tokens at d 3584: 2.9 TB), and what fits the harness keeps.

The halves hold bf16: the base's residual and the change, each rounded by itself, so that a small change is not lost in the rounding
of a large residual. Batches, normaliser and all statistics are fp32.

Shape letters: T tokens, B tokens of a batch, d residual width.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..contract import Batch, Text
from .checkpoint import Position

TURN = 1024
"""Tokens that are read of one text before another has its turn."""
SAMPLE = 8192
"""Most tokens that the normaliser of a stream is fitted on, drawn from the first half."""
PARTS = 4
"""Least halves in which a run is read, where they hold `SAMPLE` tokens: training would otherwise wait for all of the reading."""
STORED_BYTES = 2
"""Bytes of a stored number."""


class TrainingError(ValueError):
    """A sparse coder cannot be trained on this; the message gives fact, cause and fix."""


class Draw(NamedTuple):
    """An open source."""

    sample: Callable[[], Tensor]
    """[T, 2, d] fp32: what the normaliser is fitted on."""
    batches: Iterator[Tensor]
    """Batches [B, 2, d], fp32."""
    position: Callable[[], Position | None]
    """Where the last batch ended; None of held residuals, where the number of steps says it."""


class Stream:
    """Residuals that are read as they are needed, text by turns in proportion to what is wanted of each.

    Args:
        read: batches of `TURN` tokens of a text from a token on, the last one shorter; called on a thread of its own.
        wanted: tokens of each text in an epoch.
        d_model: residual width.
        memory_bytes: bound of both halves together.
        device: where the halves are.
        late: says when the read-out has to stop.
        readout_tokens: most tokens that the read-out reads, over all texts.

    Raises:
        TrainingError: a bound that holds less than a turn in each half.
    """

    seconds: float = 0.0
    """Nothing is read before training."""

    def __init__(
        self,
        read: Callable[[Text, int], Iterator[Batch]],
        wanted: Mapping[Text, int],
        d_model: int,
        memory_bytes: int,
        device: str | torch.device = "cpu",
        late: Callable[[], bool] = lambda: False,
        readout_tokens: int = 2**62,
    ):
        self.wanted: dict[Text, int] = {text: n for text, n in wanted.items() if n}
        self.d_model, self.device, self.memory_bytes = d_model, torch.device(device), memory_bytes
        self._read, self._late, self._readout_tokens = read, late, readout_tokens
        turn_bytes = TURN * 2 * d_model * STORED_BYTES
        if memory_bytes < 2 * turn_bytes:
            raise TrainingError(
                f"memory_bytes = {memory_bytes:,} holds less than two turns of {TURN} tokens at width {d_model}, so nothing could be "
                f"shuffled; set at least {2 * turn_bytes:,}"
            )
        turns = -(-sum(self.wanted.values()) // TURN) + len(self.wanted)
        self.capacity = TURN * max(1, min(memory_bytes // 2 // turn_bytes, turns))
        """Most tokens of a half."""
        self.counts: dict[Text, int] = dict.fromkeys(self.wanted, 0)
        """Distinct tokens read of each text."""
        self.epochs, self.waited_s, self.surveyed = 0, 0.0, 0
        """Epochs begun, seconds that training waited for reading, tokens of the read-out."""
        self.half = 0
        """Tokens of a half in use."""
        self._sample: Tensor | None = None

    def facts(self) -> dict[str, Any]:
        """For `DiffResult.diagnostics`."""
        return {
            "harvest_tokens": dict(self.counts),
            "harvest_s": round(self.waited_s, 3),
            "stream": {
                "buffer_tokens": 2 * self.half,
                "stored": "bfloat16, base and change",
                "normaliser_tokens": None if self._sample is None else len(self._sample),
                "epochs": self.epochs,
                "waited_s": round(self.waited_s, 3),
                "readout_tokens": self.surveyed,
            },
        }

    def sample(self) -> Tensor:
        """[T, 2, d] at most `SAMPLE` tokens of the first half, fp32."""
        if self._sample is None:
            with self.draw(1, SAMPLE, 0, 0, None) as opened:
                return opened.sample()
        return self._sample

    def parts(self) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Residuals, token ids and positions of the beginning of each text, for the read-out; ends when it is late."""
        self.surveyed = 0
        share = min(1.0, self._readout_tokens / sum(self.wanted.values()))
        for text, wanted in self.wanted.items():
            left = max(1, round(share * wanted))
            for batch in self._read(text, 0):
                part = Batch(*(t[:left].to(self.device) for t in batch))
                _check(part.residuals, self.d_model, text, 0)
                yield part.residuals.float(), part.ids, part.positions
                left, self.surveyed = left - len(part.ids), self.surveyed + len(part.ids)
                if left <= 0 or self._late():
                    break

    @contextmanager
    def draw(self, batch: int, steps: int, seed: int, done: int, at: Position | None) -> Generator[Draw, None, None]:
        """Batches from a position on. The reader stops when the block is left; what it raises, the next batch raises."""
        at = at or Position()
        size = TURN * -(-max(SAMPLE, steps * batch // PARTS) // TURN)
        self.half = min(size, self.capacity)
        reading = _Reading(self, batch, self.half, (steps - done) * batch + at.drawn, seed, at)
        try:
            yield Draw(reading.sample, reading.batches(), lambda: reading.position)
        finally:
            reading.close()

    def turns(self, begin: dict[Text, int]) -> Generator[Tensor, None, None]:
        """The rest of an epoch in turns [≤ TURN, 2, d]; `begin` counts with it.

        The text that is furthest behind its share comes next, so the order follows from the counts alone.
        """
        readers: dict[Text, Iterator[Batch]] = {text: self._read(text, begin[text]) for text in self.wanted}
        try:
            while readers:
                text = min(readers, key=lambda t: begin[t] / self.wanted[t])
                batch = next(readers[text], None)
                if batch is None:
                    del readers[text]
                    continue
                _check(batch.residuals, self.d_model, text, begin[text])
                begin[text] += len(batch.ids)
                yield batch.residuals
        finally:
            for reader in readers.values():
                getattr(reader, "close", lambda: None)()


class _Half(NamedTuple):
    """A filled half."""

    stored: Tensor
    """[capacity, 2, d] base and change."""
    tokens: int
    at: Position
    end: dict[Text, int]
    """Tokens of each text that were read in this epoch with the half."""


class _Reading:
    """A thread that fills halves, and the draws from them.

    Args:
        size: tokens of a half.
        needed: tokens that will be drawn, counted from the beginning of the first half: no more are read.
    """

    def __init__(self, stream: Stream, batch: int, size: int, needed: int, seed: int, at: Position):
        self.position = at
        self._stream, self._batch, self._needed, self._seed = stream, batch, needed, seed
        self._free, self._full = SimpleQueue[Tensor | None](), SimpleQueue[_Half | BaseException]()
        shape = (2, size, 2, stream.d_model)
        for half in torch.empty(shape, dtype=torch.bfloat16, device=stream.device):
            self._free.put(half)
        self._stopped, self._first = False, at
        self._half: _Half | None = None
        self._order = torch.zeros(0, dtype=torch.int64)
        self._thread = Thread(target=self._fill, name="reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the reader after the turn it is in."""
        self._stopped = True
        self._free.put(None)
        self._thread.join()

    def sample(self) -> Tensor:
        """See `Stream.sample`."""
        if self._half is None:
            self._next()
        assert self._half is not None
        self._stream._sample = _widened(self._half.stored, self._order[:SAMPLE])  # pyright: ignore[reportPrivateUsage]
        return self._stream._sample  # pyright: ignore[reportPrivateUsage]

    def batches(self) -> Iterator[Tensor]:
        """Endless; a batch that a half cannot fill is filled from the next one."""
        parts, missing = list[Tensor](), self._batch
        while True:
            if self._half is None:
                self._next()
            assert self._half is not None
            at = self.position.drawn
            taken = self._order[at : at + missing]
            parts.append(_widened(self._half.stored, taken))
            self.position.drawn, missing = at + len(taken), missing - len(taken)
            if self.position.drawn == self._half.tokens:
                self._free.put(self._half.stored)
                self._half = None
            if not missing:
                yield parts[0] if len(parts) == 1 else torch.cat(parts)
                parts, missing = [], self._batch

    def _next(self) -> None:
        """Wait for a half and put it in its order."""
        began = time.perf_counter()
        half = self._full.get()
        self._stream.waited_s += time.perf_counter() - began
        if isinstance(half, BaseException):
            self._full.put(half)
            raise half
        generator = torch.Generator().manual_seed((self._seed << 24) + half.at.half)
        self._order = torch.randperm(half.tokens, generator=generator).to(half.stored.device)
        self._half, self.position = half, half.at
        stream = self._stream
        stream.epochs = max(stream.epochs, half.at.epoch + 1)
        stream.counts |= {text: max(stream.counts[text], n) for text, n in half.end.items()}

    def _fill(self) -> None:
        """Fill free halves until what is needed is read; an epoch begins with a half."""
        stream, at, needed = self._stream, self._first, self._needed
        begin: dict[Text, int] = {text: at.begin.get(text, 0) for text in stream.wanted}
        number, epoch, drawn = at.half, at.epoch, at.drawn
        try:
            while needed > 0:
                with closing(stream.turns(begin)) as turns:
                    whole = False
                    while needed > 0 and not whole:
                        if (stored := self._free.get()) is None:
                            return
                        place, tokens = Position(number, epoch, {**begin}, drawn), 0
                        while tokens < needed and tokens + TURN <= len(stored) and not whole:
                            if self._stopped:
                                return
                            if (turn := next(turns, None)) is None:
                                whole = True
                            else:
                                _store(turn, stored[tokens:])
                                tokens += len(turn)
                        if whole and sum(begin.values()) < self._batch:
                            raise TrainingError(too_few(sum(begin.values()), self._batch))
                        if tokens:
                            self._full.put(_Half(stored, tokens, place, {**begin}))
                            number, needed, drawn = number + 1, needed - tokens, 0
                        else:
                            self._free.put(stored)
                begin, epoch = dict.fromkeys(stream.wanted, 0), epoch + 1
        except BaseException as error:  # whatever it is, the trainer has to hear of it
            self._full.put(error)


def too_few(tokens: int, batch: int) -> str:
    """Why not one step can be made."""
    return (
        f"{tokens} tokens were harvested but a batch takes {batch}: not one step can be made; "
        "harvest more tokens (budget) or set a smaller batch"
    )


def _store(turn_T2d: Tensor, into_T2d: Tensor) -> None:
    """Base and change, rounded to bf16, at the beginning of `into`."""
    wide = turn_T2d.to(into_T2d.device).float()
    into_T2d[: len(wide), 0].copy_(wide[:, 0])
    into_T2d[: len(wide), 1].copy_(wide[:, 1] - wide[:, 0])


def _widened(stored_T2d: Tensor, index_B: Tensor) -> Tensor:
    """[B, 2, d] base and fine-tuned in fp32: one gather."""
    out = stored_T2d.index_select(0, index_B).float()
    out[:, 1] += out[:, 0]
    return out


def _check(residuals_T2d: Tensor, d_model: int, text: str, first: int) -> None:
    """Raises TrainingError for residuals of another shape, and names the tokens that are not finite."""
    check_shape(residuals_T2d, d_model)
    bad = ~residuals_T2d.isfinite().all(dim=2)
    if bad.any():
        token, model = bad.nonzero()[0].tolist()
        raise TrainingError(
            f"activations contain NaN or infinity ({('base', 'fine-tuned')[model]} model, token {first + token:,} of {text} text): "
            "it overflowed at the hooked layer; run the models in fp32 (or bf16 instead of fp16) and check the adapter"
        )


def check_shape(residuals: Tensor, d_model: int) -> None:
    """Raises TrainingError unless the shape is [tokens, 2, d_model]."""
    shape = list(residuals.shape)
    if len(shape) != 3 or shape[1:] != [2, d_model]:
        raise TrainingError(f"activations have shape {shape}, expected [tokens, 2, {d_model}] (base, fine-tuned)")
