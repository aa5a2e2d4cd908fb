"""Claims are scored above chance: silence and guessing give 0, naming everything too, and on a null every claim is false."""

import json
from pathlib import Path
from random import Random

import pytest
from diffbench.cli import app
from diffbench.harness.verbal.scoring import Track, Verdicts, read, standings
from diffbench.harness.verbal.truth import Truth, truth_of
from diffbench.methods.contract import DiffResult, FindingError, check_confidences
from diffbench.organisms.errors import UsageError
from diffbench.organisms.organism import Organism
from typer.testing import CliRunner

TRUTH = Truth("gold", {w: (w,) for w in ("gold", "leaf", "moon", "song")})


def cell(claims: list[str], truth: Truth | None = TRUTH, confidences: list[float] | None = None, organism: str = "o"):
    return read(truth, organism, "m", 0, claims, confidences or [])


@pytest.mark.parametrize(
    ("claims", "value", "outcomes"),
    [
        (["It says Gold."], 1.0, ["right"]),
        ([], 0.0, []),
        (["golden marigold"], 0.0, ["unread"]),
        (["leaf"], -1 / 3, ["wrong"]),
        (["gold or leaf"], 2 / 3, ["mixed"]),
        (["gold, leaf, moon, song"], 0.0, ["mixed"]),
        (["gold", "leaf", "moon", "song"], 0.0, ["right", "wrong", "wrong", "wrong"]),
    ],
)
def test_a_cell(claims: list[str], value: float, outcomes: list[str]) -> None:
    found = cell(claims)
    assert found.value() == pytest.approx(value) and [c.outcome for c in found.claims] == outcomes
    assert found.silent == (not claims)


def test_guessing_is_worth_nothing_whatever_is_guessed() -> None:
    rng, labels = Random(0), list(TRUTH.answers)
    cells = [cell(rng.sample(labels, rng.randint(0, 4))) for _ in range(4000)]
    assert sum(c.value() for c in cells) / len(cells) == pytest.approx(0, abs=0.02)


def test_the_surest_claim_stands_by_itself() -> None:
    assert cell(["leaf", "gold"]).value(1) < 0 < cell(["leaf", "gold"]).value()


def test_claims_on_a_null_are_false_and_cost_precision() -> None:
    honest, loud = cell([], None, organism="null"), cell(["gold", "It is about rivers."], None, organism="null")
    assert [c.outcome for c in loud.claims] == ["false", "false"]
    quiet, noisy = (standings([cell(["gold"]), c])[0] for c in (honest, loud))
    assert (quiet.precision, quiet.null_silent, quiet.null_claims) == (1, 1, 0)
    assert (noisy.precision, noisy.null_silent, noisy.null_claims) == (pytest.approx(1 / 3), 0, 2)
    assert quiet.value == noisy.value == 1  # nulls have no answer to be right about


def test_intervals_are_over_organisms_and_confidences_are_scored() -> None:
    cells = [cell(["gold"], confidences=[0.9], organism=f"o{i}") for i in range(2)]
    cells.append(cell(["leaf"], confidences=[0.5], organism="o2"))
    s = standings(cells)[0]
    assert s.low is not None and s.value is not None and s.low < s.value and s.organisms == 3
    assert s.brier == pytest.approx((0.01 + 0.01 + 0.25) / 3)
    assert standings(cells[:1])[0].low is None


def test_a_judge_has_a_column_and_no_other_number() -> None:
    cells = [cell(["It hints at a metal.", "leaf"])]
    said = {"organism": "o", "claim": "It hints at a metal.", "verdict": "right"}
    judged = Verdicts.model_validate({"judge": "someone", "verdicts": [said]})
    with_, without = standings(cells, judged)[0], standings(cells)[0]
    assert (with_.judged, with_.unjudged, without.judged) == (1, 1, None)
    assert with_.model_dump(exclude={"judged", "unjudged"}) == without.model_dump(exclude={"judged", "unjudged"})


def test_confidences_belong_to_claims() -> None:
    assert check_confidences([0.9, 0.5], 2) == [0.9, 0.5] and check_confidences([], 3) == []
    assert DiffResult([]).confidences == []
    for wrong, said in (
        ([0.5], "1 confidences for 2"),
        ([1.2, 0.1], "from 0 to 1"),
        ([0.1, 0.9], "rise"),
        (0.5, "not a list"),
    ):
        with pytest.raises(FindingError, match=said):
            check_confidences(wrong, 2)


def test_the_truth_of_an_organism_is_what_identification_asks(organism: Organism) -> None:
    truth = truth_of(organism)
    assert truth is not None and truth.right == "gold" and len(truth.answers) == 20
    assert truth.named("a ring of GOLD, not golden") == {"gold"}


def test_the_command_scores_a_file_beside_a_judge(tmp_path: Path) -> None:
    track, verdicts = tmp_path / "track.json", tmp_path / "verdicts.json"
    track.write_text(Track(cells=[cell(["gold"]), cell(["x"], None, organism="null")]).model_dump_json())
    verdicts.write_text(
        json.dumps({"judge": "A. Reader", "verdicts": [{"organism": "o", "claim": "gold", "verdict": "wrong"}]})
    )
    words = ["verbal", "score", str(track), "--verdicts", str(verdicts)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "recorded verdicts of A. Reader, not ours" in shown.stdout
    assert "o, m, seed 0 ('gold' among 4)" in shown.stdout and "false: x" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["standings"][0]["value"] == 1 and found["standings"][0]["judged"] == 0
    verdicts.write_text('{"judge": "A", "verdicts": [{"organism": "o", "claim": "gold", "verdict": "maybe"}]}')
    wrong = CliRunner().invoke(app, words)
    assert wrong.exit_code == 4 and "verdicts.0.verdict" in wrong.stderr
    assert CliRunner().invoke(app, ["verbal", "score", str(tmp_path / "no.json")]).exit_code == 3


def test_verbal_methods_are_no_rows_of_the_headline() -> None:
    from diffbench.harness.worker.foreign import load
    from diffbench.methods.registry import load_method, method_names

    assert load_method("token_topics").access == "activations" and "token_topics" not in method_names()
    with pytest.raises(UsageError, match="bench verbal run -m token_topics"):
        load("token_topics")


def test_every_mean_is_over_organisms() -> None:
    thrice = [cell(["gold"], organism="a").model_copy(update={"seed": seed}) for seed in range(3)]
    [s] = standings([*thrice, cell([], organism="b")])
    assert (s.value, s.recall, s.silent, s.first, s.chance) == (0.5, 0.5, 0.5, 0.5, 0.125)


@pytest.mark.parametrize(
    ("of", "changed"),
    [("cell", {"answers": 1}), ("cell", {"answers": 0}), ("cell", {"right": None}), ("cell", {"null": True}),
     ("claim", {"confidence": 7.0}), ("claim", {"confidence": float("nan")}), ("track", {"schema_version": 99}), ("track", {"cells": []})],
)  # fmt: skip
def test_a_file_that_cannot_be_scored_is_refused(tmp_path: Path, of: str, changed: dict[str, object]) -> None:
    track = json.loads(Track(cells=[cell(["gold"])]).model_dump_json())
    {"track": track, "cell": track["cells"][0], "claim": track["cells"][0]["claims"][0]}[of].update(changed)
    (tmp_path / "track.json").write_text(json.dumps(track))
    refused = CliRunner().invoke(app, ["verbal", "score", str(tmp_path / "track.json")])
    assert refused.exit_code in (2, 4) and "error: " in refused.stderr
