"""The table of explanations: own against others' by hand, and intervals that widen with the organisms."""

from typing import Any

import pytest

from benchmarks.explaining import OF_EXPLANATIONS, beats, interval, table


def row(own: float, *shuffled: float, scorer: str = "detection") -> dict[str, Any]:
    return {"scorer": scorer, "finding": 1, "own": own, "shuffled": list(shuffled)}


def run(organism: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "organism": organism,
        "method": "delta",
        "findings": 3,
        "explained": 2,
        "tokens": 9000,
        "intruder": [0.4],
        "rows": list(rows),
    }


def test_a_finding_weighs_the_same_however_many_others_there_are() -> None:
    assert beats([row(0.9, 0.5, 0.9, 1.0), row(0.7, 0.6)]) == pytest.approx((0.5 + 1) / 2)
    assert beats([row(0.9)]) is None


def test_an_interval_draws_organisms_and_then_findings() -> None:
    good, bad = [row(0.9, 0.5)] * 4, [row(0.1, 0.5)] * 4
    assert interval({"a": good, "b": good}, beats) == (1.0, 1.0)
    assert interval({"a": good, "b": bad}, beats) == (0.0, 1.0)


def test_the_table_says_what_there_is_none_of() -> None:
    text = table([run("taboo/x", row(0.9, 0.5)), run("planted/y", row(0.6, 0.6), row(0.4, 0.2, scorer="fuzzing"))])
    assert "2 runs of delta on taboo/x, planted/y; 4 of 6 findings" in text
    assert "| taboo | detection | 1 | 0.90 | 0.50 | 1.00 [1.00, 1.00] |" in text
    assert "| planted | detection | 1 | 0.60 | 0.60 | 0.50 [0.50, 0.50] |" in text
    assert "| taboo | fuzzing | 0 | n/a | n/a | n/a |" in text and "| taboo | intruder | 1 | 0.40 | | |" in text
    assert text.count("\n| taboo") == len(OF_EXPLANATIONS) + 1
