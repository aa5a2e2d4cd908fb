"""The page of the matrix stands on the seeds that are everywhere."""

import re
import sys
from pathlib import Path
from typing import Literal

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.records.result import Choice, Result

from benchmarks import results

from .factories import make_null, make_result, write_result

CORE = ["backdoor/a", "null/a", "taboo/a", "taboo/b"]
PAGE = "# Page\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nend\n"


@pytest.fixture
def cells() -> list[Result]:
    """delta and l1 with seeds 0 and 1 everywhere, delta with seed 2 on one organism; pca with one seed; half lacks organisms."""
    behaviours = [o for o in CORE if not o.startswith("null")]
    return [
        *(make_result(m, o, s, q) for o in behaviours for m, q in (("delta", 0.9), ("l1", 0.1)) for s in (0, 1)),
        *(make_result("pca", o, 0, 0.5) for o in behaviours),
        make_result("delta", "taboo/a", 2, 0.9),
        *(make_null(m, "null/a", [0.025, 0.5], s) for m in ("delta", "l1") for s in (0, 1)),
        make_null("pca", "null/a", [0.5]),
        make_result("half", "taboo/a"),
    ]


def test_the_page(cells: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in cells:
        write_result(tmp_path / "runs", cell)
    monkeypatch.setattr(results, "CORE_V1", CORE)
    page, readme = tmp_path / "results.md", tmp_path / "README.md"
    for path in (page, readme):
        path.write_text(PAGE)
    results.main(tmp_path / "runs", page, readme)
    text = page.read_text()
    assert re.findall("^#+ .*", text, re.MULTILINE) == [
        "# Page",
        "## Core-v1",
        "### Beyond isolation",
        "## Verdicts",
        "## False discoveries, null by null",
        "## Seed by seed",
        "## Budgets on test text",
        "## Where the noise of isolation comes from",
    ]
    assert "up to 2 seeds " in text and "half" not in text and "| 1 [1-1] |" in text
    assert "Not asked, for want of runs on every organism of this set: random" in text
    assert "| *the fine-tune* | – | – |" in text
    assert "| delta | 2 of 4 | 2 of 4 | 2 |" in text and "| pca | 0 of 1 | 0 of 1 | 1 |" in text
    assert "3 ranked methods, 2 of them with several seeds (2); 3 organisms in 2 clusters" in text
    short = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in short[2:]] == ["`delta`", "`pca`", "`l1`"]
    assert readme.read_text().endswith("<!-- measured: end -->\nend\n") and "By organism" not in text


def test_only_seeds_that_are_everywhere_count(cells: list[Result]) -> None:
    kept = results.whole(cells, CORE)
    found = {("delta", 0), ("delta", 1), ("l1", 0), ("l1", 1), ("pca", 0)}
    assert {(r.identity.method, r.identity.seeds["method"]) for r in kept} == found
    more = [*kept, *(make_result("l1", o, 2) for o in CORE)]
    assert results.common(more) == results.common(kept) == kept


def test_budgets_by_hand() -> None:
    """Of .1 nats .05 and .08 were used to add, .1 once of twice to take out; no finding has a gate."""
    some = [
        chosen("sufficiency", 0.05),
        chosen("sufficiency", 0.08),
        chosen("necessity", 0.1),
        chosen("necessity", 0.0, "none"),
    ]
    text = results.budgets([make_result("delta", "taboo/a").model_copy(update={"choices": some})])
    assert text.splitlines()[-1] == "| 0.1 | 2 of 2, 0.65 | 1 of 2, 1.00 | – | – |"


def chosen(side: Literal["sufficiency", "necessity"], kl: float, op: Literal["add", "none"] = "add") -> Choice:
    return Choice(
        column="constant",
        side=side,
        tau_nats=0.1,
        op=op,
        k=1,
        gated=False,
        strength=1.0,
        dev_gain=0.1,
        test_gain=0.1,
        test_rate=0.5,
        dev_kl_nats=kl,
        test_kl_nats=kl,
        test_kl_high=kl,
    )


def test_seeds_by_hand() -> None:
    """Isolations .8 and .2 on one organism, .5 and .4 on the other: headlines .65 and .3; variances .18 and .005, so √.0925."""
    values = {("taboo/a", 0): 0.8, ("taboo/a", 1): 0.2, ("taboo/b", 0): 0.5, ("taboo/b", 1): 0.4}
    own = [scored("delta", *where, value) for where, value in values.items()]
    text = results.seeds(
        [*own, *(make_null("delta", "null/a", [0.5], s) for s in (0, 1)), make_result("pca", "taboo/a")]
    )
    assert text.splitlines()[-1] == "| delta | .65 .30 | .30 | 1 of 2 | taboo/a (.80 .20) |"
    assert results.seeds([make_result("pca", "taboo/a")]) == "Every method has one seed.\n"


def scored(method: str, organism: str, seed: int, value: float) -> Result:
    cell = make_result(method, organism, seed)
    assert cell.scores
    isolation = cell.scores.isolation.model_copy(update={"value": value})
    return cell.model_copy(update={"scores": cell.scores.model_copy(update={"isolation": isolation})})
