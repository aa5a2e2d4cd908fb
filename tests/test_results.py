"""The results page stands on the seeds that are everywhere, on records of this protocol alone, with verdicts where they can be."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION
from diffbench.harness.records.result import Choice, Result
from diffbench.leaderboard.statistics.rows import AnchorRow
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.methods.catalogue import AS_PUBLISHED, BUILTIN, PUBLISHED
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.sets import HEADLINE, members

from benchmarks import results
from benchmarks.table import BEGIN, END

from .factories import make_null, make_result, write_result

ROOT = Path(__file__).parent.parent
V1 = ROOT / "tests" / "leaderboard" / "board" / "v1-result.json"
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
    monkeypatch.setattr(results, "members", lambda name: CORE)
    page, readme = pages(tmp_path)
    results.main(tmp_path / "runs", page, readme)
    text = page.read_text()
    assert re.findall("^#+ .*", text, re.MULTILINE) == [
        "# Page",
        "## Method by method",
        "## Organism by organism",
        "## What 0 and 1 are",
        "## False discoveries, null by null",
        "## Seed by seed",
        "## Budgets on test text",
    ]
    assert "up to 2 seeds " in text and "half" not in text
    assert "| *the fine-tune* | – | – |" in text
    assert "| delta | 2 of 4 | 2 of 4 | 2 |" in text and "| pca | 0 of 1 | 0 of 1 | 1 |" in text
    short = [line.split("|") for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in short[2:]] == ["`delta`", "`pca`", "`l1`", results.MIXTURES]
    assert [row[-2].strip() for row in short[2:]] == ["2", "1", "2", "–"]
    columns = ["isolation", "isolation, constant", "sufficiency", "necessity", "mitigation"]
    assert [name.strip() for name in short[0][1:-1]] == ["method", *columns, "seeds"]
    assert readme.read_text().endswith("<!-- measured: end -->\nend\n") and "By organism" not in text
    for written in (text, readme.read_text()):
        assert "4 organisms of 3 families" in written and "too few" in written
        assert not re.search("[Ss]eparated|[Rr]ank \\||Holm", written), "three families are no ground for a verdict"


def test_many_organisms_are_rows_and_six_families_get_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine organisms of six families: family means by hand, verdicts from the contrasts, and nothing said of too few."""
    core = [f"f{i}/{name}" for i in range(6) for name in (("a", "b") if i < 3 else ("a",))]
    scores = {"delta": 0.9, "random_difference": 0.5, "logit_diff": 0.6}
    for organism in core:
        for method, q in scores.items():
            write_result(tmp_path / "runs", make_result(method, organism, 0, q if organism != "f0/a" else q - 0.4))
    monkeypatch.setattr(results, "members", lambda name: core)
    page, readme = pages(tmp_path)
    results.main(tmp_path / "runs", page, readme)
    text = page.read_text()
    assert re.findall("^## .*", text, re.MULTILINE)[:5] == [
        "## Method by method",
        "## Verdicts",
        "## Where the spread is",
        "## Family by family",
        "## Organism by organism",
    ]
    assert "too few" not in text and "too few" not in readme.read_text()
    table = build_table(results.usable(tmp_path / "runs"), core)
    found = {(r.method, r.organism): r.scores["isolation"].value or 0 for r in table.cells}
    of_family = {m: results.number((found[m, "f0/a"] + found[m, "f0/b"]) / 2) for m in scores}
    assert f"| `delta` | {of_family['delta']} |" in text and "| method | f0 | f1 | f2 | f3 | f4 | f5 |" in text
    assert "| organism | `delta` | `logit_diff` | `random_difference` |" in text
    assert (
        f"| f0/a | {results.number(found['delta', 'f0/a'])} | {results.number(found['logit_diff', 'f0/a'])} |" in text
    )
    assert (
        re.search(r"^### Against random", text, re.MULTILINE)
        and "0 of 2 methods better, 0 worse, 2 not resolved" in text
    )


def test_the_spread_is_cut_into_parts_that_add_up() -> None:
    """By hand: two methods on families x (two organisms) and y; each part alone is all there is, and a mixture is what its parts are."""
    named = np.array(["x", "x", "y"])
    families, organisms, methods = np.array([[1, 1, -2]] * 2), np.array([[1, -1, 0]] * 2), np.array([[1] * 3, [-1] * 3])
    crossed, rest = np.array([[1, 1, -2], [-1, -1, 2]]), np.array([[1, -1, 0], [-1, 1, 0]])
    parts = [part.astype(float) for part in (families, organisms, methods, crossed, rest)]
    for i, part in enumerate(parts):
        assert results.squares(part + 0.3, named) == pytest.approx([float(i == j) for j in range(5)])
    sums = np.array([12, 4, 6, 12, 4]) * np.array([1, 4, 9, 16, 25])
    mixed = sum(n * part for n, part in zip((1, 2, 3, 4, 5), parts, strict=True))
    assert results.squares(np.asarray(mixed), named) == pytest.approx(sums / sums.sum())


def test_families_of_unlike_size_add_up_too() -> None:
    values = np.random.default_rng(0).random((4, 6))
    parts = results.squares(values, np.array(list("xxxyyz")))
    total = ((values - values.mean()) ** 2).sum()
    between = ((values.mean(1) - values.mean()) ** 2).sum() * 6
    assert parts[2] == pytest.approx(between / total), "of methods, as one way of analysis of variance has it"


@pytest.mark.parametrize(("families", "possible"), [(5, False), (6, True)])
def test_verdicts_need_six_families(families: int, possible: bool) -> None:
    """2 / 2⁵ = .0625 and 2 / 2⁶ = .031."""
    table = build_table([make_result("delta", f"f{i}/a") for i in range(families)], draws=50)
    assert results.verdicts_possible(table) == possible


def pages(folder: Path) -> tuple[Path, Path]:
    page, readme = folder / "results.md", folder / "README.md"
    for path in (page, readme):
        path.write_text(PAGE)
    return page, readme


def test_mixtures_by_hand() -> None:
    """(.4 − .1) / (.9 − .1) = .375 and, controls that do harm giving no start, .5 / 1; where they add nothing isolation is 0."""
    behaviours = [o for o in CORE if o.startswith("taboo")]
    table = build_table([make_result("delta", o) for o in behaviours], draws=50)
    measured = {"taboo/a": ((0.1, 0.4, 0.9), (-0.1, 0.5, 1.0)), "taboo/b": ((0.2, 0.2, 1.0), (0.0, 0.7, 1.0))}
    anchors = tuple(
        AnchorRow(o, side, 0.7, *numbers)
        for o, both in measured.items()
        for side, numbers in zip(("sufficiency", "necessity"), both, strict=True)
    )
    table = replace(table, anchors=anchors)
    mixed = results.mixtures(table, table.counted)
    harmonic = 2 * 0.375 * 0.5 / 0.875
    assert {s: e.value for s, e in mixed.items()} == pytest.approx(
        {
            "isolation": harmonic / 2,
            "isolation_constant": harmonic / 2,
            "sufficiency": 0.1875,
            "necessity": 0.6,
            "mitigation": None,
        }
    )
    assert results.by_organism(table).splitlines()[-1] == "| *mixtures of differences* | .43 | .00 |"
    assert not results.mixtures(replace(table, anchors=()), table.counted)
    assert results.MIXTURES not in results.methods(replace(table, anchors=()))


def test_a_page_is_not_made_from_what_is_left_beside_a_record_of_v1(cells: list[Result], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for cell in cells:
        write_result(runs, cell)
    (runs / "old").mkdir()
    (runs / "old" / "result.json").write_bytes(V1.read_bytes())
    page, readme = pages(tmp_path)
    with pytest.raises(ValidationFailed, match=r"old/result.json: a record of protocol v1 .* nothing was written"):
        results.main(runs, page, readme)
    assert page.read_text() == readme.read_text() == PAGE


@pytest.fixture(scope="module")
def published() -> list[Result]:
    return results.usable(ROOT / "leaderboard" / "published")


def test_the_pages_stand_on_what_is_published(published: list[Result]) -> None:
    """On records of this protocol alone, of every organism of the headline set."""
    assert {(r.identity.protocol, r.identity.protocol_sha256) for r in published} <= {
        (PROTOCOL_VERSION, PROTOCOL_SHA256)
    }
    core = members(HEADLINE)
    kept = results.whole(published, core)
    assert len(kept) == len(published), "a seed that is not on every organism is in no table"
    for page in (ROOT / "docs" / "results.md", ROOT / "README.md"):
        _, _, rest = page.read_text().partition(BEGIN)
        block = rest.partition(END)[0]
        assert f"protocol {PROTOCOL_VERSION} ({PROTOCOL_SHA256[:12]})" in block
        assert f"organism set {HEADLINE}, {len(core)} organisms" in block
        assert {r.identity.method for r in published} == set(re.findall(r"^\| `(\w+)[`@\[]", block, re.MULTILINE))


def test_the_pages_say_how_the_records_were_made(published: list[Result]) -> None:
    submitted = {path.stem for path in (ROOT / "leaderboard" / "published" / "submissions").glob("*.json")}
    rows = {r.identity.row for r in published} - submitted
    assert rows == {*BUILTIN, *(f"{name}{AS_PUBLISHED}" for name in PUBLISHED)}
    for page in ("docs/results.md", "leaderboard/published/README.md"):
        assert re.search(rf"^bench sweep -m all,published -o {HEADLINE} ", (ROOT / page).read_text(), re.MULTILINE)


def test_only_seeds_that_are_everywhere_count(cells: list[Result]) -> None:
    kept = results.whole(cells, CORE)
    found = {("delta", 0), ("delta", 1), ("l1", 0), ("l1", 1), ("pca", 0)}
    assert {(r.identity.method, r.identity.seeds["method"]) for r in kept} == found


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
    assert not results.nulls([make_result("pca", "taboo/a")])


def scored(method: str, organism: str, seed: int, value: float) -> Result:
    cell = make_result(method, organism, seed)
    assert cell.scores
    isolation = cell.scores.isolation.model_copy(update={"value": value})
    return cell.model_copy(update={"scores": cell.scores.model_copy(update={"isolation": isolation})})
