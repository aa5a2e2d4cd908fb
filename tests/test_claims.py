"""Verdicts follow from the numbers by the stated rules, whichever way these point."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.records.result import Result
from diffbench.harness.store.labels import as_published
from diffbench.leaderboard.pages.verdicts import replications
from diffbench.leaderboard.statistics.contrasts import answered
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.methods.catalogue import AS_PUBLISHED, PUBLISHED
from diffbench.organisms.errors import PrerequisiteError

from benchmarks import claims
from benchmarks.claims import BATCH_TOPK, DELTA, L1

from .factories import make_result, write_result

FAMILIES = [f"family{i}" for i in range(12)]
"""Eight contrasts in a list need nine families before any can be resolved."""
DSF = as_published("dsf")
SAES = ("sae_ft", "sae_base", "sae_diff", "sae_pair", "sae_stagewise")


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts of differences as clear as these need no fine intervals."""
    monkeypatch.setattr(claims, "build_table", partial(claims.build_table, draws=400))


def run(row: str, *arguments: Any) -> Result:
    """A cell of a row, with what makes it a paper's if it is one."""
    method, paper, _ = row.partition(AS_PUBLISHED)
    return make_result(method, *arguments, config=PUBLISHED[method] if paper else {})


def cells(quality: dict[str, float], seeds: int = 2) -> list[Result]:
    return [run(m, f"{f}/{o}", s, q) for m, q in quality.items() for f in FAMILIES for o in "ab" for s in range(seeds)]


@pytest.mark.parametrize(
    ("quality", "verdicts"),
    [
        ({DELTA: 0.8, DSF: 0.0, BATCH_TOPK: 0.0, "adl": 0.8, "saes": 0.1}, ["replicates", "replicates", "replicates"]),
        ({DELTA: 0.1, DSF: 0.8, BATCH_TOPK: 0.8, "adl": 0.8, "saes": 0.8}, ["does not replicate"] * 3),
        ({DELTA: 0.4, DSF: 0.4, BATCH_TOPK: 0.4, "adl": 0.4, "saes": 0.4}, ["unresolved", "replicates", "unresolved"]),
    ],
)
def test_claims_that_compare_methods_have_the_verdicts_of_the_board(
    quality: dict[str, float], verdicts: list[str]
) -> None:
    every = {m: q for m, q in quality.items() if m != "saes"} | dict.fromkeys(SAES, quality["saes"])
    results = cells(every)
    found = claims.compared(results, sorted({r.identity.organism for r in results}))
    assert [c.verdict for c in found] == verdicts
    board = build_table(results)
    assert [v for *_, v in replications(answered(board)["claims"])] == verdicts
    assert all("24 organisms, 2 seed(s) a method" in c.numbers for c in found)
    assert "delta@published against sae_ft: " in found[0].numbers and found[2].numbers.count(", share found: ") == 2
    sign = {"replicates": "+0.7", "does not replicate": "-0.7"}
    assert found[0].verdict == "unresolved" or sign[found[0].verdict] in found[0].numbers


def test_a_claim_of_methods_that_were_not_run_is_refused() -> None:
    results = cells({DELTA: 0.8, "adl": 0.8}, seeds=1)
    asked = r"asks about batch_topk@published, dsf@published, sae_base, .*: run `bench run -m batch_topk@published,dsf@published,sae_base,"
    with pytest.raises(PrerequisiteError, match=asked):
        claims.compared(results, sorted({r.identity.organism for r in results}))


@pytest.mark.parametrize(
    ("l1", "verdict"), [((0.5, 0.6), "replicates"), ((0.0, 0.01), "does not replicate"), ((0.1, 0.9), "unresolved")]
)
def test_artefacts_on_planted_data(l1: tuple[float, float], verdict: str) -> None:
    fits = [
        {"method": m, "setting": "sparse", "price": price, "seed": s, "shrunken": rate, "decoupled": rate}
        for m, price, rates in (("l1", 2.0, l1), ("l1", 0.5, (0.0, 0.0)), ("batch_topk", None, (0.2, 0.2)))
        for s, rate in enumerate(rates)
    ]
    if verdict != "unresolved":  # a third draw, so that Student's interval is not all there is
        fits += [{**f, "seed": 2} for f in fits if f["seed"] == 1]
    assert claims.misattributes({"fits": fits}).verdict == verdict


def dictionary(method: str, organism: str, ft_only: int, rate: float | None = None) -> Result:
    return run(method, organism).model_copy(
        update={
            "diagnostics": {
                "decoder_norms": {"ft_only": ft_only, "base_only": 0, "shared": 100 - ft_only},
                "latent_scaling": {"complete_shrinkage": {"rate": rate, "n": ft_only if rate is not None else 0}},
            }
        }
    )


def make_seed(cell: Result, seed: int) -> Result:
    seeds = cell.identity.seeds | {"method": seed}
    return cell.model_copy(update={"identity": cell.identity.model_copy(update={"seeds": seeds})})


def test_flags_and_tails() -> None:
    l1 = [dictionary(L1, f"taboo/{i}", 20, 0.5) for i in range(3)]
    quiet = [dictionary(BATCH_TOPK, f"taboo/{i}", 20, 0.0) for i in range(3)]
    twice = claims.flagged([*l1, *quiet, make_seed(l1[0], 1)]).numbers
    assert "l1@published: 40 of 80 latents called fine-tuned only in 4 runs on 3 organisms" in twice
    silent = [dictionary(BATCH_TOPK, "taboo/1", 0)]
    assert claims.flagged(l1 + quiet).verdict == "replicates"
    swapped = [dictionary(L1, "taboo/1", 60, 0.0), dictionary(BATCH_TOPK, "taboo/1", 60, 0.5)]
    assert claims.flagged(swapped).verdict == "does not replicate"
    assert claims.flagged(l1 + silent).verdict == "unresolved"
    elsewhere = [dictionary(L1, f"backdoor/{i}", 60, 1.0) for i in range(3)]  # where BatchTopK calls none
    mixed = claims.flagged([*elsewhere, dictionary(L1, "taboo/1", 20, 0.0), quiet[1]])
    assert mixed.verdict == "unresolved" and "not counted: l1@published 180, batch_topk@published 0" in mixed.numbers

    tail = [dictionary(DELTA, f"taboo/{i}", 4 + i) for i in range(4)]
    none = dictionary(DELTA, claims.IDENTICAL, 0)
    assert claims.no_tail([*tail, none]).verdict == "replicates"
    assert claims.no_tail([*tail, dictionary(DELTA, claims.IDENTICAL, 1)]).verdict == "does not replicate"
    assert claims.no_tail([dictionary(DELTA, "taboo/1", 0), none]).verdict == "unresolved"
    assert claims.no_tail(tail).verdict == "unresolved"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([-0.05, 0.1], "replicates"), ([-0.3, -0.01], "does not replicate"), ([-0.3, 0.2], "unresolved")],
)
def test_contrastive_text(interval: list[float], verdict: str) -> None:
    row = {"organism": "mean", "variant": "no contrastive text", "difference": 0.0, "difference_interval": interval}
    claim = claims.no_data({"rows": [{**row, "organism": "x"}, row]})
    assert claim.verdict == verdict and verdict in claims.markdown([claim])


def test_an_ablation_of_another_protocol_is_none(tmp_path: Path) -> None:
    """v1's record did not say under which protocol it was made."""
    record = tmp_path / "ablation.json"
    for content in (None, {"seeds": [0], "rows": []}, {"protocol": "v3", "seeds": [0], "rows": []}):
        if content is not None:
            record.write_text(json.dumps(content))
        with pytest.raises(
            PrerequisiteError, match=r"no ablation under protocol v2: run `python -m benchmarks.ablation`"
        ):
            claims.measured(record)
    record.write_text(json.dumps({"protocol": "v2", "seeds": [0], "rows": []}))
    assert claims.measured(record)["seeds"] == [0]


def test_a_few_organisms_judge_no_claim(tmp_path: Path) -> None:
    for cell in cells({DELTA: 0.5, "adl": 0.5}):
        write_result(tmp_path / "runs", cell)
    page = tmp_path / "claims.md"
    page.write_text("as it was")
    with pytest.raises(PrerequisiteError, match="judged on all of core-v2"):
        claims.main(tmp_path / "runs", page=page)
    assert page.read_text() == "as it was"
