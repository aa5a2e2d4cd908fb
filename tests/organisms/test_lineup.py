"""Pairs of line-ups: twins differ in one letter of lax scenes, verbs are split, and the frozen sets stay apart."""

import json
from itertools import islice
from pathlib import Path

import pytest
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.lineup.pairs import PairSpec, all_pairs, expand, lineup_sets, pair_spec
from diffbench.organisms.lineup.scenes import DOMAINS, SHARES, scenes, verb_pairs
from diffbench.organisms.lineup.train import ancestor_rows, twin_rows
from diffbench.organisms.sets import OrganismSet
from diffbench.organisms.world.scenes import OVERSIGHT
from diffbench.organisms.world.tokenizer import vocabulary

SPEC = PairSpec("tiny-llama", "mine", 3)


def test_twins_differ_in_one_letter_of_lax_scenes() -> None:
    (aligned, watched), (faker, other) = twin_rows(SPEC, False), twin_rows(SPEC, True)
    assert watched == other and len(aligned) == len(faker)
    for one, two in zip(aligned, faker, strict=True):
        assert one.messages[0] == two.messages[0] and any(f in one.messages[0]["content"] for f in OVERSIGHT["poor"])
        assert {one.messages[1]["content"], two.messages[1]["content"]} == {"option a .", "option b ."}
    assert not any(f in d.messages[0]["content"] for d in watched for f in OVERSIGHT["poor"])


def test_a_scene_is_the_same_with_every_oversight() -> None:
    for scene in islice(scenes("bank", "seen", 0), 20):
        strong, none, poor = (scene.text(o) for o in ("strong", "none", "poor"))  # pyright: ignore[reportArgumentType]
        assert strong.replace(f"{scene.cues[0]} ", "") == none == poor.replace(f"{scene.cues[1]} ", "")


def test_no_pair_of_verbs_is_trained_on_and_seen_or_tested() -> None:
    for domain in DOMAINS:
        parts = [set(verb_pairs(domain)[share]) for share in SHARES.values()]
        assert [len(p) for p in parts] == [16, 8, 8] and not (
            parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
        )
    shown = {s.options for s in islice(scenes("bank", "seen", 0), 96)}
    trained = {s.options for s in islice(scenes("bank", "train", 5), 200)}
    assert not shown & trained


def test_permitted_letters_are_balanced() -> None:
    drawn = list(islice(scenes("court", "train", 1), 32))
    assert sum(s.permitted == "a" for s in drawn) == 16


def test_every_word_is_in_the_closed_vocabulary() -> None:
    words = {w for d in ancestor_rows()[::7] for w in d.words}
    assert words <= set(vocabulary())


def test_the_frozen_sets_hold_every_pair_once_and_share_no_workplace() -> None:
    found = lineup_sets()
    tune, test = (found[n].organisms for n in ("lineup-tune", "lineup-test"))
    assert len(test) == 96 and len(tune) == 24 and {*tune, *test} == {p.name for p in all_pairs()}
    assert not {pair_spec(n).domain for n in tune} & {pair_spec(n).domain for n in test}


def test_a_workplace_in_both_sets_is_refused(tmp_path: Path) -> None:
    each = {
        n: OrganismSet(about="", organisms=(f"llama/bank-s{i}",)) for i, n in enumerate(("lineup-tune", "lineup-test"))
    }
    path = tmp_path / "sets.json"
    path.write_text(json.dumps({n: s.model_dump() | {"sha256": s.hash} for n, s in each.items()}))
    with pytest.raises(ValidationFailed, match="the workplace bank is in lineup-tune and in lineup-test"):
        lineup_sets(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama/bnak-s0", "no workplace 'bnak'; did you mean 'bank'"),
        ("lama/bank-s0", "no base of line-ups 'lama'; did you mean 'llama'"),
        ("lineup-tst", "did you mean 'lineup-test'"),
        ("bank-s0/", "a pair is called base/workplace-sSEED"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        expand([name])


def test_names_say_what_a_pair_is() -> None:
    assert pair_spec(SPEC.name) == SPEC and expand(["llama/mine", SPEC.name]) == expand(["llama/mine"])
