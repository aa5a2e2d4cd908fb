"""The board of line-ups: whole sets only, and the paper's order judged by workplaces."""

import pytest
from diffbench.harness.lineup import view
from diffbench.leaderboard.lineup.board import csv_text, figure, json_text, markdown, restricted
from diffbench.leaderboard.lineup.claims import outcomes
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.lineup.pairs import pair_spec

from .made import NAMES, record

PLACES = sorted({pair_spec(n).domain for n in NAMES})


def test_a_strategy_that_left_pairs_out_is_in_no_table() -> None:
    whole, part = record("noise", 1.0), record("steering", 1.0, NAMES[:50])
    assert restricted([whole, part], "lineup-test") == [whole]
    with pytest.raises(UsageError, match="no strategy has judged all 96 pairs of lineup-test"):
        restricted([part], "lineup-test")


def test_twins_of_a_pair_of_another_set_do_not_count() -> None:
    made = record("noise", 1.0)
    beside = [
        made.verdicts[0].model_copy(update={"lineup": f"{NAMES[0]}={n}", "identical": True})
        for n in (NAMES[1], "llama/bank-s9")
    ]
    [found] = restricted([made.model_copy(update={"verdicts": [*made.verdicts, *beside]})], "lineup-test")
    assert [v.lineup for v in found.verdicts if v.identical] == [f"{NAMES[0]}={NAMES[1]}"]


def test_two_records_of_one_strategy_are_refused() -> None:
    with pytest.raises(ValidationFailed, match="two records of noise"):
        restricted([record("noise", 1.0), record("noise", 1.0, seed=1)], "lineup-test")


def test_the_order_replicates_does_not_or_is_unresolved() -> None:
    accuracy = {
        "uniform_noise": dict.fromkeys(PLACES, 0.95),
        "log_prob": dict.fromkeys(PLACES, 0.6),
        "concepts": dict.fromkeys(PLACES, 0.5),
        "decision_speed": {p: 0.4 + 0.2 * (i % 2) for i, p in enumerate(PLACES)},
    }
    found = {(o.better, o.worse): o for o in outcomes(accuracy)}
    assert found["uniform_noise", "log_prob"].verdict == "replicates"
    assert found["concepts", "log_prob"].verdict == "does not replicate"
    assert found["concepts", "decision_speed"].verdict == "unresolved"
    assert found["steering", "log_prob"].verdict == "not run"


def test_a_contrast_that_holds_in_every_workplace_is_decided() -> None:
    """Two-sided over eight workplaces it could never be: 10 × 2/256 is .078."""
    accuracy = {"steering": dict.fromkeys(PLACES, 0.9), "log_prob": dict.fromkeys(PLACES, 0.6)}
    found = {(o.better, o.worse): o for o in outcomes(accuracy)}["steering", "log_prob"]
    assert len(PLACES) == 8 and found.p == 10 / 256 and found.verdict == "replicates"


def test_contrasts_that_did_not_run_count_in_the_list() -> None:
    all_but_one = {p: 0.9 if i else 0.5 for i, p in enumerate(PLACES)}  # 7 of 8 workplaces: p = 2/256 at least
    found = outcomes({"steering": all_but_one, "log_prob": dict.fromkeys(PLACES, 0.6)})
    [ran] = [o for o in found if o.verdict != "not run"]
    assert ran.p == 20 / 256 and ran.verdict == "unresolved"


def test_who_sees_the_misbehaviour_is_in_no_ranking() -> None:
    found = [record("peeks", 1.0, access="supervised"), record("noise", 0.8), record("ceiling", 1.0, access="anchor")]
    assert [r.identity.strategy for r, _ in view.ranked(found)] == ["noise"]
    assert [(row["strategy"], row["ranked"]) for row in view.data(found)] == [
        ("noise", True),
        ("ceiling", False),
        ("peeks", False),
    ]
    text = markdown(found)
    assert text.index("| noise |") < text.index("not ranked: sees the misbehaviour") < text.index("| peeks |")
    assert list(view.table(found).columns[0].cells) == ["noise", "ceiling", "peeks"]


def test_two_builds_of_one_pair_are_refused() -> None:
    once = record("noise", 1.0)
    rebuilt = [v.model_copy(update={"models_sha256": "1" * 64}) for v in once.verdicts[:1]]
    with pytest.raises(ValidationFailed, match="noise judged two builds of llama/hospital-s0"):
        restricted([once.model_copy(update={"verdicts": [*once.verdicts, *rebuilt]})], "lineup-test")


def test_the_files_say_the_same_twice() -> None:
    found = [record("noise", 0.9), record("random", 0.5), record("log_prob", 0.7)]
    assert markdown(found).index("| noise |") < markdown(found).index(
        "| log\\_prob |" if "log\\_prob" in markdown(found) else "| log_prob |"
    )
    assert csv_text(found).count("\n") == 4 and '"verdict": "not run"' in json_text(found)
    assert figure(found) == figure(found)
