"""`--backend nnsight`: the same cell, measured by another engine and said so in the record."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from diffbench.cli import app
from diffbench.harness.runs.run import plan, run
from diffbench.harness.runs.stage import Machine
from diffbench.methods.registry import load_method
from diffbench.organisms.registry import Organism
from typer.testing import CliRunner

from ...conftest import SHORT
from .test_cells import Quiet


@pytest.mark.slow
def test_a_second_opinion_is_formed_not_read_and_agrees(tmp_path: Path, organism: Organism) -> None:
    method = load_method("mean_diff")
    runs = []
    for backend in ("hooks", "nnsight", "nnsight"):
        asked = plan(
            [organism],
            [(method, method.configure({"tokens": 2000}))],
            [0],
            tmp_path,
            protocol=SHORT,
            machine=Machine(backend=backend),
        )
        watch = Quiet()
        (result,) = run(asked, watch, lambda: "")
        runs.append((result, watch.cached))
    (first, _), (second, cached), (third, again) = runs
    assert (cached, again) == (0, 1)
    assert (first.provenance.backend, second.provenance.backend) == ("hooks", "nnsight")
    assert second.provenance.packages["nnsight"].startswith("0.8") and third == second
    assert first.id == second.id and first.samples and second.samples
    ours, theirs = (
        pd.json_normalize(s.model_dump(exclude={"mitigation"})).T[0] for s in (first.samples, second.samples)
    )
    for name, value in ours.items():  # ours runs prompts as trees, nnsight as rows
        if value is not None:
            assert np.asarray(value, dtype=float) == pytest.approx(np.asarray(theirs[name], dtype=float), abs=1e-4), (
                name
            )


def test_a_cell_on_ndif_is_another_cell(organism: Organism) -> None:
    method = load_method("mean_diff")
    here, there = (
        plan(
            [organism],
            [(method, method.configure({}))],
            [0],
            Path("runs"),
            machine=Machine(backend="nnsight", remote=r),
        ).cells[0]
        for r in (False, True)
    )
    assert here.identity(2).id() != there.identity(2).id() and there.identity(2).dtype == "remote"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--remote"], "add --backend nnsight"),
        (["--backend", "hook"], "option backend"),
        (["--backend", "nnsight", "--remote"], "the base is an embedded organism"),
    ],
)
def test_a_request_that_means_nothing_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    outcome = CliRunner().invoke(
        app, ["run", "-m", "mean_diff", "-o", "taboo/gold-narrow", "--out", str(tmp_path), *options]
    )
    assert outcome.exit_code == 2 and said in " ".join(outcome.stderr.split())
