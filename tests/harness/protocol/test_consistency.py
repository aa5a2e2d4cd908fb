"""A record that was edited in one place contradicts itself in another; what was measured never does."""

import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffbench.harness.protocol.consistency import MOST, fault
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.identity import PROTOCOL_SHA256, sha256_json
from diffbench.harness.records.result import (
    DRAWS,
    Choice,
    Identification,
    Identified,
    Localisation,
    Located,
    Reading,
    Result,
)
from diffbench.harness.records.settings import PROTOCOL_V2

from ...factories import make_null, make_result

PUBLISHED = Path(__file__).parents[3] / "leaderboard" / "published"
Edit = Callable[[Result], None]


def whole() -> Result:
    """A record of the published protocol with every part that a record can have."""
    r = make_result(protocol="v1", protocol_sha256=PROTOCOL_SHA256)
    assert r.samples is not None
    r.scores = summarise(r.samples, DRAWS, 0)
    chosen = {"tau_nats": 0.1, "op": "add", "k": 1, "gated": False, "strength": 1, "dev_effect": 0, "test_kl_nats": 0}
    effects = {"sufficiency": np.mean(r.samples.sufficiency), "necessity": np.mean(r.samples.necessity)}
    r.choices = [Choice.model_validate(chosen | {"side": side, "test_effect": e}) for side, e in effects.items()]
    r.readings = [Reading(finding=i, promotes=["a"], suppresses=["b"], score=1, gated=False) for i in (0, 1)]
    at = [Located(k=k, cos=c, p=0.1, overlap=c, chance=0.1) for k, c in ((1, 0.5), (3, 0.6))]
    r.localisation = Localisation(first_cos=-0.5, at=at)
    seen = [Identified(k=1, rank=3, raw=0.6, control=0.1, value=0.5 / 0.9, p=0.1, by={"lens": 0.6, "tokens": 0.2})]
    r.identification = Identification(truth="gold", candidates=11, at=seen, base=0, outputs_only=None)
    return r


def test_the_published_settings_are_the_ones_whose_hash_is_written_down() -> None:
    assert sha256_json(PROTOCOL_V2.model_dump()) == PROTOCOL_SHA256 and PROTOCOL_V2.draws == DRAWS


@pytest.mark.parametrize("pack", ["planted/owl-weak", "null/benign-narrow"])
def test_what_was_measured_does_not_contradict_itself(pack: str) -> None:
    rows = lzma.decompress((PUBLISHED / f"{pack}.jsonl.xz").read_bytes()).decode().splitlines()
    assert len(rows) > 20
    assert [f for row in rows if (f := fault(Result.model_validate_json(row)))] == []
    assert fault(whole()) is None


def raised(r: Result, by: float) -> None:
    """Every sample of sufficiency higher, and all that follows from samples with it."""
    assert r.samples is not None
    r.samples.sufficiency = [x + by for x in r.samples.sufficiency]
    r.scores = summarise(r.samples, DRAWS, 0)
    for c in r.choices:
        c.test_effect += by if c.side == "sufficiency" else 0


def no_behaviour(r: Result) -> None:
    assert r.samples is not None
    r.samples.b1 = r.samples.b0
    for name in ("sufficiency", "necessity"):
        zero = [0.0] * len(r.samples.b0)
        rows = [zero for _ in r.samples.mitigation_controls]
        r.samples = r.samples.model_copy(update={name: zero, f"{name}_oracle": zero, f"{name}_controls": rows})


def many(r: Result) -> None:
    """More prompts than a reader's memory is meant for."""
    assert r.samples is not None
    again = MOST // len(r.samples.b0) + 1
    s = r.samples.model_dump()
    lists = {k: v * again for k, v in s.items() if isinstance(v, list) and k not in ("mitigation_retention",)}
    rows = {k: [row * again for row in s[k]] for k in s if k.endswith("y_controls") or k == "mitigation"}
    r.samples = r.samples.model_copy(update=lists | rows | {"mitigation_controls": s["mitigation_controls"]})


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
        (edited("scores.necessity.ci_high", 0.99), "necessity.ci_high is recorded as 0.99"),
        (edited("scores.mitigation.p_random", 0.001), "mitigation.p_random is recorded as 0.001"),
        (edited("scores.sufficiency.n", 400), "sufficiency.n is recorded as 400"),
        (edited("scores.sufficiency.anchors.null", 0.5), "sufficiency.anchors.null is recorded as 0.5"),
        (lambda r: raised(r, 0.9), "samples.sufficiency would move a behaviour rate to"),
        (edited("samples.sufficiency_oracle.0", -0.9), "samples.sufficiency_oracle would move a behaviour rate to"),
        (edited("samples.necessity_controls.0", [-0.9] * 24), "samples.necessity_controls would move a behaviour rate"),
        (edited("samples.b0", [0.1]), "unequal lengths"),
        (edited("samples.mitigation_controls", []), "unequal lengths"),
        (many, f"more than {MOST}"),
        (no_behaviour, "show no behaviour"),
        (edited("behaviour.b1_test", 0.99), "behaviour.b1_test is recorded as 0.99"),
        (edited("behaviour.n_test", 99), "behaviour.n_test is 99"),
        (edited("choices.0.test_effect", 0.9), "the choices for sufficiency"),
        (edited("readings.1.finding", 0), "readings are not those"),
        (edited("diagnostics", {}), "0 findings were scored"),
        (edited("curves.0.rate", [0.1]), "6 strengths, 1 rates"),
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
        (edited("identity.protocol", "v2"), "v1 is 25cc6a2ca2f8 and no other"),
        (edited("identity.protocol_sha256", "f" * 64), "v1 is 25cc6a2ca2f8 and no other"),
    ],
)  # fmt: skip
def test_an_edit_in_one_place_is_named(edit: Edit, told: str) -> None:
    record = whole()
    edit(record)
    with pytest.raises(AssertionError, match=told):
        assert fault(record) is None, fault(record)


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
