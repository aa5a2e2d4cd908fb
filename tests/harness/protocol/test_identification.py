"""Identification: chance is 0, the truth comes first, and nobody is told the truth."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffbench.harness.cache import Cache, Kept
from diffbench.harness.protocol.identification import POOL, Reader
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate
from diffbench.organisms.card import Readout
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.family import Candidates

KS = (1, 3, 10)


@pytest.fixture(scope="module")
def reader(stage: Stage) -> Reader:
    reader = stage.reader
    assert reader is not None
    return reader


def unembedding(reader: Reader, word: str) -> torch.Tensor:
    """A direction that the logit lens reads as `word`: its row of the unembedding, undone by the final norm's weights."""
    with reader.pair.side("base") as model:
        base = model.get_base_model()
    row = base.lm_head.weight[reader.pair.tokenizer.convert_tokens_to_ids(word)]
    return (row - base.lm_head.weight.mean(0)) * (1 + base.model.norm.weight)


def random_findings(n: int, d: int, seed: int) -> list[Finding]:
    return [Finding(v) for v in torch.randn(n, d, generator=torch.Generator().manual_seed(seed))]


def test_chance_is_zero(reader: Reader) -> None:
    """Fresh random directions, in sets of k, score what the controls score."""
    noise = torch.stack([f.direction for f in random_findings(1000, 128, 50)])
    z = reader.evidence(noise, noise)
    for k in KS:
        controls = reader._controls(k)
        found = reader._raw(z[:, : 1000 // k * k].reshape(3, -1, k, z.shape[-1]).amax(2)).amax(0)
        value = (found - controls.mean()) / (1 - controls.mean())
        error = float(value.std() * (1 / len(found) + k / POOL) ** 0.5)
        assert abs(float(value.mean())) < 3 * error < 0.5, (k, value.mean(), error)


def test_a_direction_that_says_the_word_is_read_as_the_word(reader: Reader) -> None:
    gold, ship = (Finding(unembedding(reader, w)) for w in ("gold", "ship"))
    right, wrong = reader.identify([gold], (1,)), reader.identify([ship], (1,))
    assert right.at[0].rank == 1 and right.at[0].value == 1 and right.at[0].by["lens"] == 1 and right.at[0].p < 0.2
    assert wrong.at[0].by["lens"] < 1
    late = reader.identify([*random_findings(2, 128, 0), gold], KS)
    assert late.at[1].by["lens"] == 1


def test_the_reading_of_tokens_finds_what_gates_a_finding(reader: Reader, stage: Stage) -> None:
    """A finding that is active on the word, whatever it writes."""
    tokens, _, on_token = reader._text
    here = (tokens == reader.pair.tokenizer.convert_tokens_to_ids("gold")).nonzero()
    assert len(here) == 1, "the word must occur in the text that is read"
    noise = random_findings(1, 128, 3)[0].direction
    read = torch.linalg.lstsq(
        (on_token - on_token.mean(0)).T @ (on_token - on_token.mean(0)) + torch.eye(128),
        on_token[here[0, 0]] - on_token.mean(0),
    )
    found = reader.identify([Finding(noise, Gate(read.solution, 0.0))], (1,))
    assert found.at[0].by["tokens"] == 1 and found.at[0].value == 1


def test_scale_means_nothing_and_a_zero_finding_is_a_tie(reader: Reader) -> None:
    some = random_findings(3, 128, 7)
    assert reader.identify(some, KS) == reader.identify([Finding(f.direction * 1024) for f in some], KS)
    zero = reader.identify([Finding(torch.zeros(128))], (1,)).at[0]
    assert zero.raw == 0 and zero.rank == (len(reader.labels) + 1) / 2


def test_the_guesser_and_the_ranks_follow_their_definition(reader: Reader, stage: Stage) -> None:
    words = {w: (w,) for w in ("gold", "ship", "moon")}
    base = dict.fromkeys(words, -3.0)
    readout = Readout(truth="gold", base=base, organism={"gold": -2.0, "ship": -2.0, "moon": -4.0})
    three = Reader(stage.pair, stage.texts, Candidates("gold", words), readout)
    assert three.identify(random_findings(1, 128, 0), (1,)).outputs_only == 0.5  # tied first and second of three
    assert three._raw(torch.tensor([[3.0, 1, 2], [1, 2, 3], [2, 3, 1]])).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ("gold", {"gold": ("gold",)}),
        ("x", {"gold": ("gold",), "ship": ("ship",)}),
        ("a", {"a": ("qqq",), "b": ("ship",)}),
    ],
)
def test_unusable_candidates_are_refused(stage: Stage, truth: str, words: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValidationFailed, match="candidate"):
        Reader(stage.pair, stage.texts, Candidates(truth, words))


def test_readings_that_are_kept_are_those_of_the_text_that_was_read(stage: Stage, tmp_path: Path) -> None:
    """Which tokens a direction is active on depends on the text: another text is another entry."""
    asked: list[dict[str, object]] = []

    class Seen(Kept):
        def get(self, kind: str, version: str, **key: object) -> None:
            asked.append({"kind": kind, "version": version, **key})

    texts = [SimpleNamespace(rows=lambda *of, n=n: iter([list(range(5, 40 + n))])) for n in (0, 1)]
    candidates = Candidates("gold", {"gold": ["gold"], "ship": ["ship"]})
    for some in (*texts, texts[0]):
        reader = Reader(stage.pair, some, candidates, kept=Seen(Cache(tmp_path), "x", {}))  # pyright: ignore[reportArgumentType]
        reader._read = lambda d, r: torch.zeros(3, len(d), 2)  # type: ignore[method-assign]
        _ = reader._random
    assert asked[0] == asked[2] != asked[1]
    assert {k for k in asked[0] if asked[0][k] != asked[1][k]} == {"read"}
