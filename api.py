"""The Python door: the functions that the command line stands on, for a notebook or a script.

    import diffbench as db

    results = db.run("mean_diff", "taboo")
    db.table(results)

A method may be a class written a line above, an organism a pair of one's own; findings made elsewhere are scored without a method.
"""

import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from .harness.commands.score import check_fit
from .harness.commands.settings import RunFile, Settings, configured, each_once, given, loader, run_file, usable
from .harness.pairs.loading import load_pair as _load_pair
from .harness.pairs.pair import Pair
from .harness.records.result import SCORES, Result
from .harness.runs.folder import check_writable
from .harness.runs.plots import SIZE, dose_response
from .harness.runs.run import Quiet
from .harness.runs.run import run as _run
from .harness.terminal import silenced
from .methods.contract import Access, DiffResult, Finding, NoConfig
from .methods.formats.findings import entry_from_file, entry_from_findings
from .methods.registry import all_facts, from_class
from .organisms.card import Tier
from .organisms.errors import DiffbenchError, UsageError
from .organisms.hub.sources import Kind, PairSource, locate
from .organisms.hub.user_pair import UserPair, user_organism
from .organisms.organism import Organism
from .organisms.registry import expand, load_card, load_organism, organism_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["list_methods", "list_organisms", "load_pair", "own_pair", "plot", "run", "score", "table"]


def load_pair(
    base: str | Path,
    adapter: str | Path | None = None,
    *,
    tuned: str | Path | None = None,
    on: str | Path | None = None,
    layer: int | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    device_map: str | None = None,
    allow_other_base: bool = False,
) -> Pair:
    """Load a base and its fine-tune as one object.

    Args:
        base: folder, hub id (`org/repo[/subfolder][@revision]`) or a fetched base's name; `adapter`, `tuned` and `on` likewise.
        adapter: LoRA adapter of the fine-tuned model.
        tuned: the fine-tuned model as a whole, instead of an adapter.
        on: LoRA adapter under both sides.
        layer: hooked layer; default: the highest block that differs, if it is not the last, else the middle one.
        device: cpu, cuda, cuda:N or mps.
        dtype: float32, bfloat16 or float16; default fp32 on a CPU, bf16 elsewhere.
        device_map: of transformers, to spread a model over devices.
        allow_other_base: accept an adapter that says it was trained on another base.

    Returns:
        The pair: `residuals(ids, side)` [rows, pos, d_model], `logits`, `resume`, `generate`, `weight_changes()`.

    Raises:
        PairError: models that do not belong together. PrerequisiteError: a model that is not to be had, too little memory.
    """

    def folder(given: str | Path | None, kind: Kind, what: str) -> Path | None:
        return None if given is None else locate(str(given), kind, what).folder

    source = PairSource(
        locate(str(base), "model", "base").folder,
        folder(adapter, "adapter", "adapter"),
        on=folder(on, "adapter", "adapter"),
        tuned=folder(tuned, "model", "fine-tuned model"),
        allow_other_base=allow_other_base,
        base_name=str(base),
    )
    with silenced(False):
        return _load_pair(source, layer=layer, device=device, dtype=dtype, device_map=device_map)


def own_pair(
    base: str | Path,
    behaviour: str | Path,
    adapter: str | Path | None = None,
    *,
    tuned: str | Path | None = None,
    on: str | Path | None = None,
    texts: str | Path | None = None,
    allow_other_base: bool = False,
) -> Organism:
    """A pair of one's own with its behaviour file, to be given to `run` and `score` as the organism.

    Raises:
        UsageError: neither or both of adapter and tuned. ValidationFailed, PrerequisiteError: see `load_pair`.
    """
    models = {"base": base, "behaviour": behaviour, "adapter": adapter, "tuned": tuned, "on": on, "texts": texts}
    return user_organism(given(models, allow_other_base))


def run(
    method: str | Path | type[Any] | Iterable[str | Path | type[Any]],
    organism: str | Path | Organism | Iterable[str | Path | Organism],
    *,
    seed: int | Iterable[int] = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> list[Result]:
    """Run methods on organisms and score what they find; the same as `bench run`.

    Args:
        method: names, files, or classes with a `diff(problem)`.
        organism: names, YAML cards, or pairs of one's own (`own_pair`).
        seed: method seeds.
        out: folder for run folders, which are read again instead of run again; None: nothing is kept.
        overwrite: run finished cells again.
        options: `tier`, `layer`, `tokens`, `seconds`, `limit`, `sinks`, `device`, `dtype`, `device_map`, `backend`,
            of several `layer`s the anchors are run as well, by which a layer is judged;
            `cache` (False: everything is measured anew), and `set={method: {option: value}}`.

    Returns:
        One result a cell, failed ones among them (`status`, `reason`).

    Raises:
        UsageError: unknown names or options. Of several, one that is damaged is left out with a warning.
    """
    chosen: list[Any] = [method] if isinstance(method, str | Path | type) else list(method)
    of: list[Any] = [organism] if isinstance(organism, str | Path | Organism) else list(organism)
    file = _options(options | {"seed": list(seed) if isinstance(seed, Iterable) else [seed]})
    left_out: dict[str, DiffbenchError] = {}
    find = loader(file)
    entries = usable(
        each_once(chosen, file.layer),
        lambda m: from_class(m) if isinstance(m, type) else find(str(m)),
        left_out,
    )
    settings = Settings(_organisms(of, left_out, file.tier), configured(entries, file.set, left_out), file, left_out)
    for name, why in left_out.items():
        warnings.warn(f"{name} was left out: {why}", stacklevel=2)
    return _cells(settings, out, overwrite)


def score(
    findings: str | Path | Iterable[Finding | Tensor],
    organism: str | Path | Organism,
    *,
    name: str | None = None,
    access: Access = "activations",
    claims: Iterable[str] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Result:
    """Score directions that were found elsewhere; no method is written.

    Args:
        findings: a findings file (docs/scoring-findings.md), or directions [d_model] in raw residual units, from base to fine-tuned, best
            first; or `Finding`s, which may have a gate.
        organism: a name, or a pair of one's own.
        name: what the row is called; default: the file's name for itself, else its stem, or `findings`.
        access: what was looked at to find them, recorded as your word.
        claims: what they are said to mean, in words; a file has its own.
        out: folder for run folders, in which finished cells are found again; None keeps nothing.
        overwrite: run finished cells again.
        options: as of `run`, with one seed.

    Returns:
        The result; `status` is `failed` for directions of another width or not finite, with the `reason`.

    Raises:
        UsageError: unknown names or options, several organisms or seeds, claims beside a file.
        PrerequisiteError, ValidationFailed: no such file, or one that holds no findings of this pair.
    """
    file = _options(options)
    organisms = _organisms([organism], {}, file.tier)
    if len(organisms) != 1:
        raise UsageError(f"{organism} is {len(organisms)} organisms; findings belong to one pair: give its name")
    if len(file.seed) != 1:
        raise UsageError(
            f"{len(file.seed)} seeds were given; findings were found with one: give seed=0, or leave it out"
        )
    if len(file.layer) > 1:
        raise UsageError(f"{len(file.layer)} layers were given; findings were found at one: give layer={file.layer[0]}")
    said = list(claims)
    if isinstance(findings, str | Path):
        if said:
            raise UsageError("a findings file holds its own claims; put them into its metadata, or give directions")
        entry = entry_from_file(Path(findings), name, access)
        check_fit([entry], organisms, file.one_layer)
    else:
        found = [f if isinstance(f, Finding) else Finding(torch.as_tensor(f)) for f in findings]
        entry = entry_from_findings(DiffResult(found, claims=said), name or "findings", access)
    return _cells(Settings(organisms, [(entry, NoConfig())], file, {}), out, overwrite)[0]


def _options(given: dict[str, Any]) -> RunFile:
    """Options of a run; what has an argument of its own is none.

    Raises:
        UsageError: unknown options.
    """
    own = ("method", "organism", "out", *UserPair.model_fields)
    if wrong := [name for name in given if name in own]:
        raise UsageError(f"{wrong[0]} is no option here; a pair of your own is `organism=db.own_pair(…)`")
    return run_file(given)


def _organisms(
    given: Iterable[str | Path | Organism], left_out: dict[str, DiffbenchError], tier: Tier | None
) -> list[Organism]:
    """Organisms by name, each name as on the command line, or as they are."""
    named = [n for one in given for n in ([one] if isinstance(one, Organism) else expand([str(one)], tier=tier))]
    unique = [n for i, n in enumerate(named) if isinstance(n, Organism) or n not in named[:i]]
    return usable(unique, lambda n: n if isinstance(n, Organism) else load_organism(n), left_out)


def _cells(settings: Settings, out: str | Path | None, overwrite: bool) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="diffbench-") as scratch:
        where = Path(out) if out else Path(scratch)
        check_writable(where)
        file: RunFile = settings.file.model_copy(update={"out": where})
        plan = Settings(settings.organisms, settings.methods, file, {}).plan(overwrite)
        with silenced(False):
            results = list(_run(plan, Quiet(), lambda: ""))
        if plan.cache and plan.cache.trouble:
            warnings.warn(plan.cache.trouble, stacklevel=3)
        return results


def table(results: Result | Iterable[Result]) -> pd.DataFrame:
    """Results as a data frame: a row a cell, each score with the ends of its 95 % interval.

    `limit` is the number of prompts a split of a partial result. Nulls have a share of `false_discoveries` and no scores.
    """
    rows: list[dict[str, Any]] = []
    for r in [results] if isinstance(results, Result) else results:
        row: dict[str, Any] = {
            "organism": r.identity.organism,
            "layer": r.identity.layer,
            "method": r.identity.row,
            "seed": r.identity.seeds["method"],
            "status": r.status,
            "limit": r.identity.limit,
        }
        for name in SCORES:
            found = getattr(r.scores, name) if r.scores else None
            row |= {
                name: found and found.value,
                f"{name}_low": found and found.ci_low,
                f"{name}_high": found and found.ci_high,
            }
        row["false_discoveries"] = r.false_discovery and r.false_discovery.share
        rows.append(row | {"seconds": r.cost.wall_s, "reason": r.reason})
    return pd.DataFrame(rows)


def plot(result: Result) -> "Figure":
    """The dose-response curves of a result, as in its run folder: behaviour against collateral, one panel a side, dev prompts.

    A notebook shows the figure where it is a cell's last line; elsewhere `plot(result).savefig("curves.png")`.

    Raises:
        UsageError: a result without curves (failed, a null, or the oracle, which has no strengths).
    """
    if not result.curves:
        why = (
            f"it is {result.status}: {result.reason}"
            if result.reason
            else "nulls and the oracle have no strengths to draw"
        )
        raise UsageError(
            f"{result.identity.method} on {result.identity.organism} has no curves: {why}; give another result"
        )
    import matplotlib.pyplot as plt  # only with pyplot does a notebook show figures; closed, it shows this one once

    figure = plt.figure(figsize=SIZE)
    dose_response(result, figure)
    plt.close(figure)
    return figure


def list_organisms() -> pd.DataFrame:
    """The organisms of the zoo: family, base, role, status, and the behaviour's rate before and after."""
    cards = [load_card(name) for name in organism_names()]
    return pd.DataFrame(
        [
            {
                "name": c.name,
                "family": c.family,
                "variant": c.variant,
                "base": c.base,
                "role": c.role,
                "status": c.status,
                "layer": c.layer,
                "rate_base": c.measured["behaviour_test"].base.value,
                "rate_tuned": c.measured["behaviour_test"].organism.value,
            }
            for c in cards
        ]
    )


def list_methods() -> pd.DataFrame:
    """The methods that can be named, with what each may see."""
    return pd.DataFrame(all_facts())
