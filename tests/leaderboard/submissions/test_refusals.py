"""Each kind of bundle that no board takes is refused by name: which file, which field, why, and what to do; exit 4."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.result import Result
from diffbench.leaderboard.submissions.build import build
from diffbench.leaderboard.submissions.bundle import open_bundle
from diffbench.leaderboard.submissions.card import MethodCard, read_card
from diffbench.methods.scaffold import CARD as CARD_TEMPLATE
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from diffbench.organisms.template import filled
from pydantic import ValidationError
from typer.testing import CliRunner

from ...factories import make_result
from .bundles import CARD, METHOD, ORGANISMS, PUBLISHED, forge, make_cell, new_id, write_cell, write_one, write_runs


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six")
    return build([write_runs(folder / "runs")], CARD, folder / "six.bundle.safetensors")[0].path


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_one(tmp_path_factory.mktemp("one"))


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused here is refused without a model, a method or a pickle."""

    def never(*args: Any, **kwargs: Any) -> Any:
        pytest.fail("something was loaded")

    for name in ("torch.load", "pickle.load", "pickle.loads"):
        monkeypatch.setattr(name, never)
    monkeypatch.setattr("diffbench.harness.runs.verify.Stage.load", never)
    monkeypatch.setattr("diffbench.methods.registry.load_method", never)


def refusal(path: Path) -> str:
    done = CliRunner().invoke(app, ["verify", str(path)])
    said = " ".join(done.output.split())
    assert done.exit_code == 4 and "Traceback" not in said, done.output
    assert re.match(r"error: \S+\.safetensors: .+: .+; .+", said), said
    return said


def score(row: dict[str, Any]) -> None:
    row["scores"]["isolation"]["value"] = 0.987


def identity(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def edit(row: dict[str, Any]) -> None:
        row["identity"] |= fields
        new_id(row)

    return edit


def seen(row: dict[str, Any]) -> None:
    row["findings_sha256"] = None


FORGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an edited score": (score, "isolation is recorded as 0.987 but its samples give"),
    "an edited identity": (lambda row: row["identity"].update(config={"k": 4}), "id is not the hash of identity"),
    "an id of nothing": (lambda row: row.update(id="0" * 64), "id is not the hash of identity"),
    "another protocol": (lambda row: row.update(schema_version=1), "a record of protocol v1"),
    "an organism of the author's own": (
        lambda row: row["provenance"].update(source={"base": "x", "adapter": "y"}),
        "is no organism of the zoo by its name there",
    ),
    "findings that are not said": (seen, "does not say which findings were scored"),
    "edited findings": (
        lambda row: row.update(findings_sha256="1" * 64),
        "has other bytes than the ones that were scored",
    ),
    "a name that is a path": (identity(organism="../../x"), "identity.organism"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_an_edited_record_is_refused_by_name(one: Path, tmp_path: Path, kind: str) -> None:
    edit, says = FORGED[kind]
    said = refusal(forge(one, tmp_path / "forged.bundle.safetensors", edit))
    assert says in said and ("zoo" in says or ("line 1" in said and "run the cell again" in said))


def test_findings_of_another_cell_are_refused(six: Path, tmp_path: Path) -> None:
    ids = sorted({n.split("/")[1][:64] for n in open_bundle(six).manifest.members if "/" in n})
    swapped = {ids[0]: ids[1], ids[1]: ids[0]}

    def rename(name: str) -> str:
        return next((name.replace(a, b) for a, b in swapped.items() if a in name and "findings" in name), name)

    said = refusal(forge(six, tmp_path / "swapped.bundle.safetensors", rename=rename))
    assert "belongs to result" in said and "findings/" in said
    away = refusal(forge(six, tmp_path / "away.bundle.safetensors", rename=lambda n: n.replace(ids[0], "ab" * 32)))
    assert "findings.safetensors is missing" in away
    dictionary = "dictionary/" + "ab" * 32
    said = refusal(
        forge(six, tmp_path / "more.bundle.safetensors", rename=lambda n: n.replace(f"dictionary/{ids[0]}", dictionary))
    )
    assert f"{dictionary}.safetensors: belongs to no record of the bundle" in said


def test_a_method_name_that_is_taken_and_a_card_of_another_method_are_refused(one: Path, tmp_path: Path) -> None:
    said = refusal(forge(one, tmp_path / "taken.bundle.safetensors", name="delta"))
    assert "card.name: 'delta' is taken: it is a built-in method" in said
    said = refusal(forge(one, tmp_path / "other.bundle.safetensors", name="someone"))
    assert "identity.method: is 'theirs', the card is of 'someone'" in said
    said = refusal(forge(one, tmp_path / "access.bundle.safetensors", access="+weights"))
    assert "identity.access: is 'activations', the card says '+weights'" in said


def unsuited(organism: str = ORGANISMS[0]) -> Result:
    """The seed that went badly, called by another name."""
    cell = make_result(METHOD, organism, 2, status="not_applicable", reason="not here", **PUBLISHED)
    cell.provenance.stochastic = True
    cell.provenance.source = {"organism": organism}
    return cell


CELLS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a partial run": (
        lambda runs: write_cell(runs, make_cell(seed=2, limit=4)) and None,
        "is a partial result (4 prompts a split, --limit), which no table takes; run the cell whole",
    ),
    "a run for debugging": (
        lambda runs: write_cell(runs, make_cell(seed=2, in_process=True)) and None,
        "--in-process",
    ),
    "another protocol": (
        lambda runs: write_cell(runs, make_cell(seed=2, protocol="custom", protocol_sha256="5" * 64)) and None,
        "identity.protocol: is custom",
    ),
    "half precision": (
        lambda runs: write_cell(runs, make_cell(seed=2, dtype="bfloat16")) and None,
        "only fp32 can be scored again elsewhere; run with --dtype float32",
    ),
    "other options": (
        lambda runs: write_cell(runs, make_cell(seed=2, config={"k": 9})) and None,
        "seed 2: config: is not that of",
    ),
    "another budget": (
        lambda runs: write_cell(runs, make_cell(seed=2, budget={"tokens": 9.0})) and None,
        "seed 2: budget: is not that of",
    ),
    "another version of the method": (
        lambda runs: write_cell(runs, make_cell(seed=2, method_version="other")) and None,
        "seed 2: method_version: is not that of",
    ),
    "other weights": (
        lambda runs: write_cell(runs, make_cell(seed=2, organism_sha256="2" * 64)) and None,
        "identity.organism_sha256: is not that of",
    ),
    "a cell twice": (
        lambda runs: write_cell(runs, make_cell(seed=1, code_sha256="2" * 64)) and None,
        "seed 1: two cells",
    ),
    "a seed on one organism only": (
        lambda runs: write_cell(runs, make_cell(ORGANISMS[1], 5)) and None,
        f"{ORGANISMS[0]}: misses seed 5, which other organisms have; bench run -m theirs -o {ORGANISMS[0]} --seed 5",
    ),
    "a seed that the pair is said not to suit": (
        lambda runs: write_cell(runs, unsuited()) and None,
        "status: is not_applicable: that a pair cannot be scored holds for every method",
    ),
    "the same of a null": (
        lambda runs: write_cell(runs, unsuited("null/base-identical")) and None,
        "status: is not_applicable: that a pair cannot be scored holds for every method",
    ),
    "seeds that were chosen": (
        lambda runs: write_cell(runs, make_cell(seed=7)) and None,
        "seeds: 7: a submission has the seeds from 0 on, so that none are chosen",
    ),
    "two seeds": (lambda runs: None, "seeds: 2 of 3 seeds: a method that draws anything needs 3; bench run -m theirs"),
}


@pytest.mark.parametrize("kind", CELLS)
def test_cells_that_no_row_takes_are_refused_by_name_and_leave_no_file(tmp_path: Path, kind: str) -> None:
    more, says = CELLS[kind]
    organisms = ORGANISMS if "one organism only" in kind else ORGANISMS[:1]
    runs = write_runs(tmp_path / "runs", organisms, (0, 1))
    more(runs)
    card = tmp_path / "card.yaml"
    card.write_text(CARD.model_dump_json())
    out = tmp_path / "b.bundle.safetensors"
    done = CliRunner().invoke(app, ["submit", str(runs), "--card", str(card), "--out", str(out)])
    said = " ".join(done.output.split())
    assert done.exit_code == 4 and says in said and str(out) in done.output, said
    assert not out.exists()


def test_a_set_is_covered_whole_and_nothing_else(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", ORGANISMS[:1])
    missing = r"organism_set tune-v2: \d+ organisms are missing: .*bench run -m theirs -o tune-v2 --seed 0,1,2"
    with pytest.raises(ValidationFailed, match=missing):
        build([runs], CARD, tmp_path / "b", "tune-v2")
    with pytest.raises(ValidationFailed, match="'nowhere' is no set that this diffbench has; choose one of tune-v2"):
        build([runs], CARD, tmp_path / "b", "nowhere")


def test_a_cell_that_failed_is_taken_and_counts(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", ORGANISMS[:1], (0, 1))
    failed = make_result(METHOD, ORGANISMS[0], 2, status="failed", reason="loss is NaN", **PUBLISHED)
    failed.provenance.stochastic = True
    failed.provenance.source = {"organism": ORGANISMS[0]}
    write_cell(runs, failed)
    _, cells = build([runs], CARD, tmp_path / "b.bundle.safetensors")
    assert [c.status for c in cells] == ["ok", "ok", "failed"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "A B", "name"),
        ("name", "../x", "name"),
        ("authors", [], "authors"),
        ("authors", ["\x1b[31mred"], "control character"),
        ("summary", "one\ntwo", "more than one line"),
        ("summary", "\u202eturned", "control character"),
        ("paper", "javascript:alert(1)", "paper"),
        ("code", 'https://x.org/"onload=', "code"),
        ("access", "anchor", "access"),
        ("developed_on", ["../x"], "developed_on"),
        ("more", 1, "more"),
    ],
)
def test_a_card_holds_lines_and_links_and_nothing_else(field: str, value: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MethodCard.model_validate(CARD.model_dump() | {field: value})


def test_the_card_that_is_written_to_start_from_is_one(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(filled(CARD_TEMPLATE, "mine"))
    assert read_card(path).name == "mine" and set(MethodCard.model_fields) == set(read_card(path).model_fields_set)
    path.write_text("name: [")
    with pytest.raises(ValidationFailed, match=r"card\.yaml.* is not YAML"):
        read_card(path)
    path.write_text("name: mine")
    with pytest.raises(ValidationFailed, match=r"card\.yaml: summary: Field required; .*mend the card"):
        read_card(path)
    with pytest.raises(PrerequisiteError, match="there is no method card"):
        read_card(tmp_path / "none.yaml")


def test_control_characters_of_a_bundle_reach_no_terminal(one: Path, tmp_path: Path) -> None:
    def edit(row: dict[str, Any]) -> None:
        row["identity"]["method"] = "x\x1b]0;title\x07"
        new_id(row)

    done = CliRunner().invoke(app, ["verify", str(forge(one, tmp_path / "c.bundle.safetensors", edit))])
    assert done.exit_code == 4 and "\x1b" not in done.output and "\x07" not in done.output
