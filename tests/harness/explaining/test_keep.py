"""Explanations beside a run, written in more than one call: what a call does not ask for again is not lost by it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.harness.explaining import explain as module
from diffbench.harness.explaining.explain import ALONE, keep
from diffbench.harness.inspection.explained import Beside, Explanations
from diffbench.harness.inspection.report import Explained, Scorer, WordScore

SUBJECT: Any = SimpleNamespace(sha256=None, organism=SimpleNamespace(sha256="0" * 64), layer=1)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "explained.json"
    monkeypatch.setattr(module, "explanations_of", lambda of: read(file) if file.exists() else None)  # type: ignore[reportUnknownLambdaType]
    return file


def read(path: Path) -> Beside:
    return Beside.model_validate_json(path.read_text())


def score(scorer: Scorer, value: float, shuffled: list[float] | None = None) -> WordScore:
    return WordScore(
        scorer=scorer,
        metric="AUROC",
        by="m",
        value=value,
        low=None,
        high=None,
        chance=0.5,
        active=9,
        other=9,
        failed=0,
        shuffled=shuffled or [],
        why=None,
    )


def call(number: int, scores: list[WordScore], text: str = "words", outputs: str | None = None) -> Explanations:
    one = Explained(explainer="m", text=text, outputs=outputs, coverage="some", scores=scores)
    notes = ["of the organism", *([] if any(s.shuffled for s in scores) else [ALONE])]
    return Explanations(explainer="m", prompts="1", seed=0, tokens=100, notes=notes, findings={number: one})


def test_scores_that_are_not_asked_for_again_stay(path: Path) -> None:
    keep(path, SUBJECT, call(1, [score("detection", 0.7, [0.5]), score("intervention", 0.6, [0.4])], outputs="said"))
    keep(path, SUBJECT, call(1, [score("detection", 0.7), score("fuzzing", 0.9)]))
    keep(path, SUBJECT, call(2, [score("detection", 0.8)]))
    found = read(path).by["m"]
    first = found.findings[1]
    assert {s.scorer: (s.value, s.shuffled) for s in first.scores} == {
        "detection": (0.7, [0.5]),
        "fuzzing": (0.9, []),
        "intervention": (0.6, [0.4]),
    }
    assert [s.scorer for s in first.scores] == ["detection", "fuzzing", "intervention"] and first.outputs == "said"
    assert set(found.findings) == {1, 2} and found.notes == ["of the organism"]


def test_a_score_that_is_another_is_the_new_one_alone(path: Path) -> None:
    keep(path, SUBJECT, call(1, [score("detection", 0.7, [0.5])]))
    keep(path, SUBJECT, call(1, [score("detection", 0.8)]))
    found = read(path).by["m"]
    assert [(s.value, s.shuffled) for s in found.findings[1].scores] == [(0.8, [])] and ALONE in found.notes


def test_of_other_words_nothing_stays(path: Path) -> None:
    keep(path, SUBJECT, call(1, [score("detection", 0.7, [0.5])], outputs="said"))
    keep(path, SUBJECT, call(1, [score("fuzzing", 0.9)], "other words"))
    first = read(path).by["m"].findings[1]
    assert [s.scorer for s in first.scores] == ["fuzzing"] and first.outputs is None
