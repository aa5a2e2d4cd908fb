"""The page of the matrix stands on the seeds that are everywhere, and shows the others apart."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.result import FalseDiscovery, Result

from benchmarks import results

from .factories import make_result, write_result

CORE = ["backdoor/a", "null/a", "taboo/a", "taboo/b"]
PAGE = "# Page\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nend\n"


def null(method: str, seed: int, p: list[float]) -> Result:
    found = FalseDiscovery(
        effects=[0.1] * len(p), p=p, share=0, ci_low=0, ci_high=1, expected=0.025, controls=39, p_min=0.025
    )
    cell = make_result(method, "null/a", seed)
    return cell.model_copy(update={"samples": None, "scores": None, "behaviour": None, "false_discovery": found})


@pytest.fixture
def cells() -> list[Result]:
    behaviours = [o for o in CORE if not o.startswith("null")]
    return [
        *(make_result(m, o, 0, q) for o in behaviours for m, q in (("delta", 0.9), ("l1", 0.1), ("pca", 0.5))),
        *(make_result(m, "taboo/a", s, q) for s in (1, 2) for m, q in (("delta", 0.9), ("l1", 0.1))),
        *(null(m, 0, [0.025, 0.5]) for m in ("delta", "l1")),
        null("pca", 0, [0.5]),
        null("delta", 1, [0.025]),
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
    assert "up to 1 seed " in text and "half" not in text and "| 1 [1-1] |" in text
    assert (
        "| *the fine-tune* | – | – |" in text
        and "| delta | 2 of 3 | 2 of 3 |" in text
        and "| pca | 0 of 1 | 0 of 1 |" in text
    )
    _, _, by_seed = text.partition("Seed by seed")
    assert by_seed.count("| taboo/a |") == 1 and "| pca |" not in by_seed
    own = next(line for line in by_seed.splitlines() if line.startswith("| delta"))
    assert [len(cell.split()) for cell in own.strip("| ").split("|")] == [1, 3]
    assert "Components from 1 organism with" in text and "3 organisms in 2 clusters" in text
    short = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert [line.split("|")[4].strip() for line in short[2:]] == ["`delta`", "`pca`", "`l1`"]
    assert readme.read_text().endswith("<!-- measured: end -->\nend\n") and "By organism" not in text


def test_only_seeds_that_are_everywhere_count(cells: list[Result]) -> None:
    kept = results.whole(cells, CORE)
    assert {(r.identity.method, r.identity.seeds["method"]) for r in kept} == {("delta", 0), ("l1", 0), ("pca", 0)}
    assert results.several(cells) == (["delta", "l1"], ["taboo/a"])
    assert results.several([c for c in cells if c.identity.seeds["method"] == 0]) == ([], [])
