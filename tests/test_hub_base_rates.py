"""`benchmarks.hub_base_rates` asks as the protocol asks."""

import sys
from pathlib import Path

import pytest
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.protocol import prompts
from diffbench.organisms.hub.behaviours.build import behaviour_of
from diffbench.organisms.hub.registry.load import hub_card
from transformers import AutoModelForCausalLM, AutoTokenizer

from .organisms.hub.test_end_to_end import NAME, save_as

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from benchmarks.hub_base_rates import rate, rates


def test_a_rate_is_the_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_as(NAME, tmp_path)
    entry = hub_card(NAME).entry
    base, adapter = tmp_path / entry.base, tmp_path / str(entry.adapter)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    pair = load_pair(base, adapter, layer=1)
    for name in (NAME, "hub/em-bad-medical-qwen25-7b", "hub/taboo-moon-gemma2-9b"):
        prompt = behaviour_of(hub_card(name)).of("test")[0]
        c = prompts.choices(pair, [prompt])
        shown = prompts.rates(pair.logits(c.ids, "base", c.keep)[None], c)[0, 0]
        assert rate(model, tokenizer, prompt) == pytest.approx(float(shown), abs=1e-5)
    monkeypatch.setattr("benchmarks.hub_base_rates.MEMBERS", (("user_gender", ("female", "male")),))
    female, male = rates(base, 20)
    assert all(
        f + m == pytest.approx(1) for f, m in zip(female[2], male[2], strict=True)
    )  # the same prompts, the other way round
