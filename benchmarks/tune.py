"""`python -m benchmarks.tune [--tier small]`: settings of our methods, chosen on a tuning set by the rule of docs/tuning.md alone.

On the small tier one round: what dictionary methods share. On the embedded one four: that, how crosscoders rank, what each has of its
own, and whether what was chosen holds together; a second seed of that shows how far a score is its organism's. A run that was stopped goes
on: from its records, and on another machine from the cells of the grid file that the same code measured.
"""

import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.records.result import FINISHED, Result
from diffbench.harness.records.settings import PROTOCOL_V2, Protocol
from diffbench.leaderboard.pages.text_formats import markdown_table
from diffbench.methods.contract import Budget
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import UsageError
from diffbench.organisms.registry import load_organism
from diffbench.organisms.sets import TUNING, TUNING_SMALL, members
from scipy.stats import spearmanr

from .table import BEGIN, END, insert

TUNE = tuple(members(TUNING))
"""Organisms that pass their gates and that no headline number stands on."""
Settings = dict[str, Any]
SHARED: dict[str, tuple[Any, ...]] = {"steps": (900, 1800), "k": (16, 32), "expansion": (8, 16)}
"""What dictionary methods share, what they began with first."""
SMALL: dict[str, tuple[Any, ...]] = {"steps": (900, 1800), "k": (16, 32)}
"""What of that is chosen again on the small tier, what they have first. All else they have from the embedded tier."""
GRID = Path(__file__).parent.parent / "docs" / "tuning.json"
"""The grid of the embedded tier, with what was chosen there."""
FEW = PROTOCOL_V2.model_copy(update={"controls": 4})
"""What the small tier's cells are scored by: a control takes a minute there."""
UNHURRIED = Budget(seconds=7200.0)
"""What a cell is run again with whose clock ran out: how fast or busy a machine is decides nothing."""
SMALL_MARKERS = "<!-- small: begin -->", "<!-- small: end -->"
POOL = ("batch_topk", "delta", "sae_diff")
"""Methods that it is chosen with."""
RANKS = ("rdn", "contribution", "latent_scaling")
"""How crosscoders rank their latents, the published way first."""
RANKING = ("batch_topk", "delta")
"""Methods that it is chosen with."""
CROSSCODERS = (*RANKING, "l1", "dsf")
OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "delta": {"delta": (0.005, 0.0, 0.05), "contrastive_share": (0.1, 0.0, 0.3)},
    "batch_topk": {},
    "l1": {"sparsity": (2.0, 1.0, 4.0)},
    "dsf": {"shared_fraction": (0.2, 0.5)},
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
    "mean_diff": {},
    "dw_svd": {},
}
"""What each method has of its own, what its paper has first; without a published value, what it began with."""
UNTRAINED = ("logit_diff", "adl", "pca", "dw_svd", "mean_diff")
"""Baselines without training: the best of them is the one that every method is compared with."""
DICTIONARIES = tuple(m for m in OWN if m in CROSSCODERS or m == "dfc" or m.startswith("sae_"))
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
ROW = ("organism", "method", "settings", "seed", "isolation", "id")
"""What the grid file has of a cell."""


@dataclass(frozen=True)
class Measured:
    """What came out of a cell."""

    id: str
    """Of its identity: code, organism, prompts, protocol, settings and seed."""
    isolation: float
    finished: bool = True
    """Whether it will not be run again: a cell that failed counts as 0, as in the tables, and is tried again by the next run."""


@dataclass
class Tuning:
    """Isolation by cell."""

    out: Path
    jobs: int
    grid: Path
    """File of the finished cells, which any machine goes on from."""
    organisms: Sequence[str] = TUNE
    protocol: Protocol = PROTOCOL_V2
    """What cells are scored by."""
    cells: dict[Cell, Measured] = field(default_factory=dict[Cell, Measured])
    before: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Rows of the grid file by id: a cell whose code, organism or prompts have changed has another id."""

    def take(self) -> None:
        """Read the grid file, if there is one.

        Raises:
            UsageError: not such a file.
        """
        try:
            found = json.loads(self.grid.read_text()) if self.grid.is_file() else {"cells": []}
            self.before = {
                c["id"]: {k: c[k] for k in ROW} | {"isolation": float(c["isolation"])} for c in found["cells"]
            }
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.grid} is no grid of cells ({error}); restore it, or remove it to begin again"
            ) from error

    def save(self, chosen: dict[str, Settings] | None = None) -> None:
        """Write the grid file; what was chosen once all is measured, which leaves out rows that nothing asked for."""
        rows = self.before.copy() if chosen is None else {}
        for (m, s, o, seed), c in self.cells.items():
            if c.finished:
                rows[c.id] = dict(zip(ROW, (o, m, json.loads(s), seed, c.isolation, c.id), strict=True))
        cells = sorted(rows.values(), key=lambda c: (c["organism"], c["method"], _key(c["settings"]), c["seed"]))
        atomic_write_text(self.grid, json.dumps({"chosen": chosen, "cells": cells}, indent=1, allow_nan=False) + "\n")

    def measure(self, wanted: Sequence[tuple[str, Settings]], seed: int = 0) -> None:
        """Run every setting on every organism of the set, and remember its isolation. Organisms take turns, so that two processes
        seldom measure the controls of the same one.

        Every finished cell is kept, whatever becomes of the others; what went wrong is raised at the end.
        """
        left: dict[tuple[str, str], list[Settings]] = {}
        for method, settings in wanted:
            for organism in self.organisms:
                asked = left.setdefault((organism, method), [])
                if (method, _key(settings), organism, seed) not in self.cells and settings not in asked:
                    asked.append(settings)
        known = {i: row["isolation"] for i, row in self.before.items()}
        context, wrong = get_context("spawn"), list[BaseException]()
        with ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_worker) as pool:
            try:
                work = [
                    pool.submit(partial(_cells, o, m, asked, seed, self.out, known, self.protocol))
                    for (o, m), asked in left.items()
                    if asked
                ]
                for done in as_completed(work):
                    if error := done.exception():
                        wrong.append(error)
                        continue
                    self.cells |= done.result()
                    self.save()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if wrong:
            raise wrong[0]

    def families(self, method: str, settings: Settings) -> np.ndarray[Any, np.dtype[np.float64]]:
        """[families] mean isolation."""
        by: dict[str, list[float]] = {}
        for organism in self.organisms:
            by.setdefault(organism.split("/")[0], []).append(self.cells[method, _key(settings), organism, 0].isolation)
        return np.array([np.mean(v) for v in by.values()])

    def retest(self, method: str, settings: Settings) -> float:
        """Spearman's correlation of the organisms' isolation between seeds 0 and 1; nan where a seed scores all alike."""
        first, second = (
            [self.cells[method, _key(settings), o, seed].isolation for o in self.organisms] for seed in (0, 1)
        )
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


def _worker() -> None:
    """A process of one thread that ends with the one that made it."""
    import torch
    from diffbench.harness.parallel import end_with_parent

    end_with_parent()
    torch.set_num_threads(1)


def _cells(
    organism: str,
    method: str,
    wanted: Sequence[Settings],
    seed: int,
    out: Path,
    known: dict[str, float],
    protocol: Protocol,
) -> dict[Cell, Measured]:
    """Isolation of settings of a method on one organism: what is known by its id, and else what a run gives."""
    from diffbench.harness.cache import Cache
    from diffbench.harness.runs.run import Quiet, plan, run
    from diffbench.harness.terminal import silenced

    entry = load_method(method)
    methods = [(entry, entry.configure(s)) for s in wanted]
    work = plan([load_organism(organism)], methods, [seed], out, protocol=protocol)
    ids = [c.identity(c.organism.layer or 0).id() for c in work.cells]
    cells = {i: c for c, i in zip(work.cells, ids, strict=True) if i not in known}
    found = {i: Measured(i, known[i]) for i in ids if i in known}
    while cells:
        with silenced(False):
            results = list(run(replace(work, cells=[*cells.values()], cache=Cache.of_user()), Quiet(), str))
        found |= {i: Measured(i, isolation(r), r.status in FINISHED) for i, r in zip(cells, results, strict=True)}
        late = [i for i, r in zip(cells, results, strict=True) if hurried(r) and cells[i].budget != UNHURRIED]
        cells = {i: replace(cells[i], budget=UNHURRIED) for i in late}
    return {(method, _key(s), organism, seed): found[i] for s, i in zip(wanted, ids, strict=True)}


def hurried(result: Result) -> bool:
    """Whether the clock ended a method or its training."""
    return result.status == "timeout" or bool(result.diagnostics.get("budget_exhausted"))


def isolation(result: Result) -> float:
    """The headline of a cell, 0 if it failed."""
    return (result.scores.isolation.value or 0.0) if result.scores else 0.0


def shared_of(method: str, shared: Settings) -> Settings:
    """The shared settings as a method takes them."""
    if method not in DICTIONARIES:
        return {}
    own = {k: v for k, v in shared.items() if not (k == "k" and method in NO_K)}
    return own | {"steps": shared["steps"] // SPLIT.get(method, 1)}


def first_of(method: str, shared: Settings) -> Settings:
    """The shared settings, and of the rest what each round begins with, whatever the defaults have become since."""
    rank = {"rank": RANKS[0]} if method in CROSSCODERS else {}
    return shared_of(method, shared) | rank | {f: values[0] for f, values in OWN[method].items()}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the records; what is there is not run again.")] = Path(
        "runs/tune"
    ),
    jobs: Annotated[int, typer.Option(help="Organisms at a time, one thread each.")] = os.cpu_count() or 1,
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = Path("docs/tuning.md"),
    grid: Annotated[Path | None, typer.Option(help="Where the whole grid is written (docs/tuning.json).")] = None,
    tier: Annotated[Literal["tiny", "small"], typer.Option(help="On which tier's tuning set.")] = "tiny",
) -> None:
    """Carry out the rule of docs/tuning.md."""
    grid = grid or Path("docs") / ("tuning-small.json" if tier == "small" else "tuning.json")
    work = Tuning(out, jobs, grid, members(TUNING_SMALL), FEW) if tier == "small" else Tuning(out, jobs, grid)
    for organism in work.organisms:
        load_organism(organism)  # refused here rather than after an hour
    work.take()
    text, markers = (_small(work), SMALL_MARKERS) if tier == "small" else (_whole(work), (BEGIN, END))
    atomic_write_text(page, insert(page.read_text(), text, *markers))
    typer.echo(text)


def _small(work: Tuning) -> str:
    """The small tier's round: the table of what came out; the grid is saved."""
    default = {factor: values[0] for factor, values in SMALL.items()}
    known: dict[str, Settings] = json.loads(GRID.read_text())["chosen"]
    first = [(m, known[m] | default) for m in POOL]
    work.measure([(m, s | {f: v}) for m, s in first for f, values in SMALL.items() for v in values])
    verdicts = [work.decide(", ".join(POOL), factor, values, first) for factor, values in SMALL.items()]
    chosen = {v.factor: v.chosen for v in verdicts}
    work.measure([(m, s | settings) for m, s in first for settings in (default, chosen)])
    before, together = (
        float(np.mean([work.families(m, s | settings).mean() for m, s in first])) for settings in (default, chosen)
    )
    kept = chosen if together >= before else default
    work.save({m: s | kept for m, s in first})
    return "\n".join(
        [
            _verdicts(verdicts),
            f"Together: {before:.3f} with {_said(default)}; {together:.3f} with {_said(chosen)}. Kept: {_said(kept)}.\n",
        ]
    )


def _whole(work: Tuning) -> str:
    """The four rounds of the embedded tier: their tables; the grid is saved."""
    verdicts = list[Verdict]()
    default = {factor: values[0] for factor, values in SHARED.items()}
    first = [(m, first_of(m, default)) for m in POOL]
    work.measure([(m, s | {f: v}) for m, s in first for f, values in SHARED.items() for v in values])
    for factor, values in SHARED.items():
        verdicts.append(work.decide(", ".join(POOL), factor, values, first))
    shared = {v.factor: v.chosen for v in verdicts}
    ranking = [(m, first_of(m, shared)) for m in RANKING]
    work.measure([(m, s | {"rank": rank}) for m, s in ranking for rank in RANKS])
    verdicts.append(work.decide(", ".join(RANKING), "rank", RANKS, ranking))
    rank = {"rank": verdicts[-1].chosen}
    start = {m: first_of(m, shared) | (rank if m in CROSSCODERS else {}) for m in OWN}
    work.measure([(m, start[m] | {f: v}) for m, own in OWN.items() for f, values in own.items() for v in values])
    chosen: dict[str, Settings] = {}
    for method, own in OWN.items():
        found = [work.decide(method, f, values, [(method, start[method])]) for f, values in own.items()]
        verdicts += found
        chosen[method] = start[method] | {v.factor: v.chosen for v in found}
    work.measure([(m, s) for m, both in chosen.items() for s in (both, start[m])])
    rows: list[list[str]] = []
    for method, settings in chosen.items():
        before, together = (float(work.families(method, s).mean()) for s in (start[method], settings))
        if together < before:
            chosen[method] = settings = start[method]
        rows.append([f"`{method}`", f"{before:.3f}", f"{together:.3f}", _said(settings)])
    trained = [(m, s) for m, s in chosen.items() if "steps" in s]
    work.measure(trained, seed=1)
    best = max(UNTRAINED, key=lambda m: float(work.families(m, chosen[m]).mean()))
    text = "\n".join(
        [
            _verdicts(verdicts),
            markdown_table(("method", "isolation with what is shared", "with all that was chosen", "settings"), rows),
            markdown_table(
                ("method", "Spearman of organisms, seed 0 against seed 1"),
                [[f"`{m}`", f"{work.retest(m, s):.2f}"] for m, s in trained],
            ),
            f"The baseline without training that every method is compared with: `{best}`, the best of {', '.join(UNTRAINED)}.\n",
        ]
    )
    work.save(chosen)
    return text


def _verdicts(found: Sequence[Verdict]) -> str:
    return markdown_table(
        ("of", "factor", "isolation by value, difference to the default ± standard error", "chosen"),
        [[v.who, v.factor, _values(v), str(v.chosen)] for v in found],
    )


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
