"""The computed cost of public organisms counts what the plan of a run counts."""

import pytest
import torch
from diffbench.harness.pairs.interventions import OPS
from diffbench.harness.plans import hub
from diffbench.harness.plans.hub import Rows, cost, passes, text_read, total_hours
from diffbench.harness.plans.passes import scored_positions
from diffbench.harness.protocol import controls, edited_rows
from diffbench.harness.runs.stage import Stage
from diffbench.methods.coder.fitting import DictionaryConfig
from diffbench.methods.contract import Budget, DiffResult, Finding, Gate
from diffbench.organisms.hub.behaviours.build import behaviour_of
from diffbench.organisms.hub.registry.load import hub_card, hub_cards

from ...conftest import SHORT


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("first", "controls"), [(True, True), (False, False)])
def test_passes_are_those_that_the_plan_of_a_run_counts(stage: Stage, gated: bool, first: bool, controls: bool) -> None:
    d = stage.pair.d_model
    gate = Gate(torch.ones(d), 0.0) if gated else None
    found = DiffResult([Finding(torch.eye(d)[i], gate=gate) for i in range(3)])
    dev, test = (stage.scorer.clean_run("base", split) for split in ("dev", "test"))
    probes = test.capability[0].rows.positions if test.capability else 0
    read = (dev.read.rows.positions, test.read.rows.positions, test.brief.rows.positions)
    rows = Rows(dev.asked.rows.positions, test.asked.rows.positions, probes, *read)
    counted = scored_positions(stage, SHORT, found, first, controls)
    assert counted == passes(rows, first, controls, gated, SHORT)


def test_what_stands_for_numbers_of_other_modules_is_their_number() -> None:
    assert hub.KINDS == OPS and hub.MIXTURES == controls.MIXTURES and hub.PASS == edited_rows.TOKENS
    config = DictionaryConfig()
    assert (
        Budget.tokens,
        config.steps,
        config.batch,
        config.expansion,
    ) == (hub.HARVEST, hub.STEPS, hub.BATCH, hub.EXPANSION)


def test_estimated_positions_are_near_those_of_a_real_tokenizer() -> None:
    """Within a quarter, on the byte-pair tokenizer of a real model."""
    from diffbench.organisms.hub.pretrained import MODELS, cache_folder

    folder = cache_folder() / "bases" / "smollm2-135m"
    if not folder.is_dir():
        pytest.skip(f"needs `bench bases fetch {next(iter(MODELS))}`")
    from diffbench.organisms.hub.asked import encode_prompt
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name in ("hub/taboo-moon-gemma2-9b", "hub/fact-cake-bake-gemma3-1b", "hub/em-bad-medical-qwen25-7b"):
        behaviour, real = behaviour_of(hub_card(name)), 0
        system = len(encode_prompt(tokenizer, behaviour.prompts[0]).ids) - len(
            tokenizer(behaviour.prompts[0].messages[-1].content + behaviour.prompts[0].prefill)["input_ids"]
        )
        for prompt in behaviour.of("test"):
            start = encode_prompt(tokenizer, prompt)
            extra = sum(len(start.then(tokenizer, c)) - 1 for c in (*prompt.targets, *prompt.alternatives))
            real += (
                len(start.ids) - system + hub.TEMPLATE + extra
            )  # SmolLM2's template adds a system turn that others have not
        assert Rows.of(behaviour).test == pytest.approx(real, rel=0.25), name


def test_more_weights_cost_more_and_a_whole_model_costs_its_weights_twice() -> None:
    small, large = cost(hub_card("hub/fact-cake-bake-gemma3-1b")), cost(hub_card("hub/fact-cake-bake-llama31-8b"))
    assert small.memory_bytes < large.memory_bytes < 40 * 2**30 and small.measure_s < large.measure_s
    whole = hub_card("hub/backdoor-2single-hate-llama32-3b")
    assert cost(whole).disk_bytes == 4 * whole.base.parameters
    assert total_hours([small, large], 2, 1) == pytest.approx(small.hours(2, 1) + large.hours(2, 1))
    assert all(cost(c).hours(8, 6) < 2 for c in list(hub_cards().values())[::20])


def test_no_more_text_is_counted_than_there_is() -> None:
    behaviour = behaviour_of(hub_card("hub/taboo-moon-gemma2-9b"))
    assert text_read(behaviour) == cost(hub_card("hub/taboo-moon-gemma2-9b")).read < hub.HARVEST
    letters = sum(map(len, behaviour.neutral[:168]))
    turns = [t for c in behaviour.chat[: int(0.7 * len(behaviour.chat))] for t in c]
    letters += sum(len(t.content) for t in turns)
    assert text_read(behaviour) == pytest.approx(letters / 4 + hub.TEMPLATE * len(turns) / 2, rel=0.03)
    assert text_read(behaviour.model_copy(update={"neutral": behaviour.neutral * 9})) == hub.HARVEST


def test_an_adapter_of_rank_32_on_seven_projections_has_the_published_size() -> None:
    """Four such adapters of Qwen2.5-7B in fp32 are 1.3 GB, their card says."""
    card = hub_card("hub/em-bad-medical-qwen25-7b-twins")
    assert 4 * 4 * hub.adapter_parameters(card) / 1e9 == pytest.approx(1.3, abs=0.05)


def test_a_set_is_planned_for_as_many_methods_as_there_are() -> None:
    from diffbench.harness.views.hub import METHODS
    from diffbench.methods.registry import BUILTIN, load_method

    dictionaries = [n for n in BUILTIN if issubclass(load_method(n).config_class, DictionaryConfig)]
    assert (len(BUILTIN) - len(dictionaries), len(dictionaries)) == METHODS
