"""`bench results export`: three sheets with every number, the same in CSV and Parquet; a filter hides lines and changes none."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from diffbench.cli import app
from typer.testing import CliRunner

from ..factories import make_null, make_result, write_result

SHEETS = ("", "-organisms", "-cells")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    for o in ("taboo/a", "backdoor/b"):
        for s in (0, 1):
            write_result(root, make_result("delta", o, s))
        write_result(root, make_result("random_difference", o, 0, 0.1))
    write_result(root, make_null("delta", "null/x", [0.025, 0.5]))
    return root


def export(runs: Path, out: Path, *options: str, code: int = 0) -> str:
    said = CliRunner().invoke(app, ["results", "export", str(runs), "--out", str(out), *options])
    assert said.exit_code == code, said.output
    return said.output


def test_sheets_hold_the_same_in_csv_and_parquet(runs: Path, tmp_path: Path) -> None:
    export(runs, tmp_path)
    for end, lines in zip(SHEETS, (2, 6, 7), strict=True):
        csv: Any = pd.read_csv(tmp_path / f"results{end}.csv")
        parquet: Any = pd.read_parquet(tmp_path / f"results{end}.parquet")
        assert list(csv.columns) == list(parquet.columns) and len(csv) == len(parquet) == lines
        numbers = parquet.select_dtypes("number").columns
        assert ((csv[numbers] == parquet[numbers]) | (csv[numbers].isna() & parquet[numbers].isna())).all().all()
    assert {
        "rank",
        "against_random_difference_p_holm",
        "located_1",
        "identified_10",
        "false_discovery",
        "peak_rss_bytes",
    } <= set(pd.read_parquet(tmp_path / "results.parquet").columns)


def test_a_filter_hides_lines_and_changes_none(runs: Path, tmp_path: Path) -> None:
    export(runs, tmp_path / "all", "--format", "csv")
    export(runs, tmp_path / "some", "--format", "csv", "-m", "delta")
    for end in SHEETS:
        every = (tmp_path / "all" / f"results{end}.csv").read_text().splitlines()
        some = (tmp_path / "some" / f"results{end}.csv").read_text().splitlines()
        assert set(some) < set(every) and not any("random_difference," in line for line in some[1:])


def test_mistakes_are_explained(runs: Path, tmp_path: Path) -> None:
    assert "did you mean 'parquet'" in export(runs, tmp_path, "--format", "parket", code=2)
    assert "did you mean 'delta'" in export(runs, tmp_path, "-m", "dleta", code=2)
    assert "no result has tier hub; there are tiny" in export(runs, tmp_path, "--tier", "hub", code=3)
    assert not list(tmp_path.iterdir())
