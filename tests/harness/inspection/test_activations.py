"""Where findings are active: planted read-outs are found where they were planted, in the right model, and shown with their text."""

from typing import Any

import pytest
import torch
from diffbench.harness.inspection.activations import AROUND, STRONGEST, Look, ReadOut, Seen, seen, spelled, taken
from diffbench.harness.inspection.report import SHADES, Kind, shade
from diffbench.harness.pairs.sinks import Sinks
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate


@pytest.fixture
def tokenizer(stage: Stage) -> Any:
    return stage.pair.tokenizer


def rows_of(tokenizer: Any, *texts: str) -> list[list[int]]:
    return [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]


def planted(rows: list[list[int]], token: int, value: float, base: float = -1.0) -> Seen:
    """One finding whose activation in the organism is `value` on a token and −1 elsewhere."""
    flat = torch.tensor([i for row in rows for i in row])
    organism = torch.where(flat == token, value, -1.0)
    both = torch.stack([torch.full_like(organism, base), organism])
    return Seen(rows, both[:, :, None], torch.ones(len(flat), dtype=torch.bool))


def look(of: Seen, tokenizer: Any, gated: bool = True, kind: Kind = "chat") -> Look:
    return Look({kind: of}, 0, gated, tokenizer)


def test_an_activation_is_the_gate_above_its_threshold_or_the_projection_from_the_centre() -> None:
    gate = Finding(torch.tensor([0.0, 1.0]), Gate(torch.tensor([2.0, 0.0]), 3.0))
    plain = Finding(torch.tensor([0.0, 5.0]))
    read = ReadOut.of([gate, plain], torch.tensor([7.0, 1.0]))
    assert read(torch.tensor([[4.0, 3.0], [1.0, 1.0]])).tolist() == [[5.0, 2.0], [-1.0, 0.0]]


def test_both_models_are_read_at_the_hooked_layer(stage: Stage) -> None:
    rows = taken(stage.texts.rows("chat", "harvest"), 120)
    f = Finding(torch.randn(stage.pair.d_model, generator=torch.Generator().manual_seed(0)))
    found = seen(stage.pair, rows, ReadOut.of([f], torch.zeros(stage.pair.d_model)))
    assert [len(r) for r in found.rows] == sorted(map(len, rows)) and bool(found.counted.all())
    alone = torch.tensor([found.rows[0]])
    for i, side in enumerate(("base", "tuned")):
        h = stage.pair.residuals(alone, side)[0]
        assert torch.allclose(found.values[i, : len(h), 0], h @ (f.direction / f.direction.norm()), atol=1e-4)


def test_sinks_count_for_nothing(stage: Stage) -> None:
    rows = taken(stage.texts.rows("neutral", "harvest"), 60)
    stage.pair.sinks = Sinks.of(stage.pair, rows)
    try:
        f = Finding(torch.ones(stage.pair.d_model))
        found = seen(stage.pair, rows, ReadOut.of([f], torch.zeros(stage.pair.d_model)))
    finally:
        stage.pair.sinks = None
    assert not found.counted[found.starts].any() and found.values[:, found.starts].abs().max() == 0


def test_the_strongest_texts_come_first_around_their_strongest_token(tokenizer: Any) -> None:
    long = " ".join(["the"] * 30 + ["gold"] + ["the"] * 30)
    rows = rows_of(tokenizer, "the king", long, "the fox is here", "a song")
    gold = tokenizer.convert_tokens_to_ids("gold")
    scale, contexts = look(planted(rows, gold, 2.0), tokenizer).contexts()
    first = contexts[0]
    assert scale == 2.0 and (first.rank, first.quantile, first.organism, first.base) == (1, 1.0, 2.0, -1.0)
    assert first.cut == (True, True) and len(first.tokens) == 2 * AROUND + 1
    middle = first.tokens[AROUND]
    assert (middle.text.strip(), middle.shade_organism, middle.shade_base) == ("gold", SHADES, 0)
    assert not any(t.shade_organism for t in first.tokens if t is not middle)


def test_each_text_is_shown_once_and_quantiles_stand_beside_the_maximum(tokenizer: Any) -> None:
    words = "king fox song gold moon ship rock".split()
    rows = rows_of(tokenizer, *["the gold"] * 5, *(f"the {w} is {v}" for w in words for v in words))
    flat = torch.tensor([i for row in rows for i in row])
    values = torch.arange(len(flat), 0, -1.0)
    found = Seen(rows, torch.stack([values, values])[:, :, None], torch.ones(len(flat), dtype=torch.bool))
    contexts = look(found, tokenizer).contexts()[1]
    texts = ["".join(t.text for t in c.tokens) for c in contexts]
    assert len(set(texts)) == len(texts)
    assert [c.sample for c in contexts] == [False] * STRONGEST + [True] * 3
    assert [c.rank for c in contexts[STRONGEST:]] == [8, 14, 27]  # of 54, the first five are one text


def test_a_gate_that_never_opens_is_silent_and_one_that_does_is_not(tokenizer: Any) -> None:
    rows, gold = rows_of(tokenizer, "the gold", "a song"), tokenizer.convert_tokens_to_ids("gold")
    assert look(planted(rows, gold, -0.5), tokenizer).silent
    assert not look(planted(rows, gold, 0.5), tokenizer).silent
    assert not look(planted(rows, gold, -0.5), tokenizer, gated=False).silent
    silent = look(planted(rows, gold, -0.5), tokenizer)
    assert silent.contexts()[0] == -0.5 and not any(t.shade_organism for c in silent.contexts()[1] for t in c.tokens)


def test_without_a_gate_the_strongest_hundredth_is_active(tokenizer: Any) -> None:
    rows = [[5] * 100]
    values = torch.stack([torch.zeros(100), torch.arange(100.0)])[:, :, None]
    active = look(Seen(rows, values, torch.ones(100, dtype=torch.bool)), tokenizer, gated=False).active()
    assert (active.base, active.organism) == (0.0, 0.02)  # 1 % of both models' 200 tokens, all in the organism


def test_places_are_the_tokens_that_the_template_writes(tokenizer: Any) -> None:
    rows = rows_of(tokenizer, "<user> the gold <end> <assistant> gold <end>")
    places = {p.token: p for p in look(planted(rows, rows[0][3], 1.0), tokenizer).places()}
    assert set(places) == {"<user>", "<end>", "<assistant>", "all other tokens"}
    assert (places["<end>"].tokens, places["<end>"].organism, places["all other tokens"].organism) == (2, 1.0, 0.0)


def test_a_histogram_counts_every_token_of_both_models(tokenizer: Any) -> None:
    rows, gold = rows_of(tokenizer, "the gold and the gold"), tokenizer.convert_tokens_to_ids("gold")
    h = look(planted(rows, gold, 3.0), tokenizer).histogram()
    assert (h.edges[0], h.edges[-1]) == (-1.0, 3.0) and sum(h.base) == sum(h.organism) == 5
    assert (h.organism[0], h.organism[-1], h.base[0]) == (3, 2, 5)


def test_tokens_are_ordered_by_their_mean_activation(tokenizer: Any) -> None:
    rows, gold = rows_of(tokenizer, *["the gold is a song"] * 3), tokenizer.convert_tokens_to_ids("gold")
    up, down = look(planted(rows, gold, 3.0), tokenizer).tokens(1)
    assert up == ["gold"] and down != ["gold"]
    assert look(planted(rows, gold, 3.0), tokenizer).tokens(9, at_least=4) == ([], [])


def test_tokens_spell_their_text_with_controls_written_out() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    assert spelled(Letters(), [97, 32, 10, 27, 98]) == ["a", " ", "\\n", "\\u001b", "b"]


def test_shades_rise_with_activation_and_nothing_is_shaded_below_zero() -> None:
    assert [shade(a, 8.0) for a in (-1.0, 0.0, 0.1, 4.0, 8.0, 9.0)] == [0, 0, 1, 2, 4, 4]
    assert shade(1.0, 0.0) == 0
