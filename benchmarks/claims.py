"""`python -m benchmarks.claims RECORDS`: what the seed papers claim, against records of the headline set; the table of docs/claims.md.

Each claim has a rule that was written before any number was seen. Those that compare methods are contrasts of the board
(`leaderboard/statistics/contrasts.py`) and have its verdicts; the others have rules of their own, here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.records.identity import PROTOCOL_VERSION
from diffbench.harness.records.result import Result
from diffbench.harness.store.labels import as_published
from diffbench.leaderboard.board.build import settled
from diffbench.leaderboard.pages.verdicts import contrast_text, replications
from diffbench.leaderboard.statistics.contrasts import ALIKE, CLAIMS, Replication, answered
from diffbench.leaderboard.statistics.grid import LABELLED
from diffbench.leaderboard.statistics.rows import ALPHA, Table, count
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.sets import HEADLINE, members
from scipy import stats

from .results import usable, whole
from .table import insert

DELTA, BATCH_TOPK, L1 = map(as_published, ("delta", "batch_topk", "l1"))
"""Rows of the methods with the settings of their papers: a claim is tested as it was made."""
IDENTICAL = "null/base-identical"


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    says: str
    source: str
    numbers: str
    verdict: Replication


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs, of the whole headline set.")] = Path("runs"),
    recovery: Annotated[Path, typer.Option(help="Record of `python -m benchmarks.recovery`.")] = Path(
        "docs/recovery.json"
    ),
    ablation: Annotated[Path, typer.Option(help="Record of `python -m benchmarks.ablation`.")] = Path(
        "docs/ablation.json"
    ),
    page: Annotated[Path, typer.Option(help="Page whose table is replaced.")] = Path("docs/claims.md"),
) -> None:
    """Write the table."""
    results = usable(records)
    core = members(HEADLINE)
    even = whole(results, core)  # no organism speaks with more seeds than another
    if not even:
        raise PrerequisiteError(
            f"claims are judged on all of {HEADLINE}, and no method below {records} has a seed on each of its {len(core)} organisms: "
            f"run `bench run -m all,published -o {HEADLINE} --seed 0,1,2`, and name the folder"
        )
    claims = [
        *compared(even, core),
        misattributes(json.loads(recovery.read_text())),
        flagged(even),
        no_tail(even),
        no_data(measured(ablation)),
    ]
    table = markdown(claims)
    atomic_write_text(page, insert(page.read_text(), table))
    typer.echo(table)


def measured(ablation: Path) -> dict[str, Any]:
    """The record of `python -m benchmarks.ablation`.

    Raises:
        PrerequisiteError: there is none of this protocol.
    """
    record = json.loads(ablation.read_text()) if ablation.is_file() else {}
    if record.get("protocol") != PROTOCOL_VERSION:
        raise PrerequisiteError(
            f"{ablation} holds no ablation under protocol {PROTOCOL_VERSION}: run `python -m benchmarks.ablation`"
        )
    return record


def markdown(claims: Sequence[Claim]) -> str:
    """One row a claim."""
    lines = ["| claim | source | measured | on the embedded tier |", "|---|---|---|---|"]
    rows = (f"| {c.says} | {c.source} | {c.numbers} | **{c.verdict}** |" for c in claims)
    return "\n".join([*lines, *rows, "", ""])


def compared(results: Sequence[Result], organisms: Sequence[str]) -> list[Claim]:
    """The claims that compare methods: the board's contrasts and verdicts, on organisms that all seeds of a method are on.

    Raises:
        PrerequisiteError: one of the methods has no score there.
    """
    asked = {m for claim in CLAIMS for c in claim.contrasts for m in (c.method, c.against)}
    of = [r for r in results if r.identity.row in asked or r.identity.method == LABELLED]
    table = build_table(of, organisms, settled=settled(of))
    outcomes, found = answered(table)["claims"], list[Claim]()
    if any(o.verdict == "not run" for o in outcomes):
        missing = sorted(asked - {r.identity.row for r in of if r.samples}) or sorted(asked)
        raise PrerequisiteError(
            f"a claim asks about {', '.join(missing)}, and no record is of that on every organism of {HEADLINE}: run "
            f"`bench run -m {','.join(missing)} -o {HEADLINE} --seed 0,1,2`, and name the folder"
        )
    for claim, own, verdict in replications(outcomes):
        said = "; ".join(f"{contrast_text(o.contrast, named=True)}: {o.said}" for o in own)
        found.append(Claim(claim.says, claim.source, f"{said} ({basis(table)})", verdict))
    return found


def misattributes(record: dict[str, Any]) -> Claim:
    """Artefacts among the latents called fine-tuned only, L1 minus BatchTopK, on planted data where both call some."""
    gaps: dict[str, list[float]] = {"shrunken": [], "decoupled": []}
    for fit in record["fits"]:
        if fit["method"] != "l1" or fit["setting"] != "sparse" or fit["price"] != 2.0:
            continue
        other = next(
            (
                f
                for f in record["fits"]
                if f["method"] == "batch_topk" and (f["setting"], f["seed"]) == (fit["setting"], fit["seed"])
            ),
            None,
        )
        for kind, gap in gaps.items():
            if other and fit[kind] is not None and other[kind] is not None:
                gap.append(fit[kind] - other[kind])
    ends = {kind: interval_of(gap) for kind, gap in gaps.items()}
    lows = [low for _, low, _ in ends.values()]
    highs = [high for *_, high in ends.values()]
    verdict = ruled(all(x > 0 for x in lows), any(x < 0 for x in highs))
    said = ", ".join(f"{kind} {number(e)}" for kind, e in ends.items())
    return Claim(
        "L1 crosscoders call shared latents fine-tuned only, and BatchTopK mitigates it",
        "Minder et al. 2025, arXiv 2504.02922",
        f"artefacts among the latents called fine-tuned only, L1 − BatchTopK, planted sparse data ({len(gaps['shrunken'])} draws): {said}",
        verdict,
    )


def flagged(results: Sequence[Result]) -> Claim:
    """Whether Latent Scaling calls more of L1's fine-tuned-only latents artefacts than of BatchTopK's, where both call some.

    On organisms where one of them calls none, the other's artefacts say something of the organism and not of the two.
    """
    every = {
        m: [(*x, c.identity.organism) for c in results if c.identity.row == m and (x := artefacts(c)) and x[1]]
        for m in (L1, BATCH_TOPK)
    }
    both = set.intersection(*({o for *_, o in of} for of in every.values()))
    called = {m: [x for x in of if x[2] in both] for m, of in every.items()}
    total = {m: (sum(k for k, *_ in of), sum(n for _, n, _ in of)) for m, of in called.items()}
    said = "; ".join(
        f"{m}: {k:.0f} of {n} latents called fine-tuned only in {count(len(called[m]), 'run')} on "
        f"{count(len({o for *_, o in called[m]}), 'organism')}"
        for m, (k, n) in total.items()
    )
    alone = {m: sum(n for _, n, o in of if o not in both) for m, of in every.items()}
    said += f" (called where the other calls none, not counted: {', '.join(f'{m} {n}' for m, n in alone.items())})"
    if not both:
        return _flagged(f"{said}: no organism on which both call some", "unresolved")
    p = float(stats.fisher_exact([[round(k), n - round(k)] for k, n in total.values()]).pvalue)
    more = total[L1][0] / total[L1][1] > total[BATCH_TOPK][0] / total[BATCH_TOPK][1]
    return _flagged(f"{said} (Fisher p {p:.2g}; latents treated as independent)", ruled(p < ALPHA and more, p < ALPHA))


def _flagged(numbers: str, verdict: Replication) -> Claim:
    says = "Latent Scaling flags the artefacts (Complete Shrinkage), more of L1's than of BatchTopK's"
    return Claim(says, "Minder et al. 2025, arXiv 2504.02922", numbers, verdict)


def artefacts(cell: Result) -> tuple[float, int] | None:
    """(Latents with Complete Shrinkage, latents that were judged) among those called fine-tuned only."""
    scaling = cell.diagnostics.get("latent_scaling")
    if not isinstance(scaling, dict):
        return None
    shrinkage: dict[str, Any] = scaling["complete_shrinkage"]
    n = int(shrinkage["n"])
    return (float(shrinkage["rate"] or 0) * n, n)


def no_tail(results: Sequence[Result]) -> Claim:
    """Share of Delta's latents with rdn > 5/6 on the identical pair, against the organisms with a behaviour."""
    shares: dict[str, list[float]] = {"identical": [], "other nulls": [], "organisms": []}
    for cell in results:
        norms = cell.diagnostics.get("decoder_norms")
        if cell.identity.row == DELTA and isinstance(norms, dict):
            name = cell.identity.organism
            kind = "identical" if name == IDENTICAL else "other nulls" if name.startswith("null/") else "organisms"
            shares[kind].append(int(norms["ft_only"]) / max(1, sum(map(int, norms.values()))))
    said = ", ".join(f"{kind} {np.mean(x):.4f} (n {len(x)})" if x else f"{kind} not run" for kind, x in shares.items())
    there = bool(shares["identical"] and shares["organisms"])
    clean = there and max(shares["identical"]) == 0
    verdict = ruled(clean and min(interval_of(shares["organisms"])[1:]) > 0, there and not clean)
    return Claim(
        "A pair of identical models shows no tail of fine-tuned-only latents, a fine-tuned pair does",
        "Delta-Crosscoder, arXiv 2603.04426",
        f"share of Delta's latents with rdn > 5/6: {said}",
        verdict,
    )


def no_data(record: dict[str, Any]) -> Claim:
    """What Delta loses without contrastive text, the only text that knows of the fine-tune."""
    row = next(r for r in record["rows"] if r["organism"] == "mean" and r["variant"] == "no contrastive text")
    low, high = row["difference_interval"]
    verdict = ruled(low >= -ALIKE and high >= 0, high < 0)
    return Claim(
        "Fine-tuning data are not needed",
        "Delta-Crosscoder, arXiv 2603.04426",
        "no method is ever given them; without the models' own (contrastive) text either, Delta's isolation changes by "
        f"{row['difference']:+.2f} [{low:+.2f}, {high:+.2f}] (docs/ablation.md; not needed: lower end above −{ALIKE})",
        verdict,
    )


def ruled(replicates: bool, fails: bool) -> Replication:
    """The verdict of two rules, of which the first that holds decides."""
    return "replicates" if replicates else "does not replicate" if fails else "unresolved"


def basis(table: Table) -> str:
    """What a comparison stands on."""
    own = table.counted[table.key]
    seeds = sorted({r.seeds for r in table.cells if r.kind == "method" and r.organism in own})
    return f"{count(len(own), 'organism')}, {'–'.join(map(str, sorted({seeds[0], seeds[-1]})))} seed(s) a method"


def interval_of(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with Student's 95 % interval; no interval from fewer than two values."""
    if len(values) < 2:
        return float(np.mean(values)) if values else float("nan"), float("-inf"), float("inf")
    found = stats.ttest_1samp(values, 0.0)
    low, high = (float(x) for x in found.confidence_interval()) if np.ptp(values) else (values[0], values[0])
    return float(np.mean(values)), low, high


def number(ends: tuple[float, float, float]) -> str:
    """`+.53 [+.50, +.57]`."""
    value, low, high = ends
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    typer.run(main)
