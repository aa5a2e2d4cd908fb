"""The table of docs/reliability.md, row by row: who detects which forgery once every hash is made right again."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.records.identity import CUSTOM, sha256_json
from diffbench.harness.records.result import DRAWS, Result
from diffbench.harness.runs import verify as verify_module
from diffbench.harness.runs.folder import FINDINGS, RESULT
from diffbench.harness.runs.records import validate
from diffbench.harness.runs.run import plan, run
from diffbench.harness.runs.verify import verify
from diffbench.leaderboard.board.store import load_results
from diffbench.leaderboard.submissions import check as check_module
from diffbench.leaderboard.submissions.build import build
from diffbench.methods.registry import load_method
from diffbench.organisms.card import sha256_file
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.registry import load_organism
from safetensors.torch import load_file, save_file

from ...conftest import SHORT
from ...factories import make_choices, make_samples
from ...harness.runs.test_cells import Quiet
from .bundles import CARD, make_cell, new_id, write_cell

PAGE = (Path(__file__).parents[3] / "docs" / "reliability.md").read_text()
Row = dict[str, Any]


def samples(row: Row) -> None:
    """Better ones, and everything that follows from them."""
    import numpy as np
    from diffbench.harness.protocol.intervals import summarise

    result = Result.model_validate(row)
    better = make_samples(0.9, np.random.default_rng(1))
    choices = [c.model_dump(mode="json") for c in make_choices(better)]
    b = row["behaviour"] | {
        "b0_test": float(np.mean(better.b0)),
        "b1_test": float(np.mean(better.b1)),
        "n_test": len(better.b0),
    }
    draws = DRAWS if result.identity.protocol != CUSTOM else 1
    scores = summarise(better, draws, 0).model_dump(mode="json")
    row |= {
        "samples": better.model_dump(mode="json"),
        "scores": scores,
        "choices": choices,
        "behaviour": b,
        "curves": [],
    }


def readings(row: Row) -> None:
    """What a finding reads as, and that the truth is read first."""
    row["curves"] = []
    for reading in row["readings"]:
        reading["promotes"][:1] = ["gold"]
    for at in (row["identification"] or {"at": []})["at"]:
        at |= {"rank": 1.0, "raw": 1.0}


def identity(**fields: Any) -> Callable[[Row], None]:
    """Another identity with its id, beside findings that are made to belong to it."""

    def edit(row: Row) -> None:
        row["identity"] |= fields
        new_id(row)

    return edit


def cost(row: Row) -> None:
    row["cost"]["wall_s"], row["provenance"]["cpu"], row["claims"] = 0.1, "abacus", ["It is gold."]


def put(row: Row, part: str, field: str, value: object) -> None:
    row[part][field] = value


FORGERIES: dict[str, tuple[Callable[[Row], None], bool]] = {
    "a score, its interval": (lambda row: put(row["scores"], "necessity", "ci_low", -0.9), False),
    "the identity, without its id": (lambda row: put(row, "identity", "layer", 9), False),
    "the identity with its id, beside the old": (identity(layer=3), False),
    "findings, or their number": (lambda row: put(row, "diagnostics", "findings", [{"score": 1.0}]), False),
    "findings together with their hash": (lambda row: None, True),
    "samples, and all that follows": (samples, False),
    "curves, readings": (readings, False),
    "hash of the organism": (identity(organism_sha256="7" * 64), True),
    "options, method seed": (identity(config={"k": 1000}), True),
    "cost, machine": (cost, False),
}
"""The row of the page that an edit is of, and whether findings are written again with all that belongs to them."""


def answers(start: str) -> list[bool]:
    """Whether validate, leaderboard, submit and verify refuse, as the page says."""
    (line,) = [line for line in rows_of("| changed | validate |") if line[0].startswith(start)]
    return [cell.startswith("**refused**") for cell in line[1:]]


def forged(folder: Path, kind: str) -> None:
    """Edit a run folder in place."""
    edit, rewrite = FORGERIES[kind]
    row = json.loads((folder / RESULT).read_text())
    edit(row)
    if rewrite:
        tensors = load_file(folder / FINDINGS)
        if kind.startswith("findings"):
            tensors["direction"] = tensors["direction"].flip(0).contiguous() + 0.5
        save_file(tensors, folder / FINDINGS, {"result": row["id"], "layer": str(row["identity"]["layer"])})
        row["findings_sha256"] = sha256_file(folder / FINDINGS)
    (folder / RESULT).write_text(json.dumps(row))


def refuses(act: Callable[[], object]) -> bool:
    try:
        act()
    except ValidationFailed:
        return True
    return False


def rows_of(head: str) -> list[list[str]]:
    """The lines of a table of the page, by how its head begins."""
    table = PAGE[PAGE.index(head) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def test_each_line_of_the_page_names_its_tests_and_they_are_there() -> None:
    said = {line[0]: line[1] for head in ("| changed | tests |", "| | tests |") for line in rows_of(head)}
    lines = [line[0] for head in ("| changed | validate |", "| | |") for line in rows_of(head)]
    assert list(said) == lines and len(said) == 26
    for tests in said.values():
        for file, names in re.findall(r"`([\w/]+\.py)`: ([^;]+)", tests):
            text = (Path(__file__).parents[2] / file).read_text()
            there = set(re.findall(r"^def (test_\w+)", text, re.M))
            assert names == "both" or set(re.findall(r"`(test_\w+)`", names)) <= there, names


def test_a_built_in_method_has_the_access_that_it_has(tmp_path: Path) -> None:
    """A better tier would take it out of the ranking, a lower one is what a method that cheats would say."""
    for method, access in (("pca", "supervised"), ("supervised", "activations")):
        runs = tmp_path / method
        folder = write_cell(runs, make_cell(method=method))
        row = json.loads((folder / RESULT).read_text())
        row["identity"]["access"] = row["provenance"]["access"] = access
        new_id(row)
        tensors = load_file(folder / FINDINGS)
        save_file(tensors, folder / FINDINGS, {"result": row["id"], "layer": str(row["identity"]["layer"])})
        row["findings_sha256"] = sha256_file(folder / FINDINGS)
        (folder / RESULT).write_text(json.dumps(row))
        (record,) = validate([runs])
        assert "is built in and has" in record.problems[0] and not load_results(runs).results
        with pytest.raises(ValidationFailed, match="is built in and has"):
            build([runs], CARD.model_copy(update={"name": method, "access": access}), tmp_path / "b.bundle.safetensors")
        with pytest.raises(ValidationFailed, match="is built in and has"):
            verify(folder)


def test_a_built_in_method_draws_as_the_catalogue_says(tmp_path: Path) -> None:
    """One that is said to draw nothing would need one seed and have no noise of its own."""
    for method, stochastic in (("delta", False), ("pca", True)):
        write_cell(tmp_path / method, make_cell(method=method, stochastic=stochastic))
        (record,) = validate([tmp_path / method])
        assert record.problems[0].startswith(f"provenance.stochastic is {stochastic}, but {method} is built in")
        assert not load_results(tmp_path / method).results


@pytest.mark.parametrize("kind", FORGERIES)
def test_the_page_says_what_is_detected_without_a_model(tmp_path: Path, kind: str) -> None:
    runs = tmp_path / "runs"
    forged(write_cell(runs, make_cell(stochastic=False)), kind)
    found = [
        any(r.problems for r in validate([runs])),
        not load_results(runs).results,
        refuses(lambda: build([runs], CARD, tmp_path / "b.bundle.safetensors")),
    ]
    assert found == answers(kind)[:3]


@pytest.mark.slow
def test_the_page_says_what_a_fresh_scoring_detects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One real cell, forged in every way."""
    monkeypatch.setattr(verify_module, "PROTOCOL_V2", SHORT)
    monkeypatch.setattr(check_module, "PROTOCOL", (CUSTOM, sha256_json(SHORT.model_dump())))
    method = load_method("pca")
    asked = plan(
        [load_organism("taboo/gold-narrow")],
        [(method, method.configure({"tokens": 2000}))],
        [0],
        tmp_path,
        protocol=SHORT,
    )
    (result,) = run(asked, Quiet(), lambda: "log")
    folder = tmp_path / "taboo" / "gold-narrow" / "pca" / result.id[:12]
    whole = {p.name: p.read_bytes() for p in folder.iterdir()}
    for kind in FORGERIES:
        for name, data in whole.items():
            (folder / name).write_bytes(data)
        forged(folder, kind)
        assert refuses(lambda: _agrees(folder)) == answers(kind)[3], kind


def _agrees(folder: Path) -> None:
    if not verify(folder).ok:
        raise ValidationFailed("differs")
