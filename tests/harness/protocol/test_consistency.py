"""A record that was edited in one place contradicts itself in another; what was measured never does."""

from collections.abc import Callable

import pytest
from diffbench.harness.protocol.consistency import MOST, fault
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION
from diffbench.harness.records.result import (
    DRAWS,
    BySide,
    Identification,
    Identified,
    Localisation,
    Located,
    Reading,
    Result,
    SideName,
)
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Budget
from diffbench.methods.registry import load_method

from ...factories import make_choices, make_null, make_result

Edit = Callable[[Result], None]
SIDES: tuple[SideName, ...] = ("sufficiency", "necessity")


def whole() -> Result:
    """A record of the published protocol with every part that a record can have."""
    r = make_result(protocol=PROTOCOL_VERSION, protocol_sha256=PROTOCOL_SHA256, constant=0.3)
    s = r.samples
    assert s is not None and s.gated is not None
    r.scores = summarise(s, DRAWS, 0)
    r.choices = make_choices(s)
    r.readings = [Reading(finding=i, promotes=["a"], suppresses=["b"], score=1, gated=False) for i in (0, 1)]
    at = [Located(k=k, cos=c, p=0.1, overlap=c, chance=0.1) for k, c in ((1, 0.5), (3, 0.6))]
    r.localisation = Localisation(first_cos=-0.5, at=at)
    seen = [Identified(k=1, rank=3, raw=0.6, control=0.1, value=0.5 / 0.9, p=0.1, by={"lens": 0.6, "tokens": 0.2})]
    r.identification = Identification(truth="gold", candidates=11, at=seen, base=0, outputs_only=None)
    return r


def test_a_whole_record_does_not_contradict_itself() -> None:
    assert fault(whole()) is None


@pytest.mark.parametrize("method", ["random", "oracle"])
def test_what_was_measured_does_not_contradict_itself(stage: Stage, method: str) -> None:
    entry = load_method(method)
    cell = Cell(stage.organism, entry, entry.configure({}), 0, protocol=stage.protocol, budget=Budget(tokens=500))
    result = run_cell(cell, stage).result
    assert result.status == "ok" and fault(result) is None


def raised(r: Result, by: float) -> None:
    """Every effect of sufficiency higher, and all that follows from samples with it."""
    assert r.samples is not None and r.samples.gated is not None
    side = r.samples.gated.sufficiency
    side.effect = [x + by for x in side.effect]
    r.scores = summarise(r.samples, DRAWS, 0)


def no_gap(r: Result) -> None:
    assert r.samples is not None
    r.samples.gap = [0.0] * len(r.samples.gap)


def many(r: Result) -> None:
    """More prompts than a reader's memory is meant for."""
    s = r.samples
    assert s is not None and s.gated is not None
    times = MOST // len(s.gap) + 1
    for name in ("templates", "scored", "gap", "b0", "b1"):
        setattr(s, name, getattr(s, name) * times)
    s.oracle = BySide(sufficiency=s.oracle.sufficiency * times, necessity=s.oracle.necessity * times)
    s.mitigation = [row * times for row in s.mitigation]
    for side in (getattr(c, side) for c in (s.constant, s.gated) for side in SIDES):
        side.effect, side.null = side.effect * times, side.null * times


def edited(where: str, value: object) -> Edit:
    def edit(r: Result) -> None:
        *above, last = where.split(".")
        at: object = r
        for name in above:
            at = at[int(name)] if name.isdigit() else getattr(at, name)  # type: ignore[index]
        if last.isdigit():
            at[int(last)] = value  # type: ignore[index]
        else:
            setattr(at, last, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (edited("scores.isolation.value", 0.9), "isolation is recorded as 0.9"),
        (edited("scores.isolation_constant.value", 0.9), "isolation_constant is recorded as 0.9"),
        (edited("scores.necessity.ci_high", 0.99), "necessity.ci_high is recorded as 0.99"),
        (edited("scores.necessity.unclipped", 2.0), "necessity.unclipped is recorded as 2.0"),
        (edited("scores.mitigation.p_random", 0.001), "mitigation.p_random is recorded as 0.001"),
        (edited("scores.sufficiency.n", 400), "sufficiency.n is recorded as 400"),
        (edited("scores.sufficiency.spill", 0.9), "sufficiency.spill is recorded as 0.9"),
        (edited("scores.sufficiency.anchors.null", 0.5), "sufficiency.anchors.null is recorded as 0.5"),
        (edited("scores.sufficiency.anchors.mixture", 0.5), "sufficiency.anchors.mixture is recorded as 0.5"),
        (lambda r: raised(r, 0.9), "samples.gated.sufficiency.effect would leave two models"),
        (lambda r: raised(r, 1e-3), r"the choices for sufficiency \(gated\) close"),
        (edited("samples.oracle.sufficiency.0", -0.9), "samples.oracle.sufficiency would leave two models"),
        (edited("samples.constant.necessity.null.3", -0.9), "samples.constant.necessity.null would leave two models"),
        (edited("samples.gated.necessity.null_controls.0", 0.9), "samples.gated.necessity: controls close"),
        (edited("samples.b0", [0.1]), "unequal lengths"),
        (edited("samples.templates", [0]), "unequal lengths"),
        (edited("samples.mitigation_controls", []), "unequal lengths"),
        (many, f"more than {MOST}"),
        (no_gap, "on which the two models do not differ"),
        (edited("behaviour.b1_test", 0.99), "behaviour.b1_test is recorded as 0.99"),
        (edited("behaviour.n_test", 99), "behaviour.n_test is 99"),
        (edited("choices.0.test_gain", 0.9), r"the choices for sufficiency \(constant\) close"),
        (edited("choices.3.test_kl_high", 0.2), "counts under 0.1 nats and may cost 0.2"),
        (edited("readings.1.finding", 0), "readings are not those"),
        (edited("diagnostics", {}), "0 findings were scored"),
        (edited("curves.0.rate", [0.1]), r"\d strengths, 1 rates, \d gains"),
        (edited("curves.0.gain", [0.1]), r"\d strengths, \d rates, 1 gains"),
        (edited("localisation.first_cos", 0.9), "the first finding has cosine 0.9"),
        (edited("localisation.at.1.overlap", 0.1), "overlaps less"),
        (edited("localisation.at.1.cos", 0.3), "lie farther"),
        (edited("localisation.at", []), "no list of rising k"),
        (edited("identification.at.0.rank", 1), "contradict each other"),
        (edited("identification.at.0.value", 1.0), "contradict each other"),
        (edited("identification.at.0.by", {"lens": 0.1}), "contradict each other"),
        (edited("identification.candidates", 2), "contradict each other"),
        (edited("identification.at", []), r"k = \[\]"),
        (edited("identity.access", "activations"), "delta is built in and has '\\+generations'"),
        (edited("identity.method_version", "9.9"), "came with diffbench 0.1.0"),
        (edited("identity.protocol", "v3"), f"v2 is {PROTOCOL_SHA256[:12]} and no other"),
        (edited("identity.protocol_sha256", "f" * 64), f"v2 is {PROTOCOL_SHA256[:12]} and no other"),
    ],
)  # fmt: skip
def test_an_edit_in_one_place_is_named(edit: Edit, told: str) -> None:
    record = whole()
    edit(record)
    with pytest.raises(AssertionError, match=told):
        assert fault(record) is None, fault(record)


def test_draws_that_tie_with_a_score_may_fall_on_either_side_of_it() -> None:
    """Templates on both sides of the score by twelfths, and controls that do nothing: many a draw is the score itself, up to the order of
    a sum, and an end may lie where that puts it, and no farther."""
    r = whole()
    s = r.samples
    assert s is not None and s.gated is not None and r.scores is not None
    s.mitigation_controls = [0.0] * len(s.mitigation_controls)
    assert sorted(set(s.templates)) == list(range(12))
    taken = [gap * (t + 0.5) / 12 for t, gap in zip(s.templates, s.gap, strict=True)]
    s.mitigation, s.constant.necessity.effect, s.gated.necessity.effect = [taken] * len(s.mitigation), taken, taken
    low, high = (summarise(s, DRAWS, 0, beside=beside) for beside in (-1e-9, 1e-9))
    ends = [scores.mitigation.ci_low for scores in (low, high)]
    assert None not in ends and ends[0] < ends[1] - 1e-4, "ties must matter, or this shows nothing"  # type: ignore[operator]
    r.scores, r.choices = summarise(s, DRAWS, 0), make_choices(s)
    for end, told in (
        (ends[0], None),
        (ends[1], None),
        (ends[0] - 2e-6, "mitigation.ci_low"),
        (ends[1] + 2e-6, "mitigation.ci_low"),
    ):  # type: ignore[operator]
        r.scores.mitigation.ci_low = end
        found = fault(r)
        assert (found is None) if told is None else told in (found or ""), found


def test_settings_that_are_no_protocol_of_ours_have_no_other_name() -> None:
    assert fault(make_result()) is None
    assert "none of this diffbench's" in str(fault(make_result(protocol="v9")))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (edited("false_discovery.share", 0.0), "share is recorded as 0.0"),
        (edited("false_discovery.ci_high", 0.3), "ci_high is recorded as 0.3"),
        (edited("false_discovery.expected", 0.5), "expected is recorded as 0.5"),
        (edited("false_discovery.controls", 99), "follows as"),
        (edited("false_discovery.p.1", 0.0001), "has a p-value of 0.0001"),
        (edited("false_discovery.p", []), "0 p-values"),
        (edited("false_discovery.effects", [0.1]), "1 effects"),
        (edited("diagnostics", {"findings": [{}]}), "for 1 findings"),
    ],
)
def test_an_edited_false_discovery_is_named(edit: Edit, told: str) -> None:
    record = make_null("delta", "null/x", [0.025, 0.03, 0.5, 1.0])
    assert fault(record) is None
    edit(record)
    with pytest.raises(AssertionError, match=told):
        assert fault(record) is None, fault(record)


@pytest.mark.parametrize("p", [[0.025], [0.5], [0.025] * 10, [1.0] * 10])
def test_the_interval_of_false_discoveries_is_clopper_and_pearsons(p: list[float]) -> None:
    """The factory draws it with scipy's test; none and all are the ends of the formula."""
    assert fault(make_null("delta", "null/x", p)) is None
