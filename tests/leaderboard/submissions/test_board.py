"""What verifies is added with a note of who verified it, and nothing else is; the note of a method is that of one bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.identity import CUSTOM, sha256_json
from diffbench.harness.runs.packs import pack
from diffbench.harness.runs.records import records
from diffbench.harness.runs.verify import Verification
from diffbench.harness.store.moving import packable
from diffbench.leaderboard.board.build import Ask, tabulate
from diffbench.leaderboard.pages.text_formats import row_markdown
from diffbench.leaderboard.submissions import check as check_module
from diffbench.leaderboard.submissions import verification
from diffbench.leaderboard.submissions.board import submissions
from diffbench.leaderboard.submissions.build import build
from diffbench.leaderboard.submissions.bundle import open_bundle
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from typer.testing import CliRunner

from ...conftest import SHORT
from ...factories import make_result
from .bundles import CARD, METHOD, ORGANISMS, PUBLISHED, forge, make_cell, publish, write_cell, write_one, write_runs

EXAMPLE = Path(__file__).parents[3] / "examples" / "offaxis_pca"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return build([write_runs(folder / "runs", ORGANISMS[:1])], CARD, folder / "theirs.bundle.safetensors")[0].path


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board with the anchors of one organism."""
    publish([make_cell(method=m) for m in ("oracle", "random")], tmp_path / "board")
    return tmp_path / "board"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verification | Exception], None]:
    """What a fresh scoring of every cell says, without a model."""

    def says(outcome: Verification | Exception) -> None:
        def verify(*args: Any) -> Verification:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(verification, "verify", verify)

    says(Verification(100, []))
    return says


def bench(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, args)))
    assert done.exit_code == code and "Traceback" not in done.output, done.output
    return " ".join(done.output.split())


def test_what_verifies_is_added_with_who_where_and_with_what(bundle: Path, board: Path, scored: object) -> None:
    said = bench("leaderboard", "add", bundle, "--board", board, "--by", "Someone Else")
    assert "seed 2: agrees: 100 values within 0.0001" in said and "note: seen in development: taboo/gold-narrow" in said
    assert f"bench leaderboard build {board}" in said
    note = submissions(board)[METHOD]
    (v,) = note.verified
    assert (v.by, v.cells, v.values, v.tolerance) == ("Someone Else", 3, 300, 1e-4)
    assert v.packages["torch"] and v.cpu and v.platform and note.seen_in_development == [ORGANISMS[0]]
    assert note.bundle_sha256 == open_bundle(bundle).sha256
    on_board = [r.result for r in records(board) if r.result and not r.problems]
    assert sorted(note.cells) == sorted(r.id for r in on_board if r.identity.method == METHOD)
    assert METHOD in bench("leaderboard", "show", board)


def test_the_answer_to_a_submission_is_its_row_between_its_neighbours(
    bundle: Path, board: Path, scored: object, tmp_path: Path
) -> None:
    others = {"pca": 0.9, "mean_diff": 0.7, "logit_diff": 0.2}
    publish([make_cell(method=m, quality=q) for m, q in others.items()], board)
    row = tmp_path / "row.md"
    bench("leaderboard", "add", bundle, "--board", board, "--by", "A", "--row", row)
    said, _, table = row.read_text().partition("\n\n")
    heads, _, *rows = table.splitlines()
    assert said.startswith("theirs has rank 3 of ") and " by isolation" in said and " in 90 % of the draws" in said
    assert heads.startswith("| Method | Isolation | Rank |")
    assert [line.split()[1].replace("\\", "") for line in rows if line.startswith("| ")] == [
        "mean_diff",
        "theirs",
        "random",
    ]
    assert not any("oracle" in line for line in rows)


def test_a_row_that_is_not_ranked_says_why_and_what_is_missing(bundle: Path, board: Path, scored: object) -> None:
    publish([make_cell(method=m, organism="a/x-narrow") for m in ("oracle", "random", "pca")], board)
    bench("leaderboard", "add", bundle, "--board", board, "--by", "A")
    said = row_markdown(tabulate(board, Ask(draws=50)), METHOD)
    assert said.startswith("theirs is not ranked: a cell is missing, so there is no headline. Sorted by isolation")
    command = "bench run -m theirs -o a/x-narrow --seed 0,1,2 --set theirs.k=3 --tokens 120000 --out runs"
    assert f"- missing, no headline without: `{command}`" in said
    assert row_markdown(tabulate(board, Ask(draws=50)), "nobody") == "nobody has no row on this board.\n"


def test_a_second_verifier_is_written_beside_the_first(bundle: Path, board: Path, scored: object) -> None:
    for who in ("A", "B"):
        bench("leaderboard", "add", bundle, "--board", board, "--by", who)
    assert [v.by for v in submissions(board)[METHOD].verified] == ["A", "B"]
    assert sum(r.result.identity.method == METHOD for r in records(board) if r.result) == 3


def test_an_addition_that_was_interrupted_is_finished(bundle: Path, board: Path, scored: object) -> None:
    bench("leaderboard", "add", bundle, "--board", board, "--by", "A")
    (board / "submissions" / f"{METHOD}.json").unlink()
    bench("leaderboard", "add", bundle, "--board", board, "--by", "A")
    assert list(submissions(board)) == [METHOD]


REFUSED = [
    (
        Verification(100, [("scores.isolation.value", 0.9, 0.1)]),
        "differs",
        "scores.isolation.value is 0.9 in the record and 0.1",
    ),
    (ValidationFailed("prompts_sha256 is a in the result and b here"), "refused", "prompts_sha256"),
    (PrerequisiteError("no such organism"), "refused", "no such organism"),
]


@pytest.mark.parametrize(("outcome", "word", "says"), REFUSED)
def test_what_does_not_verify_is_not_added(
    bundle: Path, board: Path, scored: Callable[[object], None], outcome: object, word: str, says: str
) -> None:
    scored(outcome)
    before = {p: p.read_bytes() for p in board.rglob("*") if p.is_file()}
    said = bench("leaderboard", "add", bundle, "--board", board, "--by", "A", code=4)
    assert says in said and f"{word}: " in said and "3 of 3 cells do not verify" in said and "nothing was added" in said
    assert {p: p.read_bytes() for p in board.rglob("*") if p.is_file()} == before
    lines = bench("verify", bundle, code=4)
    assert lines.count(f": {word}: ") == 3 and "3 of 3 cells do not say what their findings score" in lines


def test_a_name_on_the_board_is_taken(bundle: Path, board: Path, scored: object, tmp_path: Path) -> None:
    bench("leaderboard", "add", bundle, "--board", board, "--by", "A")
    other = forge(bundle, tmp_path / "other.bundle.safetensors", authors=["Me"])
    said = bench("leaderboard", "add", other, "--board", board, "--by", "A", code=4)
    assert "card.name: 'theirs' is taken: by another bundle" in said and "of A. Nother" in said and "theirs_2" in said
    publish([make_cell(seed=7)], board)
    (board / "submissions" / f"{METHOD}.json").unlink()
    said = bench("leaderboard", "add", bundle, "--board", board, "--by", "A", code=4)
    assert "the board has a record of it that is not in the bundle" in said
    stray = forge(bundle, tmp_path / "stray.bundle.safetensors", supersedes="nobody")
    assert "card.supersedes: 'nobody' is no submission" in bench(
        "leaderboard", "add", stray, "--board", board, "--by", "A", code=4
    )


def test_a_board_without_the_anchors_of_the_same_measurement_takes_no_row(
    bundle: Path, scored: object, tmp_path: Path
) -> None:
    for name, cells, says in (
        ("none", [make_cell(method="random")], "the board has no oracle of taboo/gold-narrow: an anchor is missing"),
        (
            "other",
            [make_cell(method=m, prompts_sha256="3" * 64) for m in ("oracle", "random")],
            "prompts_sha256 is not that of the board's oracle",
        ),
    ):
        publish(cells, tmp_path / name)
        said = bench("leaderboard", "add", bundle, "--board", tmp_path / name, "--by", "A", code=4)
        assert says in said and "bench run -m oracle,random -o taboo/gold-narrow" in said
    bench("leaderboard", "add", bundle, "--board", tmp_path / "nowhere", "--by", "A", code=3)


@pytest.mark.parametrize(
    ("organism", "identity", "says"),
    [
        (ORGANISMS[0], {"organism_sha256": "3" * 64}, "organism_sha256 is not that of the board's oracle"),
        (ORGANISMS[1], {}, f"the board has no oracle of {ORGANISMS[1]}"),
    ],
    ids=["of other weights", "of an organism that the board has not"],
)
def test_a_failed_cell_needs_the_anchors_of_its_measurement_too(
    board: Path, scored: object, tmp_path: Path, organism: str, identity: dict[str, str], says: str
) -> None:
    """Else it would stand for another measurement of the organism, or make a hole in everybody's row."""
    for seed in range(3):
        failed = make_result(METHOD, organism, seed, status="failed", reason="no luck", **PUBLISHED | identity)
        failed.provenance.stochastic = True
        failed.provenance.source = {"organism": organism}
        write_cell(tmp_path / "runs", failed)
    bundle, _ = build([tmp_path / "runs"], CARD, tmp_path / "failed.bundle.safetensors")
    assert says in bench("leaderboard", "add", bundle.path, "--board", board, "--by", "A", code=4)


def test_scores_that_are_another_methods_prompt_by_prompt_are_noted(
    bundle: Path, board: Path, scored: object, tmp_path: Path
) -> None:
    copied = next(
        r.result for r in records(bundle.parent / "runs") if r.result and r.result.identity.seeds["method"] == 1
    )
    clone = make_cell(method="pca", seed=0)
    publish(
        [clone.model_copy(update={n: getattr(copied, n) for n in ("scores", "samples", "choices", "behaviour")})], board
    )
    said = bench("leaderboard", "add", bundle, "--board", board, "--by", "A")
    assert "note: taboo/gold-narrow seed 1 scores exactly, prompt by prompt, what pca does" in said
    assert len(submissions(board)[METHOD].notes) == 1


def test_each_of_several_bundles_is_verified_and_has_its_line(bundle: Path, scored: object, tmp_path: Path) -> None:
    broken = tmp_path / "broken.bundle.safetensors"
    broken.write_bytes(bundle.read_bytes()[:500])
    said = bench("verify", broken, bundle, code=4)
    assert said.count(": agrees: ") == 3 and "all 3 cells verified" in said and f"error: {broken}" in said
    first, _ = json.JSONDecoder().raw_decode(bench("verify", broken, bundle, "--json", code=4))
    assert first["bundle"] == str(broken) and not first["ok"] and first["why"]
    assert "there is no" in bench("verify", bundle, tmp_path / "nowhere", code=3)


def test_a_row_of_one_seed_is_noted(board: Path, scored: object, tmp_path: Path) -> None:
    """Whether a method draws anything is in no id, and three seeds are asked of those that say so."""
    assert "note: stands on one seed" in bench("leaderboard", "add", write_one(tmp_path), "--board", board, "--by", "A")
    assert "its author's word" in submissions(board)[METHOD].notes[0]


@pytest.mark.slow
def test_the_example_goes_from_its_package_to_the_board_by_the_documented_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a short protocol; an edited number is refused on the way."""
    monkeypatch.chdir(tmp_path)
    for where in ("runs.cell", "runs.verify"):
        monkeypatch.setattr(f"diffbench.harness.{where}.PROTOCOL_V2", SHORT)
    monkeypatch.setattr(check_module, "PROTOCOL", (CUSTOM, sha256_json(SHORT.model_dump())))
    method = EXAMPLE / "offaxis_pca.py"
    assert load_method(str(method)).stochastic is False
    bench("run", "-m", f"{method},random,oracle", "-o", ",".join(ORGANISMS), "-q")
    bench("submit", "runs", "--card", EXAMPLE / "card.yaml")
    bundle = Path("offaxis_pca.bundle.safetensors")
    bench("results", "pack", "runs", "--out", "all")
    ours = [r for r in records(Path("runs")) if r.result and r.result.identity.method != "offaxis_pca"]
    pack(*packable(ours, Path("board")))
    monkeypatch.setattr("diffbench.methods.registry.load_method", lambda *_: pytest.fail("a method was loaded"))
    assert bench("verify", bundle).count(": agrees: ") == 2
    assert "added offaxis_pca: 2 cells verified" in bench("leaderboard", "add", bundle, "--board", "board", "--by", "A")
    assert "offaxis" in bench("leaderboard", "show", "board")

    def better(row: dict[str, Any]) -> None:
        """Everything that follows from anything, made consistent, is not what the findings score: here a reading is."""
        row["readings"][0]["promotes"][0] = "gold"

    forged = forge(bundle, Path("forged.bundle.safetensors"), better)
    said = bench("verify", forged, code=4)
    assert said.count("differs: readings[0].promotes[0] is gold in the record") == 2
    assert json.loads(bench("verify", bundle, "--json").split("} {")[0].rstrip("}") + "}")["outcome"] == "agrees"
