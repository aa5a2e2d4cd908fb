"""`bench leaderboard compare`: verdicts on what was asked beforehand, and every pair without one."""

import json
from pathlib import Path

from diffbench.cli import app
from diffbench.leaderboard.pages.comparison import comparison_data, comparison_markdown
from diffbench.leaderboard.statistics.contrasts import CONTROL
from diffbench.leaderboard.statistics.tables import build_table
from typer.testing import CliRunner

from ...factories import make_result, write_result

FAMILIES = [f"family{i}/a-narrow" for i in range(6)]


def test_the_command_prints_verdicts_and_pairs_and_json_says_the_same(tmp_path: Path) -> None:
    cells = [make_result(m, o, 0, q) for m, q in (("a_b", 0.6), (CONTROL, 0.1), ("d", 0.3)) for o in FAMILIES]
    for cell in cells:
        write_result(tmp_path, cell)
    command = ["leaderboard", "compare", str(tmp_path)]
    text, data, core, typo = (
        CliRunner().invoke(app, [*command, *more])
        for more in ([], ["--json"], ["--set", "core-v2"], ["--score", "isolatoin"])
    )
    table = build_table(cells)
    assert text.exit_code == 0 and text.stdout.strip() == comparison_markdown(table).strip()
    verdicts, pairs = text.stdout.split("## All pairs, without verdicts")
    assert verdicts.count("| not resolved |") == 2 and "With 6 families no contrast can be decided" in verdicts
    assert pairs.count("\n| ") == 2 + 3 and "resolved" not in pairs and "separated" not in text.stdout
    said = json.loads(data.stdout)
    assert said == json.loads(json.dumps(comparison_data(table)))
    assert [p["higher"] for p in said["pairs"]] == ["a_b", "a_b", "d"] and "verdict" not in said["pairs"][0]
    assert [c["verdict"] for c in said["verdicts"]["lists"][0]["contrasts"]] == ["not resolved"] * 2
    assert core.exit_code == 3 and "core-v2" in core.output
    assert typo.exit_code == 2 and "did you mean 'isolation'" in typo.output


def test_other_scores_have_pairs_and_no_verdicts() -> None:
    table = build_table([make_result(m, o) for m in ("a", CONTROL) for o in FAMILIES], draws=50, key="necessity")
    text = comparison_markdown(table)
    assert "Verdicts are given on isolation only" in text and "| Verdict |" not in text
    assert comparison_data(table)["verdicts"]["lists"] == [] and len(comparison_data(table)["pairs"]) == 1


def test_one_organism_can_be_compared_without_anything_of_others() -> None:
    table = build_table([make_result(m, quality=q) for m, q in (("good", 0.9), ("bad", 0.1))], draws=50)
    data = json.loads(json.dumps(comparison_data(table), allow_nan=False))
    assert data["clusters"] is None and data["pairs"][0]["low"] is None and data["pairs"][0]["on_this_set"] is None
    assert "one seed says nothing of others: good, bad" in comparison_markdown(table)
