"""The Python door: the functions that the command line stands on, for a notebook or a script.

    import diffbench as db

    results = db.run("mean_diff", "taboo")
    db.table(results)

A method may be a class written a line above, an organism a pair of one's own; findings made elsewhere are scored without a method.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from .harness.commands.settings import RunFile, Settings, configured, given, run_file
from .harness.pairs.loading import load_pair as _load_pair
from .harness.pairs.pair import Pair
from .harness.protocol.result import SCORES, Result
from .harness.runs.folder import check_writable
from .harness.runs.run import Quiet
from .harness.runs.run import run as _run
from .harness.terminal import silenced
from .methods.catalogue import BUILTIN
from .methods.contract import DiffResult, Finding, NoConfig
from .methods.entry import MethodEntry
from .methods.registry import all_facts, from_class, load_method
from .organisms.card import sha256_text
from .organisms.hub.sources import PairSource, locate
from .organisms.hub.user_pair import user_organism
from .organisms.organism import Organism
from .organisms.registry import expand, load_card, load_organism, organism_names

__all__ = ["list_methods", "list_organisms", "load_pair", "own_pair", "run", "score", "table"]


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
    models = {k: locate(str(v), "model", k).folder for k, v in (("base", base), ("tuned", tuned)) if v is not None}
    adapters = {k: locate(str(v), "adapter", k).folder for k, v in (("adapter", adapter), ("on", on)) if v is not None}
    source = PairSource(
        models["base"],
        adapters.get("adapter"),
        adapters.get("on"),
        models.get("tuned"),
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
    allow_other_base: bool = False,
) -> Organism:
    """A pair of one's own with its behaviour file, to be given to `run` and `score` as the organism.

    Raises:
        UsageError: neither or both of adapter and tuned. ValidationFailed, PrerequisiteError: see `load_pair`.
    """
    models = {"base": base, "behaviour": behaviour, "adapter": adapter, "tuned": tuned, "on": on}
    return user_organism(given(models, allow_other_base))


def run(
    method: str | type[Any] | Sequence[str | type[Any]],
    organism: str | Organism | Sequence[str | Organism],
    *,
    seed: int | Sequence[int] = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> list[Result]:
    """Run methods on organisms and score what they find; the same as `bench run`.

    Args:
        method: names, or classes with a `diff(problem)`.
        organism: names, or pairs of one's own (`own_pair`).
        seed: method seeds.
        out: folder for run folders, which are read again instead of run again; None: nothing is kept.
        overwrite: run finished cells again.
        options: `layer`, `tokens`, `limit`, `sinks`, `device`, `dtype`, `device_map`, `backend`, and `set={method: {option: value}}`.

    Returns:
        One result a cell, failed ones among them (`status`, `reason`).

    Raises:
        UsageError: unknown names or options.
    """
    chosen = [method] if isinstance(method, str | type) else list(method)
    of = [organism] if isinstance(organism, str | Organism) else list(organism)
    seeds = [seed] if isinstance(seed, int) else list(seed)
    file = run_file({"seed": seeds, **options})
    names = list(BUILTIN) if chosen == ["all"] else chosen
    entries = [from_class(m) if isinstance(m, type) else load_method(m) for m in names]
    return _cells(Settings(_organisms(of), configured(entries, file.set), file, {}), out, overwrite)


def score(
    findings: Iterable[Finding | Tensor], organism: str | Organism, *, name: str = "findings", **options: Any
) -> Result:
    """Score directions that were found elsewhere; no method is written.

    Args:
        findings: directions [d_model] in raw residual units, from base to fine-tuned, best first; or `Finding`s, which may have a gate.
        organism: a name, or a pair of one's own.
        name: what the row is called.
        options: as of `run`.

    Raises:
        FindingError: directions of another width, not finite, or none.
    """
    found = [f if isinstance(f, Finding) else Finding(torch.as_tensor(f)) for f in findings]

    class Given:
        """Findings made elsewhere."""

        access = "activations"
        stochastic = False

        def diff(self, problem: Any) -> DiffResult:
            return DiffResult(found)

    said = [(f.direction.tolist(), f.gate and (f.gate.read.tolist(), f.gate.threshold)) for f in found]
    entry = MethodEntry(name, Given, "findings given to db.score", sha256_text(repr(said))[:16])
    settings = Settings(_organisms([organism]), [(entry, NoConfig())], run_file(options), {})
    return _cells(settings, None, False)[0]


def _organisms(given: Sequence[str | Organism]) -> list[Organism]:
    """Organisms by name, each name as on the command line, or as they are."""
    found: list[Organism] = []
    for one in given:
        found += [one] if isinstance(one, Organism) else [load_organism(name) for name in expand([one])]
    return found


def _cells(settings: Settings, out: str | Path | None, overwrite: bool) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="diffbench-") as scratch:
        where = Path(out) if out else Path(scratch)
        check_writable(where)
        file: RunFile = settings.file.model_copy(update={"out": where})
        plan = Settings(settings.organisms, settings.methods, file, {}).plan(overwrite)
        with silenced(False):
            return list(_run(plan, Quiet(), lambda: ""))


def table(results: Result | Iterable[Result]) -> pd.DataFrame:
    """Results as a data frame: a row a cell, each score with the ends of its 95 % interval."""
    rows: list[dict[str, Any]] = []
    for r in [results] if isinstance(results, Result) else results:
        row: dict[str, Any] = {
            "organism": r.identity.organism,
            "method": r.identity.method,
            "seed": r.identity.seeds["method"],
            "status": r.status,
        }
        for name in SCORES:
            found = getattr(r.scores, name) if r.scores else None
            row |= {
                name: found and found.value,
                f"{name}_low": found and found.ci_low,
                f"{name}_high": found and found.ci_high,
            }
        rows.append(row | {"seconds": r.cost.wall_s, "reason": r.reason})
    return pd.DataFrame(rows)


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
            }
            for c in cards
        ]
    )


def list_methods() -> pd.DataFrame:
    """The methods that can be named, with what each may see."""
    return pd.DataFrame(all_facts())
