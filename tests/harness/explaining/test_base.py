"""Scores that the base itself gives, outputs under steering, and delphi's format: on the shipped taboo organism."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffbench.harness.explaining import delphi, steering
from diffbench.harness.explaining import scores as of
from diffbench.harness.explaining.contexts import Window, contexts
from diffbench.harness.explaining.explain import explain
from diffbench.harness.explaining.material import Material
from diffbench.harness.explaining.ngrams import Explanation
from diffbench.harness.explaining.steering import KL_NATS, WITHIN, Steered, Steering
from diffbench.harness.inspection.activations import Look, ReadOut, seen, taken
from diffbench.harness.inspection.subject import Subject
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import DiffResult, Finding, Gate
from safetensors.numpy import load_file


@pytest.fixture(scope="module")
def material(stage: Stage) -> Material:
    """Three findings: a gate that reads one word, a direction, and a gate that never opens."""
    pair = stage.pair
    rows = taken(stage.texts.rows("neutral", "harvest"), 2500)
    h = seen(pair, rows, ReadOut(torch.eye(pair.d_model), torch.zeros(pair.d_model)))
    word = int(pair.tokenizer.convert_tokens_to_ids("was"))
    at = h.ids == word
    read = h.values[1, at].mean(0) - h.values[1, ~at].mean(0)
    level = float((h.values[1, at] @ read).quantile(0.1))
    silent = Finding(torch.ones(pair.d_model), Gate(torch.zeros(pair.d_model), 1.0))
    found = [
        Finding(read, Gate(read, level)),
        Finding(torch.randn(pair.d_model, generator=torch.Generator().manual_seed(1))),
        silent,
    ]
    subject = Subject("m", stage.organism, pair.layer, DiffResult(found), None)
    kept = seen(pair, rows, ReadOut.of(found, torch.zeros(pair.d_model)))
    looks = {j + 1: Look({"neutral": kept}, j, f.gate is not None, pair.tokenizer) for j, f in enumerate(found)}
    every = Steering.of(pair, stage.texts, float(h.values[0].norm(dim=-1).mean()), 0)
    small = Steering(pair, every.explain[:4], every.score[:4], every.scale, 0)
    return Material(subject, stage, {"neutral": kept}, looks, {n: contexts(x) for n, x in looks.items()}, small, 0)


def test_a_planted_finding_is_said_and_beats_the_others_explanations(material: Material) -> None:
    found = explain(material, None, ("detection", "fuzzing", "simulation", "embedding", "intruder"))
    first = found.findings[1]
    assert first.text is not None and "was" in first.text.split(";")[0]
    by = {s.scorer: s for s in first.scores}
    for name in ("detection", "fuzzing", "simulation"):
        s = by[name]
        assert s.value is not None and s.low is not None and s.shuffled and s.low > max(s.shuffled)
    assert by["intruder"].chance == 0.2 and by["intruder"].by == "the base's residuals"
    assert found.findings[3].text is None and found.findings[3].coverage.startswith("never active")


def test_a_finding_that_is_active_everywhere_says_why_it_is_not_explained(material: Material) -> None:
    """It leaves no window that is not active, so there is nothing for the base to read from."""
    kept = material.read["neutral"]
    dense = replace(kept, values=torch.ones_like(kept.values))
    look = Look({"neutral": dense}, 0, True, material.stage.pair.tokenizer)
    found = explain(replace(material, looks={1: look}, contexts={1: contexts(look)}, _readers={}), None)
    assert found.findings[1].text is None and found.findings[1].coverage.startswith("too few contexts")


def test_a_loss_does_not_depend_on_what_is_read_beside_it(material: Material) -> None:
    """delphi keeps one cache of keys and values over all batches."""
    half = material.contexts[1].score
    windows = [*half.active[:6], *half.other[:6]]
    reader = material.reader(1)
    together = reader.surprisal([7, 8, 9], windows)
    assert reader.surprisal([7, 8, 9], windows[::-1])[::-1] == pytest.approx(together, abs=1e-4)
    assert reader.surprisal([7, 8, 9], windows[-1:]) == pytest.approx(together[-1:], abs=1e-4)


def test_text_is_likelier_after_itself_and_nearest_to_itself(stage: Stage, material: Material) -> None:
    tokens = stage.pair.tokenizer("the bells ring at midnight . the day was rainy .", add_special_tokens=False)[
        "input_ids"
    ]
    window = Window(tuple(tokens), (0.0,) * len(tokens))
    reader = material.reader(1)
    other = material.contexts[1].score.other[:5]
    assert max(range(6), key=reader.surprisal(tokens, [window, *other]).__getitem__) == 0
    assert reader.nearness(tokens, [window, *other])[0] == pytest.approx(1.0, abs=1e-4)


def test_words_that_the_base_lacks_are_not_scored_by_it(material: Material) -> None:
    found = of.surprisal(material.reader(1), Explanation("Quantum entangled photons"), material.contexts[1].score)
    assert found.value is None and found.why is not None and "lacks 100%" in found.why


def test_finding_and_controls_move_the_next_token_equally_on_prompts_that_do_not_score(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "RANDOM", 1)
    s = material.steering
    assert not {tuple(p) for p in s.explain} & {tuple(p) for p in s.score}
    d = torch.randn(128, generator=torch.Generator().manual_seed(1))
    strength = s.strength_of(d)
    assert strength is not None and abs(s.kl_nats(d, strength) / KL_NATS - 1) <= WITHIN + 1e-6
    assert s.strength_of(torch.zeros(128)) is None
    steered = material.steered(2)
    assert isinstance(steered, Steered) and [len(w) for w in (*steered.explain, *steered.score)] == [4] * 4
    assert {w.ids for w in steered.score.active} != {w.ids for w in steered.score.other}


def test_delphis_format_holds_every_activation_at_its_token(material: Material, tmp_path: Path) -> None:
    module = delphi.write(tmp_path, material, "a/base")
    data = load_file(module / "0_2.safetensors")
    config = json.loads((module / "config.json").read_text())
    rows = material.read["neutral"].rows
    assert data["tokens"].shape == (len(rows), config["ctx_len"]) and config["model_name"] == "a/base"
    assert data["locations"].dtype.kind == "u" and data["activations"].dtype == "float16"
    look, values = material.looks[2], material.read["neutral"].values[1, :, 1]
    ours = data["locations"][:, 2] == 1
    assert int(ours.sum()) == int((values > look.floor + 1e-5).sum()) and 2 not in data["locations"][:, 2]
    for (row, at, _), a in list(zip(data["locations"][ours], data["activations"][ours], strict=True))[:20]:
        assert data["tokens"][row, at] == rows[row][at]
        where = int(material.read["neutral"].starts[int(row)]) + int(at)
        assert float(a) == pytest.approx(float(values[where]) - look.floor, rel=2e-3, abs=1e-3)
