"""`python -m benchmarks.tune`: settings of our methods, chosen on the tuning set by the rule of docs/tuning.md and by nothing else.

Three rounds: what dictionary methods share, what each method has of its own, and whether what was chosen holds together. A second seed of
that shows how far a score is its organism's. A run that was stopped goes on: from its records, and on another machine
from the cells of the grid file, if the code is the same.
"""

import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.records.identity import sha256_json
from diffbench.harness.records.result import Result
from diffbench.harness.runs.provenance import source_hash
from diffbench.leaderboard.pages.text_formats import markdown_table
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import UsageError
from diffbench.organisms.registry import load_organism
from diffbench.organisms.sets import TUNING, members
from scipy.stats import spearmanr

from .table import insert

TUNE = tuple(members(TUNING))
"""Organisms that pass their gates and that no headline number stands on."""
Settings = dict[str, Any]
SHARED: dict[str, tuple[Any, ...]] = {"steps": (900, 1800), "k": (16, 8, 32), "expansion": (8, 4, 16)}
"""What dictionary methods share, the default first."""
POOL = ("batch_topk", "delta", "sae_diff")
"""Methods that it is chosen with."""
RANKS = ("rdn", "contribution", "latent_scaling")
OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "delta": {"rank": RANKS, "delta": (0.005, 0.0, 0.05, 0.5), "contrastive_share": (0.1, 0.0, 0.3)},
    "batch_topk": {"rank": RANKS},
    "l1": {"rank": RANKS, "sparsity": (2.0, 1.0, 4.0)},
    "dsf": {"rank": RANKS, "shared_fraction": (0.2, 0.5)},
    "dfc": {"rank": ("contribution", "latent_scaling"), "exclusive_fraction": (0.05, 0.02, 0.2)},
    "sae_diff": {"rank": ("contribution", "latent_scaling")},
    "sae_ft": {"rank": ("latent_scaling", "contribution")},
    "sae_base": {"rank": ("contribution", "latent_scaling")},
    "sae_pair": {"rank": ("latent_scaling", "contribution")},
    "sae_stagewise": {"rank": ("latent_scaling", "contribution")},
    "logit_diff": {"rank": ("kl", "rate", "rise"), "top_share": (0.01, 0.05)},
    "adl": {"positions": (5, 1)},
    "pca": {"centred": (True, False)},
    "random_difference": {"mix": (1, 4, 16)},
}
"""What each method has of its own, the default first."""
SPLIT = {"sae_pair": 2, "sae_stagewise": 2}
"""Methods whose steps are spent on several trainings: the first has so many of the steps."""
NO_K = ("l1",)


@dataclass(frozen=True)
class Verdict:
    """One factor of one method, or of the pool."""

    who: str
    factor: str
    values: tuple[Any, ...]
    means: tuple[float, ...]
    """Mean over families of the mean isolation."""
    errors: tuple[float, ...]
    """Standard error over families of the difference to the default."""
    chosen: Any


Cell = tuple[str, str, str, int]
"""Method, settings, organism and seed."""


@dataclass
class Tuning:
    """Isolation by cell."""

    out: Path
    jobs: int
    grid: Path
    """File of the cells."""
    cells: dict[Cell, float] = field(default_factory=dict[Cell, float])

    def take(self) -> None:
        """The cells of the grid file, if there is one.

        Raises:
            UsageError: cells that other code, or another set, has measured.
        """
        if not self.grid.is_file():
            return
        found = json.loads(self.grid.read_text())
        if found["of"] != _of():
            raise UsageError(
                f"{self.grid} was measured by other code or on other organisms than these; finish it at the commit that wrote it, "
                "or remove it to begin again"
            )
        self.cells = {
            (c["method"], _key(c["settings"]), c["organism"], c["seed"]): c["isolation"] for c in found["cells"]
        }

    def save(self, chosen: dict[str, Settings] | None = None) -> None:
        """Write the grid file."""
        cells = [
            {"method": m, "settings": json.loads(s), "organism": o, "seed": seed, "isolation": v}
            for (m, s, o, seed), v in sorted(self.cells.items())
        ]
        lines = ",\n".join(json.dumps(c) for c in cells)
        head = json.dumps({"of": _of(), "chosen": chosen}, indent=1)[:-2]
        atomic_write_text(self.grid, f'{head},\n "cells": [\n{lines}\n]}}\n')

    def measure(self, wanted: Sequence[tuple[str, Settings]], seed: int = 0) -> None:
        """Run every setting on every organism of the set, and remember its isolation."""
        context = get_context("spawn")
        with ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_worker) as pool:
            left = {o: [(m, s) for m, s in wanted if (m, _key(s), o, seed) not in self.cells] for o in TUNE}
            left = {o: [a for i, a in enumerate(asked) if a not in asked[:i]] for o, asked in left.items() if asked}
            running = [
                pool.submit(partial(_organism, o, wanted=asked, seed=seed, out=self.out)) for o, asked in left.items()
            ]
            for done in as_completed(running):
                self.cells |= done.result()
                self.save()

    def families(self, method: str, settings: Settings) -> np.ndarray[Any, np.dtype[np.float64]]:
        """[families] mean isolation."""
        by: dict[str, list[float]] = {}
        for organism in TUNE:
            by.setdefault(organism.split("/")[0], []).append(self.cells[method, _key(settings), organism, 0])
        return np.array([np.mean(v) for v in by.values()])

    def retest(self, method: str, settings: Settings) -> float:
        """Spearman's correlation of the organisms' isolation between seeds 0 and 1; nan where a seed scores all alike."""
        first, second = ([self.cells[method, _key(settings), o, seed] for o in TUNE] for seed in (0, 1))
        with warnings.catch_warnings(action="ignore"):  # the result says it: nan
            return float(spearmanr(first, second).statistic)

    def decide(self, who: str, factor: str, values: tuple[Any, ...], of: Sequence[tuple[str, Settings]]) -> Verdict:
        """The value of most isolation, if it beats the default by more than a standard error.

        Args:
            of: methods and the settings that the factor is varied in; several count alike.
        """
        found = [np.mean([self.families(m, s | {factor: v}) for m, s in of], axis=0) for v in values]
        gain = [each - found[0] for each in found]
        errors = tuple(float(g.std(ddof=1) / len(g) ** 0.5) for g in gain)
        best = int(np.argmax([each.mean() for each in found]))
        keep = best if gain[best].mean() > errors[best] else 0
        return Verdict(who, factor, values, tuple(float(f.mean()) for f in found), errors, values[keep])


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _of() -> str:
    """Hash of what decides a cell's number: the code, and the set."""
    code = [source_hash(load_method(m).file) for m in OWN]
    return sha256_json([code, [load_organism(o).sha256 for o in TUNE]])


def _worker() -> None:
    """A process of one thread that ends with the one that made it."""
    import torch
    from diffbench.harness.parallel import end_with_parent

    end_with_parent()
    torch.set_num_threads(1)


def _organism(organism: str, wanted: Sequence[tuple[str, Settings]], seed: int, out: Path) -> dict[Cell, float]:
    """Isolation of each setting on one organism; a cell that fails counts as 0, as in the tables."""
    from diffbench.harness.cache import Cache
    from diffbench.harness.runs.run import Quiet, plan, run

    entries = [(load_method(m), load_method(m).configure(s)) for m, s in wanted]
    work = plan([load_organism(organism)], entries, [seed], out, cache=Cache.of_user())
    results: list[Result] = list(run(work, Quiet(), str))
    return {(m, _key(s), organism, seed): isolation(r) for (m, s), r in zip(wanted, results, strict=True)}


def isolation(result: Result) -> float:
    """The headline of a cell, 0 if it failed."""
    return (result.scores.isolation.value or 0.0) if result.scores else 0.0


def shared_of(method: str, shared: Settings) -> Settings:
    """The shared settings as a method takes them."""
    if method not in OWN or "rank" not in OWN[method] or method == "logit_diff":
        return {}
    own = {k: v for k, v in shared.items() if not (k == "k" and method in NO_K)}
    return own | {"steps": shared["steps"] // SPLIT.get(method, 1)}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the records; what is there is not run again.")] = Path(
        "runs/tune"
    ),
    jobs: Annotated[int, typer.Option(help="Organisms at a time, one thread each.")] = os.cpu_count() or 1,
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = Path("docs/tuning.md"),
    grid: Annotated[Path, typer.Option(help="Where the whole grid is written.")] = Path("docs/tuning.json"),
) -> None:
    """Carry out the rule of docs/tuning.md."""
    for organism in TUNE:
        load_organism(organism)  # refused here rather than after an hour
    work, verdicts = Tuning(out, jobs, grid), list[Verdict]()
    work.take()
    default = {factor: values[0] for factor, values in SHARED.items()}
    work.measure([(m, default | {f: v}) for m in POOL for f, values in SHARED.items() for v in values])
    for factor, values in SHARED.items():
        verdicts.append(work.decide(", ".join(POOL), factor, values, [(m, default) for m in POOL]))
    shared = {v.factor: v.chosen for v in verdicts}
    start = {m: shared_of(m, shared) | {f: values[0] for f, values in own.items()} for m, own in OWN.items()}
    work.measure([(m, start[m] | {f: v}) for m, own in OWN.items() for f, values in own.items() for v in values])
    chosen: dict[str, Settings] = {}
    for method, own in OWN.items():
        found = [work.decide(method, f, values, [(method, start[method])]) for f, values in own.items()]
        verdicts += found
        chosen[method] = start[method] | {v.factor: v.chosen for v in found}
    work.measure([(m, s) for m, both in chosen.items() for s in (both, start[m])])
    rows: list[list[str]] = []
    for method, settings in chosen.items():
        together, before = (float(work.families(method, s).mean()) for s in (settings, start[method]))
        if together < before:
            chosen[method] = settings = start[method]
        rows.append([f"`{method}`", f"{before:.3f}", f"{together:.3f}", _said(settings)])
    trained = [(m, s) for m, s in chosen.items() if "steps" in s]
    work.measure(trained, seed=1)
    text = "\n\n".join(
        [
            markdown_table(
                ("of", "factor", "isolation by value, difference to the default ± standard error", "chosen"),
                [[v.who, v.factor, _values(v), str(v.chosen)] for v in verdicts],
            ),
            markdown_table(("method", "isolation with the defaults", "with all that was chosen", "settings"), rows),
            markdown_table(
                ("method", "Spearman of organisms, seed 0 against seed 1"),
                [[f"`{m}`", f"{work.retest(m, s):.2f}"] for m, s in trained],
            ),
        ]
    )
    atomic_write_text(page, insert(page.read_text(), text))
    work.save(chosen)
    typer.echo(text)


def _values(v: Verdict) -> str:
    first = f"{v.values[0]}: {v.means[0]:.3f}"
    rest = [
        f"{value}: {mean:.3f} ({mean - v.means[0]:+.3f} ± {error:.3f})"
        for value, mean, error in zip(v.values[1:], v.means[1:], v.errors[1:], strict=True)
    ]
    return ", ".join([first, *rest])


def _said(settings: Settings) -> str:
    return ", ".join(f"{k} {v}" for k, v in settings.items())


if __name__ == "__main__":
    typer.run(main)
