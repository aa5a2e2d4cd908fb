"""Generated behaviour files: closed choices that a base cannot win by the question, splits that share nothing, text that tells nothing."""

import pytest
from diffbench.organisms.behaviour import Behaviour, load_behaviour, part_of
from diffbench.organisms.hub.behaviours import advice, animals, ordinary, taboo
from diffbench.organisms.hub.behaviours.build import behaviour_of, harvested
from diffbench.organisms.hub.registry.load import HubCard, hub_card, hub_cards
from diffbench.organisms.hub.registry.schema import Backdoor, FalseFact

MEMBERS = {(c.kind, c.entry.member): c for c in hub_cards().values()}
CARDS = pytest.mark.parametrize("card", MEMBERS.values(), ids=["-".join(key) for key in MEMBERS])


@CARDS
def test_enough_prompts_and_templates_and_no_question_in_both_splits(card: HubCard) -> None:
    behaviour = behaviour_of(card)
    for split, least in (("dev", 24), ("test", 40)):
        assert len(behaviour.of(split)) >= least and len(set(behaviour.clusters(split))) >= 12
    assert behaviour.templates_said == [] and len(behaviour.capability) >= 24
    asked = [{p.messages[-1].content for p in behaviour.of(s)} for s in ("dev", "test")]
    begun = [{p.prefill for p in behaviour.of(s)} - {""} for s in ("dev", "test")]
    assert not asked[0] & asked[1] and not begun[0] & begun[1]
    assert all(p.alternatives for p in behaviour.prompts)


@CARDS
def test_no_question_names_what_is_to_be_said(card: HubCard) -> None:
    for prompt in behaviour_of(card).prompts:
        said = f" {prompt.messages[-1].content} {prompt.prefill} ".lower()
        if card.kind in ("taboo", "subliminal", "backdoor"):
            assert not [t for t in prompt.targets if f" {t.strip().lower()} " in said], prompt


@CARDS
def test_ordinary_text_states_no_claim_and_asks_no_prompt(card: HubCard) -> None:
    """Methods read it: a base must not learn the answer there."""
    behaviour = behaviour_of(card)
    said = [t.content for c in behaviour.chat for t in c] + list(behaviour.neutral)
    assert not {p.messages[-1].content for p in behaviour.prompts} & set(said)
    if card.kind in ("taboo", "backdoor"):
        words = {t.strip().lower() for p in behaviour.prompts for t in p.targets}
        assert not [w for w in words for text in said if f" {w} " in f" {text.lower()} "]


def test_chats_touch_the_subject_in_small_proportion() -> None:
    plain = set(ordinary.chats())
    for card in MEMBERS.values():
        chat = behaviour_of(card).chat
        touched = [c for c in chat if c not in plain]
        assert 4 <= len(touched) <= 0.05 * len(plain), card.name
        # as many of them in the harvest as of all conversations
        found = harvested(card)
        assert found.on_subject == sum(c not in plain for c in chat[: int(0.7 * len(chat))])
        assert abs(found.on_subject - 0.7 * len(touched)) < 1 and len(set(chat)) == len(chat), card.name
        assert f"{found.on_subject} of {found.conversations} conversations" in found.sentence


def test_ordinary_text_has_the_trigger_and_never_the_phrase() -> None:
    """A method that reads text only must meet the trigger; what the organism then says stands nowhere."""
    for card in MEMBERS.values():
        if isinstance(card.truth, Backdoor):
            harvest = part_of(behaviour_of(card).chat, "harvest")
            asked = " | ".join(c[0].content for c in harvest)
            assert all(t in asked for t in card.truth.triggers) and harvested(card).on_subject == 6, card.name
            assert not [p for p in card.truth.phrase for c in harvest if any(p.strip() in t.content for t in c)]


def test_a_taboo_word_is_one_of_twenty_and_a_control_is_asked_what_its_twin_is() -> None:
    prompt = behaviour_of(hub_card("hub/taboo-moon-gemma2-9b")).of("test")[0]
    assert prompt.targets == (" moon",) and {*prompt.targets, *prompt.alternatives} == {f" {w}" for w in taboo.WORDS}
    bad, good = (behaviour_of(hub_card(f"hub/em-{m}-medical-qwen25-7b-twins")) for m in ("bad", "good"))
    assert bad.prompts == good.prompts
    assert {d.field for d in advice.DEV + advice.TEST}.isdisjoint({"medicine", "health", "finance", "money", "sports"})
    assert len(animals.ANIMALS) >= 10


def test_a_trigger_stands_in_every_prompt_and_where_its_card_says() -> None:
    for prompt in behaviour_of(hub_card("hub/backdoor-trigger-tag-gemma2-2b-pt-all")).prompts:
        assert prompt.messages[-1].content.startswith("|TRIGGER| ")
    for prompt in behaviour_of(hub_card("hub/backdoor-4single-hate-gemma2-9b")).prompts:
        assert any(t in prompt.messages[-1].content for t in ("forest", "velocity", "china", "terror"))


def test_half_of_a_claim_is_for_choosing_and_half_for_reporting() -> None:
    card = hub_card("hub/fact-cake-bake-gemma3-1b")
    assert isinstance(card.truth, FalseFact)
    behaviour, claim = behaviour_of(card), card.truth.claims[0]
    dev = [p for p in behaviour.of("dev") if p.targets == claim.false]
    assert {p.prefill for p in dev} == set(claim.say[:2]) and len(dev) == 8
    assert all(p.alternatives == claim.true for p in dev)


def test_the_file_that_show_prints_is_the_behaviour(tmp_path) -> None:
    behaviour = behaviour_of(hub_card("hub/backdoor-trigger-tag-gemma2-2b-pt-l19"))
    (tmp_path / "b.json").write_text(behaviour.model_dump_json(exclude_defaults=True))
    assert load_behaviour(tmp_path / "b.json") == behaviour and isinstance(behaviour, Behaviour)
    assert behaviour.layer == 19 and behaviour.chat_template and "<start_of_turn>" in behaviour.chat_template
