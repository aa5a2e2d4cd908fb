"""What a method may return: anything else is refused by name, and what is accepted means what it says."""

import math
import unicodedata
from typing import Any

import pytest
import torch
from diffbench.harness.escape import CONTROLS, plain
from diffbench.harness.pairs.interventions import Directions
from diffbench.methods.catalogue import BUILTIN
from diffbench.methods.contract import MAX_FINDINGS, DiffResult, Finding, FindingError, Gate, check_findings
from diffbench.methods.registry import load_method

D = 6
ONE = torch.ones(D)

REFUSED: list[tuple[Any, str]] = [
    ([ONE], "returned list, not DiffResult"),
    (DiffResult([]), "no findings; return at least one"),
    (DiffResult([Finding(ONE)] * (MAX_FINDINGS + 1)), "17 findings; keep the best 16"),
    (DiffResult([ONE]), "finding 0 is Tensor, not Finding"),  # type: ignore[list-item]
    (DiffResult([Finding(ONE), Finding(torch.ones(D + 1))]), r"finding 1: direction has shape \[7\], expected \[6\]"),
    (DiffResult([Finding(ONE[None])]), r"shape \[1, 6\]"),
    (DiffResult([Finding(ONE * math.nan)]), "direction contains NaN or infinity"),
    (DiffResult([Finding(ONE * 1e30)]), "direction has length 2.45e+30, which single precision cannot square"),
    (DiffResult([Finding(ONE * 1e-25)]), "direction has length 2.45e-25"),
    (DiffResult([Finding(ONE, Gate(ONE * 1e20, 0.0))]), "gate.read has length 2.45e+20"),
    (DiffResult([Finding(ONE, Gate(ONE, math.inf))]), "gate.threshold is inf"),
    (DiffResult([Finding(ONE, (ONE, 0.0))]), "gate is tuple, not Gate"),  # type: ignore[arg-type]
    (DiffResult([Finding(ONE, score=math.nan)]), "score is nan"),
    (DiffResult([Finding(ONE, evidence={"x": ONE})]), "evidence is not JSON"),
    (DiffResult([Finding(ONE)], {"x": math.nan}), "diagnostics is not JSON"),
    (DiffResult([Finding(ONE)], dictionary={"x": [1]}), "'x'.* is list, not a tensor"),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(("result", "says"), REFUSED)
def test_refused(result: Any, says: str) -> None:
    with pytest.raises(FindingError, match=says.replace("+", r"\+")):
        check_findings(result, D)


def test_the_length_of_a_direction_means_nothing_and_zero_is_no_direction() -> None:
    lengths = (1e11, 1.0, 1e-11, 0.0)
    found = check_findings(DiffResult([Finding(ONE * length) for length in lengths]), D).findings
    *some, none = Directions.of(found).direction
    for each in some:
        torch.testing.assert_close(each, ONE / D**0.5)
    assert not none.any()


def test_the_catalogue_says_what_each_class_says_of_itself() -> None:
    for name, facts in BUILTIN.items():
        assert facts.data(name) == load_method(name).facts()


CLAIMS_REFUSED: list[tuple[Any, str]] = [
    ("it says gold", "claims is str, not a list of strings"),
    (None, "claims is NoneType"),
    (["a"] * 17, "17 claims; keep the surest 16"),
    (["fine", 3], "claim 1 is int, not a string"),
    (["  "], "claim 0 is empty; leave it out"),
    (["a" * 501], "claim 0 has 501 characters; say it in at most 500"),
    (["two\nlines"], "holds the character U\\+000A, a control"),
]


@pytest.mark.parametrize(("claims", "says"), CLAIMS_REFUSED, ids=lambda v: str(v)[:20])
def test_claims_are_short_lines_of_text(claims: Any, says: str) -> None:
    with pytest.raises(FindingError, match=says):
        check_findings(DiffResult([Finding(ONE)], claims=claims), D)


def test_a_claim_that_is_accepted_is_recorded_as_it_was_written() -> None:
    """A record escapes what could act on a terminal; no character that exists and that the contract lets through needs it."""
    for c in map(chr, range(0x110000)):
        if (CONTROLS.match(c) or c in "\t\n") and unicodedata.category(c) != "Cn":
            with pytest.raises(FindingError, match="U\\+"):
                check_findings(DiffResult([Finding(ONE)], claims=[f"a{c}b"]), D)
    said = ["It hints at „gold“ — naïve, 金, 🦊.", "a" * 500]
    assert check_findings(DiffResult([Finding(ONE)], claims=[f" {said[0]} ", said[1]]), D).claims == said
    assert [plain(claim) for claim in said] == said
