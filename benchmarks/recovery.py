"""`python -m benchmarks.recovery`: do dictionary methods find planted atoms, and does L1 show more artefacts than BatchTopK?

Every dictionary method is fitted to planted residuals (`planted.py`) of two sparsities, with several seeds that draw atoms, data and
initial rows. k is what is active in the vector that a method codes, the price of L1 is the published one; nothing is chosen on such
data. A second table counts Complete Shrinkage and Latent Decoupling (Minder et al. 2025) among the latents that the decoder norms
call fine-tuned only, at several prices, because L1's artefacts depend on its price.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffbench.methods.catalogue import PUBLISHED as IN_PAPERS
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.coder.fitting import DictionaryConfig
from diffbench.methods.coder.scaling import FT_ONLY, relative_decoder_norm
from diffbench.methods.contract import DiffResult, Method
from diffbench.methods.crosscoders import DeltaConfig
from diffbench.methods.registry import load_method
from diffbench.methods.saes import TAUS
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize

from .planted import Kind, PlantedProblem, Setting, planted
from .records import Machine, Record, machine
from .table import insert

METHODS = ("l1", "batch_topk", "delta", "dsf", "dfc", "sae_ft", "sae_base", "sae_diff", "sae_pair", "sae_stagewise")
CROSSCODERS = METHODS[:5]
PUBLISHED: float = IN_PAPERS["l1"]["sparsity"]
"""Price λ of L1."""
COUNTED = ("l1", "batch_topk", "delta")
"""Crosscoders whose artefacts are counted."""
UNSEEN: dict[str, tuple[Kind, ...]] = {
    **dict.fromkeys(("sae_ft", "sae_pair", "sae_stagewise"), ("lost",)),
    "sae_base": ("new",),
    "sae_diff": ("unchanged",),
}
"""Kinds of atoms that the vector a method codes does not hold."""
VECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(CROSSCODERS, lambda h_T2d: h_T2d),
    "sae_ft": lambda h_T2d: h_T2d[:, 1:],
    "sae_base": lambda h_T2d: h_T2d[:, :1],
    "sae_diff": lambda h_T2d: h_T2d[:, 1:] - h_T2d[:, :1],
}
"""[T, 2, d] → [T, M, d] what a method's dictionary codes; the pair and the stages end with one of the fine-tuned model."""
IN_BASE: tuple[Kind, ...] = ("unchanged", "stretched", "turned", "lost")
"""Atoms that the base has."""
RATES = ("shrunken", "decoupled")
FOUND = 0.9
"""|cosine| from which a finding is an atom."""
ABSENT = 0.2
"""|β_base/β_ft| below which an SAE's latent counts as fine-tuned only (the published threshold of ν^ε)."""
UNMATCHED = TAUS[1]
"""Cosine with the base's dictionary below which a latent of `sae_pair` counts as fine-tuned only."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    settings: tuple[Setting, ...]
    seeds: int
    claim_seeds: int
    tokens: int
    held_out: int
    steps: int
    prices: tuple[float, ...]
    """λ of L1 in the second part."""


FULL = Sizes((Setting("sparse", 4), Setting("dense", 10)), 3, 5, 12_288, 4096, 700, (PUBLISHED / 4, PUBLISHED))
QUICK = Sizes((Setting("separable", 3, unchanged=16, each=2, orthogonal=True),), 1, 1, 4096, 1024, 200, (PUBLISHED,))


class Fit(Record):
    """One method on one draw of planted residuals."""

    method: str
    price: float | None
    """λ of L1."""
    setting: str
    seed: int
    recall: float
    """Share of the atoms that only the fine-tuned model has with |cos| > .9 to one of the first 16 findings."""
    flagged: dict[Kind, int] | None
    """Latents the method says are fine-tuned only, by kind of the nearest atom; None: it says that of none. Crosscoders: candidates with
    rdn > 5/6; `sae_ft`: findings with |β_base/β_ft| < .2; `sae_pair`: findings whose best cosine with the base's dictionary is < .7."""
    unchanged: float
    """Share of the findings whose nearest atom did not change."""
    explained: dict[str, float]
    """Fraction of variance explained on held-out residuals, of what the method codes."""
    dead: float
    """Share of the latents that never fire on the harvest."""
    l0: float
    """Mean active latents at the inference threshold, held-out."""
    k: float | None
    """PromptResiduals for, all groups together; None for L1."""
    ft_only: int | None
    """Candidates with rdn > 5/6 whose error betas are defined; None for SAEs."""
    shrunken: float | None
    """Complete Shrinkage rate among those in the published range of ν^ε; None if there are none."""
    decoupled: float | None
    """Latent Decoupling rate, likewise with ν^r."""
    seconds: float
    """Wall clock."""


class Recovery(Record):
    """Everything one run measured."""

    machine: Machine
    quick: bool
    seeds: int
    """Of the methods; those whose artefacts are counted have more."""
    fits: list[Fit]
    seconds: float


def configured(name: str, setting: Setting, steps: int, price: float | None) -> tuple[Method, float | None]:
    """A method at its defaults but for what belongs to the scale of the data (steps, batch, four latents a dimension, k), and k in all."""
    entry = load_method(name)
    options: dict[str, Any] = {"batch": 256, "expansion": 4, "patching_tokens": 0, "steps": steps}
    if name in ("sae_pair", "sae_stagewise"):
        options["steps"] = steps // 2
    if name == "l1":
        return entry.create(entry.configure(options | {"sparsity": price})), None
    seen = [kind for kind in setting.kinds if kind not in UNSEEN.get(name, ())]
    k = setting.active / len(setting.kinds) * len(seen)
    options["k"] = k
    if name == "delta":  # its k is what non-shared latents get
        options["k"] = k / (1 + DeltaConfig().shared_k)
    return entry.create(entry.configure(options)), k


def fit(setting: Setting, sizes: Sizes, seed: int, name: str, price: float | None) -> Fit:
    """Draw residuals, fit, compare with the truth."""
    begin = time.perf_counter()
    truth = planted(setting, sizes.tokens, sizes.held_out, seed)
    method, k = configured(name, setting, sizes.steps, price)
    result = method.diff(PlantedProblem(truth.residuals_T2d, seed))
    facts, directions_Kd = result.diagnostics, torch.stack([f.direction for f in result.findings])
    raw, shown = RawCoder(**(result.dictionary or {})), VECTORS.get(name, VECTORS["sae_ft"])
    seen_TMd = shown(truth.held_out_T2d)
    codes_TN = raw.encode(seen_TMd)
    flagged_Kd = _flagged(name, result, raw, shown(truth.residuals_T2d))
    cosines = normalize(directions_Kd, dim=1) @ truth.of("new").T
    scaling = facts["latent_scaling"]
    kinds = truth.nearest(directions_Kd)
    return Fit(
        method=name,
        price=price,
        setting=setting.name,
        seed=seed,
        recall=float((cosines.abs().amax(0) > FOUND).float().mean()),
        flagged=None if flagged_Kd is None else dict(Counter(truth.nearest(flagged_Kd))),
        unchanged=kinds.count("unchanged") / len(kinds),
        explained=_explained(name, seen_TMd, raw.decode(codes_TN)),
        dead=facts["dead_share"],
        l0=float((codes_TN > 0).sum(1).float().mean()),
        k=k,
        ft_only=scaling.get("ft_only"),
        shrunken=scaling["complete_shrinkage"]["rate"] if "ft_only" in scaling else None,
        decoupled=scaling["latent_decoupling"]["rate"] if "ft_only" in scaling else None,
        seconds=time.perf_counter() - begin,
    )


def _flagged(name: str, result: DiffResult, raw: RawCoder, h_TMd: Tensor) -> Tensor | None:
    """[K, d] what the method calls fine-tuned only, see `Fit.flagged`."""
    if name in CROSSCODERS:
        candidate_N = (raw.encode(h_TMd) > 0).sum(0) >= DictionaryConfig().min_tokens
        candidate_N[: result.diagnostics["n_shared"]] = False
        return raw.decoder_NMd[candidate_N & (relative_decoder_norm(raw.decoder_NMd) > FT_ONLY), 1]
    said: dict[str, Callable[[dict[str, Any]], bool]] = {
        "sae_ft": lambda e: abs(e["beta_base"]) < ABSENT * abs(e["beta_ft"]),
        "sae_pair": lambda e: e["best_cosine"] < UNMATCHED,
    }
    if name not in said:
        return None
    kept = [f.direction for f in result.findings if "latent" in f.evidence and said[name](f.evidence)]
    return torch.stack(kept) if kept else raw.decoder_NMd.new_zeros(0, raw.decoder_NMd.shape[2])


def _explained(name: str, h_TMd: Tensor, out_TMd: Tensor) -> dict[str, float]:
    """Of every vector that is coded; of the difference too if both models are."""
    if h_TMd.shape[1] == 2:
        h_TMd, out_TMd = (torch.cat([x, x[:, 1:] - x[:, :1]], 1) for x in (h_TMd, out_TMd))
    left_M = (h_TMd - out_TMd).square().sum((0, 2))
    shares = (1 - left_M / (h_TMd - h_TMd.mean(0)).square().sum((0, 2))).tolist()
    names = {3: ("base", "ft", "delta"), 1: ({"sae_base": "base", "sae_diff": "delta"}.get(name, "ft"),)}[len(shares)]
    return dict(zip(names, shares, strict=True))


def run(sizes: Sizes, quick: bool) -> Recovery:
    """All fits: first every method, then more seeds and prices of those whose artefacts are counted."""
    begin, here = time.perf_counter(), machine()
    counted = [*(("l1", price) for price in sizes.prices), ("batch_topk", None), ("delta", None)]
    wanted = [(name, PUBLISHED if name == "l1" else None, seed) for name in METHODS for seed in range(sizes.seeds)]
    wanted += [(name, price, seed) for name, price in counted for seed in range(sizes.claim_seeds)]
    fits = [
        fit(setting, sizes, seed, name, price)
        for setting in sizes.settings
        for name, price, seed in dict.fromkeys(wanted)
    ]
    return Recovery(machine=here, quick=quick, seeds=sizes.seeds, fits=fits, seconds=time.perf_counter() - begin)


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % interval by Student's t over seeds; no interval for fewer than two."""
    if not values:
        return "–"
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def _spread(values: Iterable[float]) -> str:
    """Mean, lowest and highest."""
    held = list(values)
    return f"{statistics.mean(held):.2f} [{min(held):.2f}, {max(held):.2f}]" if held else "–"


def _by(fits: Sequence[Fit]) -> dict[tuple[str, str, float | None], list[Fit]]:
    """Fits of one setting, method and price, in order."""
    groups: dict[tuple[str, str, float | None], list[Fit]] = {}
    for f in fits:
        groups.setdefault((f.setting, f.method, f.price), []).append(f)
    return groups


def markdown(measured: Recovery) -> str:
    """Both tables and the differences."""
    here = measured.machine
    head = (
        f"{measured.seeds} seeds, mean [lowest, highest]; {measured.seconds:.0f} s of wall clock on {here.threads} "
        f"thread{'s' * (here.threads != 1)} of {here.cpu} at load {here.load:.1f}, torch {here.torch}."
    )
    first = [f for f in measured.fits if f.seed < measured.seeds and f.price in (None, PUBLISHED)]
    columns = "data|method|recall|false exclusive|unchanged among findings|explained base|ft|delta|dead|L0 held-out|k"
    rows = [_row(setting, method, group) for (setting, method, _), group in _by(first).items()]
    return "\n\n".join([head, _table(columns, rows), *_claim([f for f in measured.fits if f.method in COUNTED])]) + "\n"


def _row(setting: str, method: str, group: Sequence[Fit]) -> tuple[str, ...]:
    return (
        setting,
        f"`{method}`",
        _spread(f.recall for f in group),
        _false(group),
        _spread(f.unchanged for f in group),
        *(_spread(f.explained[m] for f in group if m in f.explained) for m in ("base", "ft", "delta")),
        _spread(f.dead for f in group),
        _spread(f.l0 for f in group),
        "–" if group[0].k is None else f"{group[0].k:.2f}",
    )


def _false(group: Sequence[Fit]) -> str:
    """How many of the latents called fine-tuned only are not, all seeds together, and what they are."""
    if any(f.flagged is None for f in group):
        return "no claim"
    said = sum((Counter(f.flagged) for f in group), Counter[Kind]())
    wrong = {kind: said[kind] for kind in IN_BASE if said[kind]}
    what = ", ".join(f"{n} {kind}" for kind, n in wrong.items())
    return f"{sum(wrong.values())} of {said.total()}" + (f" ({what})" if what else "")


def _claim(fits: Sequence[Fit]) -> list[str]:
    """Artefact rates, and L1's minus BatchTopK's on the same draws."""
    groups = _by(fits)
    rows: list[tuple[str, ...]] = []
    for (setting, method, price), group in groups.items():
        peers = groups[setting, "batch_topk", None]
        for_l1 = method == "l1"
        rows.append(
            (
                setting,
                f"`{method}`" + (f", λ {price:g}" if for_l1 else ""),
                _spread(f.l0 for f in group),
                _spread(f.ft_only or 0 for f in group),
                _false(group),
                *(interval([v for f in group if (v := getattr(f, rate)) is not None]) for rate in RATES),
                *(interval(differences(group, peers, rate)) if for_l1 else "" for rate in RATES),
            )
        )
    seeds = len({f.seed for f in fits})
    columns = (
        "data|method|L0 held-out|ft-only latents|false exclusive|Complete Shrinkage|Latent Decoupling|"
        "shrinkage − BatchTopK's|decoupling − BatchTopK's"
    )
    note = (
        f"Artefacts among the latents called fine-tuned only, {seeds} seeds: L0 and counts with lowest and highest; rates and differences "
        "with 95 % intervals over seeds (Student's t), differences paired by draw, draws left out where one of the two has no such latent."
    )
    return [note, _table(columns, rows)]


def differences(ours: Sequence[Fit], peers: Sequence[Fit], rate: str) -> list[float]:
    """`rate` of one method minus that of another on the same draws, where both have one."""
    other = {f.seed: getattr(f, rate) for f in peers}
    pairs = [(getattr(f, rate), other.get(f.seed)) for f in ours]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _table(columns: str, rows: Iterable[tuple[str, ...]]) -> str:
    names = tuple(columns.split("|"))
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ("---",) * len(names), *rows))


def main(
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("docs/recovery.json"),
    quick: Annotated[bool, typer.Option("--quick", help="Separable atoms, few tokens: to test the scripts.")] = False,
    again: Annotated[bool, typer.Option("--table", help="Only write the table of the record that is there.")] = False,
) -> None:
    """Fit every dictionary method to planted residuals; write the record and the table of the page beside it, if there is one."""
    if not again:
        out.write_text(run(QUICK if quick else FULL, quick).model_dump_json(indent=1) + "\n")
    table, page = markdown(Recovery.model_validate_json(out.read_text())), out.with_suffix(".md")
    if page.exists():
        page.write_text(insert(page.read_text(), table))
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
