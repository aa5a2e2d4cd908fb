"""Scores: answers that cannot be read count as nothing, the last batch may be short, and each has its chance and the others' beside it."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from diffbench.harness.explaining import scores
from diffbench.harness.explaining.contexts import Half, Window
from diffbench.harness.explaining.endpoint import Reply
from diffbench.harness.explaining.judges import Model, Rules
from diffbench.harness.explaining.ngrams import Explanation, Term
from diffbench.harness.explaining.prompts import BATCH, Prompt
from diffbench.harness.inspection.faces.words import score_line

TOKENIZER: Any = type("Letters", (), {"decode": lambda self, ids: " ".join(chr(i) for i in ids)})()
HALF = Half(
    [Window(tuple(map(ord, f"ab{c}x")), (0.0, 0.0, 0.0, 2.0), i) for i, c in enumerate("cdefghi")],
    [Window(tuple(map(ord, f"ab{c}y")), (0.0,) * 4) for c in "klmnop"],
)
RIGHT = Explanation("the letter x", (Term((ord("x"),), "x", 3.0),), (Term((ord("x"),), "x", 2.0),), 1.5, 1.0)
WRONG = Explanation("the letter y", (Term((ord("y"),), "y", 3.0),), (Term((ord("a"),), "a", 2.0),), 1.5, 1.0)


class Script:
    """An endpoint whose model finds an x, but for the requests that it gives no JSON to."""

    model = "m"

    def __init__(self, unread: Sequence[int] = (), logprobs: bool = True):
        self.unread, self.asked, self.logprobs = unread, list[Prompt](), logprobs

    def ask(self, prompts: Sequence[Prompt], read: Any) -> list[Any]:
        out = list[Any]()
        for i, p in enumerate(prompts):
            self.asked.append(p)
            texts = re.findall(r"^\d+\. (.*)$", p.user, re.M)
            said = json.dumps(
                {"answers": [int("«x»" in t if "«" in p.system else "x" in t) for t in texts], "explanation": "x"}
            )
            if p.logprobs:
                said = json.dumps([9 * ("x" in t) for t in texts])
            rows = [{"token": c, "logprob": 0.0} for c in said if c.isdigit()] if self.logprobs else []
            content = "no" if i in self.unread else said
            message = {"message": {"content": content}, "logprobs": {"content": rows}}
            out.append(read(Reply({"choices": [message]}), i))
        return out


def rules() -> Rules:
    return Rules(TOKENIZER, None, 0)  # pyright: ignore[reportArgumentType]


def model(**how: Any) -> tuple[Model, Script]:
    script = Script(**how)
    return Model(TOKENIZER, script), script  # pyright: ignore[reportArgumentType]


def test_a_right_rule_is_at_1_and_a_wrong_one_below_chance() -> None:
    for s, own, other in (
        (scores.detection, 1.0, 0.0),
        (lambda j, e, h: scores.fuzzing(j, e, h, 0), 1.0, 0.4),
        (scores.simulation, 1.0, 0.0),
    ):
        right, wrong = s(rules(), RIGHT, HALF), s(rules(), WRONG, HALF)
        assert right.value == pytest.approx(own) and wrong.value is not None and wrong.value <= other
        assert right.low is not None and wrong.low is not None and right.chance in (0.5, 0.0) and right.failed == 0


def test_unread_answers_are_counted_and_scored_as_nothing() -> None:
    """delphi drops them, and counts none."""
    judge, _ = model(unread=[0])
    found = scores.detection(judge, RIGHT, HALF)
    assert (found.failed, found.active + found.other, found.value) == (BATCH, 13 - BATCH, 1.0)
    assert "5 answers could not be read" in score_line(found)
    judge, _ = model(unread=range(3))
    nothing = scores.detection(judge, RIGHT, HALF)
    assert (
        nothing.value is None and nothing.failed == 13 and "13 of 13 answers could not be read" in score_line(nothing)
    )


def test_the_last_batch_may_be_short_and_nothing_of_the_order_says_what_is_active() -> None:
    judge, script = model()
    assert scores.detection(judge, RIGHT, HALF).value == 1.0
    texts = [re.findall(r"^\d+\. (.*)$", p.user, re.M) for p in script.asked]
    assert [len(t) for t in texts] == [BATCH, BATCH, 3]
    assert 0 < sum("x" in t for t in texts[0] + texts[1][:2]) < 7  # not the active ones first


def test_fuzzing_asks_of_each_window_twice_with_as_many_marks() -> None:
    judge, script = model()
    found = scores.fuzzing(judge, RIGHT, HALF, 0)
    marks = [t.count("«") for p in script.asked for t in re.findall(r"^\d+\. (.*)$", p.user, re.M)]
    assert found.value == 1.0 and (found.active, found.other) == (7, 7) and set(marks) == {1}


def test_a_simulation_without_log_probabilities_is_none_and_costs_one_request() -> None:
    judge, script = model(logprobs=False)
    found = scores.simulation(judge, RIGHT, HALF)
    assert found.value is None and found.why == "the endpoint gives no log-probabilities" and len(script.asked) == 1
    judge, _ = model()
    assert (scores.simulation(judge, RIGHT, HALF).value or 0) > 0.99


def test_a_simulation_that_never_varies_is_none_and_not_0() -> None:
    found = scores.simulation(rules(), Explanation("nothing"), HALF)
    assert found.value is None and found.why == "the simulated activations never vary"


def test_an_explainer_sees_windows_that_are_not_active_as_well() -> None:
    """delphi's contrastive explainer reads a field that such windows lack."""
    judge, script = model()
    said = judge.explain(HALF)
    assert said is not None and said.text == "x" and not said.is_rule
    active, other = script.asked[0].user.split("Not active:")
    assert active.count("«x»") == 7 and "x: 9" in active and "«" not in other and other.count(". a b") == 6


def test_a_line_has_chance_interval_and_the_others() -> None:
    found = scores.detection(rules(), RIGHT, HALF).model_copy(update={"shuffled": [0.5, 0.6]})
    assert score_line(found) == (
        "detection 1.00 [1.00, 1.00]: balanced accuracy by its n-grams, AUROC 1.00, chance 0.5, 7 windows and 6 others; "
        "others' explanations 0.55"
    )
