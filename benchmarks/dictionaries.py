"""`python -m benchmarks.dictionaries`: are neighbouring layers' dictionaries alike, and are L1's fine-tuned-only latents shared ones?

*Layers.* SAEs of one base at every block with several seeds are compared, two of different seeds at a time: two trainings of one seed
begin with the same rows. What two trainings on one layer agree on is the ceiling. Latents that do not fire on held-out text are left out,
and agreement is counted above random rows with the same second moment, since all layers write along a few large directions.
*L1.* Nothing is trained: what crosscoders found on the embedded tier is in the published records, what they find on planted residuals in
docs/recovery.json. Of the latents whose decoder norms set them apart, how many does Latent Scaling call shared (Minder et al. 2025)?
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from diffbench.harness.agreement.comparing import Comparison, Given, compare
from diffbench.harness.agreement.picture import save
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.records import records
from diffbench.harness.runs.stage import Stage
from diffbench.harness.store.labels import as_published
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.coder.readout import DECOUPLED, SHRUNKEN
from diffbench.methods.coder.scaling import SHARED
from diffbench.methods.contract import Budget, DiffResult
from diffbench.methods.formats import Dictionary, DictionaryCard
from diffbench.methods.registry import load_method
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_card, load_organism
from scipy import stats

from .records import Machine, Record, machine
from .recovery import PUBLISHED as PRICE
from .recovery import Recovery
from .table import insert

SAE, CROSSCODERS = "sae_base", ("l1", "batch_topk")
ROWS = tuple(map(as_published, CROSSCODERS))
"""As their papers rank: by norm. Latent Scaling as a ranking would leave out what it calls shared."""
PUBLISHED, PLANTED = Path("leaderboard/published"), Path("docs/recovery.json")


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    seeds: int
    organisms: tuple[str, ...]
    """One for each base."""
    tokens: int
    options: dict[str, Any]
    read: int
    """Held-out tokens on which latents fire."""


FULL = Sizes(3, ("taboo/gold-narrow", "null/benign-narrow-llama"), 16_000, {"steps": 250, "expansion": 4}, 4000)
QUICK = Sizes(2, ("taboo/gold-narrow",), 2000, {"steps": 10, "expansion": 1}, 600)


class AtDistance(Record):
    """Two layers of a base, all pairs of seeds."""

    base: str
    layers: tuple[int, int]
    by_seeds: dict[str, tuple[float, float, float]]
    """Seeds of the two, as "0-1" → mean max cosine both ways together, the same above alike rows, activation correlation above moved
    text."""


class Apart(Record):
    """Latents of one crosscoder among its findings, and what Latent Scaling says of them."""

    organism: str
    method: str
    seed: int
    highest: float
    """Largest relative decoder norm of a finding; 5/6 is fine-tuned only."""
    exclusive: int
    """Candidates above 5/6."""
    apart: int
    """Findings whose decoder norms are not "shared" (above 5/9)."""
    shared: int
    """Of these, those that Latent Scaling calls shared: ν^ε at or above .2, or ν^r at or above .5."""


class Planted(Record):
    """One crosscoder on planted residuals: latents called fine-tuned only, and its artefact rates."""

    data: str
    method: str
    price: float | None
    seed: int
    exclusive: int
    shrunken: float | None
    decoupled: float | None


class Measured(Record):
    """Everything one run measured."""

    machine: Machine
    quick: bool
    layers: list[AtDistance]
    apart: list[Apart]
    planted: list[Planted]
    seconds: float


def fitted(stage: Stage, organism: Organism, seed: int, sizes: Sizes) -> DiffResult:
    """An SAE of the base, trained in this process."""
    entry = load_method(SAE)
    problem = Problem(
        stage.pair,
        stage.texts,
        organism.behaviour.of("dev"),
        entry.access,
        seed,
        Budget(sizes.tokens, 3600),
        memory=stage.memory,
    )
    return entry.create(entry.configure(sizes.options | {"patching_tokens": 0})).diff(problem)


def of_layers(organism: Organism, sizes: Sizes) -> tuple[Comparison, list[AtDistance]]:
    """SAEs of the base at every layer, every two of different seeds."""
    whole, given = Stage.load(organism), list[Given]()
    base, at = load_card(organism.name).base, list[tuple[int, int]]()
    for layer in range(whole.pair.n_layers):
        here = organism.at(layer, None)
        stage = Stage(here, whole.pair.at(layer), whole.texts, whole.protocol, 0.0)
        for seed in range(sizes.seeds):
            found = fitted(stage, here, seed, sizes)
            raw = RawCoder(**(found.dictionary or {}))
            card = DictionaryCard(
                inputs="base",
                d_model=raw.encoder_NMd.shape[2],
                n_latents=len(raw.bias_N),
                layer=layer,
                base=base,
                organism=organism.name,
                organism_sha256=organism.sha256,
                method=SAE,
            )
            given.append(Given(f"layer {layer}, seed {seed}", Dictionary(raw, card)))
            at.append((layer, seed))
    found = compare(given, tokens=sizes.read)
    by: dict[tuple[int, int], dict[str, tuple[float, float, float]]] = {}
    for p in found.pairs:
        (layer_a, seed_a), (layer_b, seed_b) = at[p.a], at[p.b]
        if seed_a == seed_b:
            continue
        ways = p.cosine_ab, p.cosine_ba
        firing = [way.above for way in (p.firing_ab, p.firing_ba) if way]
        numbers = (
            statistics.mean(w.value for w in ways),
            statistics.mean(w.above_alike or 0 for w in ways),
            statistics.mean(firing) if firing else 0.0,
        )
        by.setdefault((layer_a, layer_b), {})[f"{seed_a}-{seed_b}"] = numbers
    return found, [AtDistance(base=base, layers=layers, by_seeds=seeds) for layers, seeds in by.items()]


def apart(folder: Path) -> Iterator[Apart]:
    """Of every crosscoder in published records."""
    for record in records(folder):
        if (r := record.result) is None or r.identity.row not in ROWS or r.status != "ok":
            continue
        found: list[dict[str, Any]] = [f for f in r.diagnostics["findings"] if f.get("rdn") is not None]
        set_apart = [f for f in found if f["rdn"] > SHARED[1]]
        shared = [f for f in set_apart if f["nu_error"] >= SHRUNKEN or f["nu_reconstruction"] >= DECOUPLED]
        yield Apart(
            organism=r.identity.organism,
            method=r.identity.row,
            seed=r.identity.seeds["method"],
            highest=max(f["rdn"] for f in found),
            exclusive=r.diagnostics["latent_scaling"]["ft_only"],
            apart=len(set_apart),
            shared=len(shared),
        )


def on_planted(path: Path) -> Iterator[Planted]:
    """Of every crosscoder in the record of `benchmarks.recovery`."""
    for f in Recovery.model_validate_json(path.read_text()).fits:
        if f.method in CROSSCODERS and f.price in (None, PRICE):
            yield Planted(
                data=f.setting,
                method=f.method,
                price=f.price,
                seed=f.seed,
                exclusive=f.ft_only or 0,
                shrunken=f.shrunken,
                decoupled=f.decoupled,
            )


def run(sizes: Sizes, quick: bool, figure: Path | None) -> Iterator[Measured]:
    """Both observations, and what is there of them after each base; the heat map of the first."""
    begin, here = time.perf_counter(), machine()
    rows, planted = list(apart(PUBLISHED)), list(on_planted(PLANTED))
    layers = list[AtDistance]()
    for name in sizes.organisms:
        found, at = of_layers(load_organism(name, allow_failed=True), sizes)
        layers += at
        if figure is not None and not quick and name == sizes.organisms[0]:
            save(found, figure)
        seconds = time.perf_counter() - begin
        typer.echo(f"layers of {name}: {seconds:.0f} s", err=True)
        yield Measured(machine=here, quick=quick, layers=layers, apart=rows, planted=planted, seconds=seconds)


def jackknife(by_seeds: dict[str, float]) -> tuple[float, float]:
    """Mean over pairs of seeds, and half of its 95 % interval.

    Pairs that share a seed are not independent, so seeds are left out one at a time: pseudo-values n·θ − (n − 1)·θ₋ᵢ, Student's t.
    """
    pairs = {(int(a), int(b)): v for (a, b), v in ((k.split("-"), v) for k, v in by_seeds.items())}
    seeds = sorted({s for pair in pairs for s in pair})
    mean, n = statistics.mean(pairs.values()), len(seeds)
    if n < 3:
        return mean, float("nan")
    without = [statistics.mean(v for pair, v in pairs.items() if s not in pair) for s in seeds]
    pseudo = [n * mean - (n - 1) * w for w in without]
    return mean, float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(pseudo) / n**0.5


def gap(at: Sequence[AtDistance], which: int, near: Sequence[int], far: Sequence[int]) -> dict[str, float]:
    """For every pair of seeds, mean over layers `near` apart minus mean over layers `far` apart."""
    means = [pooled([a for a in at if a.layers[1] - a.layers[0] in group], which) for group in (near, far)]
    return {seeds: means[0][seeds] - means[1][seeds] for seeds in means[0] if seeds in means[1]}


def pooled(at: Sequence[AtDistance], which: int) -> dict[str, float]:
    """For every pair of seeds, whichever has which layer, the mean over these layers."""
    found: dict[str, list[float]] = {}
    for a in at:
        for seeds, numbers in a.by_seeds.items():
            found.setdefault("-".join(sorted(seeds.split("-"))), []).append(numbers[which])
    return {seeds: statistics.mean(v) for seeds, v in found.items()}


def markdown(m: Measured) -> str:
    """Both tables, and what replicates."""
    here = m.machine
    head = (
        f"{m.seconds:.0f} s of wall clock on {here.threads} thread{'s' * (here.threads != 1)} of {here.cpu} at load {here.load:.1f}, "
        f"torch {here.torch}."
    )
    return "\n\n".join([head, *_layers(m.layers), *_apart(m.apart), *_planted(m.planted)]) + "\n"


def _layers(at: Sequence[AtDistance]) -> list[str]:
    rows, verdicts = list[tuple[str, ...]](), list[str]()
    for base in dict.fromkeys(a.base for a in at):
        mine = [a for a in at if a.base == base]
        distances = sorted({a.layers[1] - a.layers[0] for a in mine})
        for distance in distances:
            here = [a for a in mine if a.layers[1] - a.layers[0] == distance]
            what = {0: "the same layer", 1: "neighbours"}.get(distance, f"{distance} apart")
            rows.append((f"`{base}`", what, *(_interval(pooled(here, i)) for i in range(3))))
        if len(distances) > 2:
            mean, half = jackknife(gap(mine, 1, [1], distances[2:]))
            said = "too few seeds" if half != half else "replicates" if mean - half > 0 else "does not replicate"
            verdicts.append(f"`{base}` {mean:.3f} ± {half:.3f} ({said})")
    table = _table("base|layers|mean max cosine|above alike rows|activation correlation above moved text", rows)
    claim = "Neighbours minus layers further apart, cosine above alike rows: " + "; ".join(verdicts) + "."
    return [
        "Layers, mean of both ways, with 95 % intervals over seeds (jackknife):",
        table,
        *([claim] if verdicts else []),
    ]


def _apart(found: Sequence[Apart]) -> list[str]:
    rows = list[tuple[str, ...]]()
    for organism in dict.fromkeys(e.organism for e in found):
        for method in ROWS:
            mine = [e for e in found if (e.organism, e.method) == (organism, method)]
            shared, of = sum(e.shared for e in mine), sum(e.apart for e in mine)
            ci = stats.binomtest(shared, of).proportion_ci() if of else None
            highest = f"{statistics.mean(e.highest for e in mine):.2f}"
            share = f"{shared / of:.2f} [{ci.low:.2f}, {ci.high:.2f}]" if ci else "–"
            rows.append(
                (
                    f"`{organism}`",
                    f"`{method}`",
                    str(sum(e.exclusive for e in mine)),
                    highest,
                    f"{shared} of {of}",
                    share,
                )
            )
    columns = "organism|method|fine-tuned only (rdn > 5/6)|highest rdn, mean|shared, of those with rdn > 5/9|share, exact binomial interval"
    note = (
        "Embedded tier, published records, three seeds together: findings that decoder norms set apart, and how many of them Latent "
        "Scaling calls shared."
    )
    return [note, _table(columns, rows)]


def _planted(found: Sequence[Planted]) -> list[str]:
    rows = list[tuple[str, ...]]()
    for data, method in dict.fromkeys((p.data, p.method) for p in found):
        mine = [p for p in found if (p.data, p.method) == (data, method)]
        rates = [[v for p in mine if (v := getattr(p, rate)) is not None] for rate in ("shrunken", "decoupled")]
        rows.append((data, f"`{method}`", str(sum(p.exclusive for p in mine)), *(_t(values) for values in rates)))
    columns = "data|method|fine-tuned-only latents, all seeds|Complete Shrinkage|Latent Decoupling"
    return [
        "Planted residuals, from docs/recovery.json: share of the fine-tuned-only latents that is shared.",
        _table(columns, rows),
    ]


def _t(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "–"
    mean, half = (
        statistics.mean(values),
        float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5,
    )
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def _interval(by_seeds: dict[str, float]) -> str:
    mean, half = jackknife(by_seeds)
    return f"{mean:.3f}" if half != half else f"{mean:.3f} ± {half:.3f}"


def _table(columns: str, rows: Sequence[tuple[str, ...]]) -> str:
    names = tuple(columns.split("|"))
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ("---",) * len(names), *rows))


def main(
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("docs/dictionaries.json"),
    quick: Annotated[bool, typer.Option("--quick", help="Few steps: to test the script.")] = False,
    again: Annotated[bool, typer.Option("--table", help="Only write the table of the record that is there.")] = False,
) -> None:
    """Train and compare; write the record, the figure, and the tables of the page beside it, if there is one."""
    page, figure = out.with_suffix(".md"), out.parent / "figures" / "dictionaries-layers.png"
    if not again:
        for found in run(QUICK if quick else FULL, quick, figure if figure.parent.is_dir() else None):
            out.write_text(found.model_dump_json(indent=1) + "\n")
    table = markdown(Measured.model_validate_json(out.read_text()))
    if page.exists():
        page.write_text(insert(page.read_text(), table))
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
