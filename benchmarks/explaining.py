"""`python -m benchmarks.explaining RUNS`: does a finding's explanation beat those of other findings of its run? By n-grams, offline.

Every explanation of a run is scored on every finding's held-out windows. What is asked of each scorer: how often a finding's own
explanation does better on it than another finding's does, a tie counting half (the area under the ROC curve of own against shuffled; .5 by
chance). The interval draws organisms, then findings. Writes the record and, between its markers, the table of docs/explaining.md.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from diffbench.harness.explaining.explain import SCORERS, Words, explain_all, score
from diffbench.harness.explaining.material import Material
from diffbench.harness.inspection.report import WordScore
from diffbench.harness.inspection.subject import subject
from diffbench.harness.terminal import silenced
from diffbench.organisms.errors import DiffbenchError

from .table import insert

OF_EXPLANATIONS = tuple(s for s in SCORERS if s != "intruder")
DRAWS = 2000


def measured(folder: Path, findings: int, tokens: int | None) -> dict[str, Any]:
    """Own and shuffled scores of one run.

    Args:
        findings: so many first ones.
        tokens: of each kind of text; None: as `bench explain` has it.
    """
    of = subject(folder)
    numbers = list(range(1, min(findings, len(of.findings.findings)) + 1))
    material = Material.of(of, numbers, tokens, 0)
    words = {n: w for n, w in explain_all(material, None).items() if w.text}
    rows = [
        {"scorer": s, "finding": n, "own": own, "shuffled": [v for v in others if v is not None]}
        for s in OF_EXPLANATIONS
        for n in words
        if (own := _value(material, n, s, words[n])) is not None
        for others in [[_value(material, n, s, w) for m, w in words.items() if m != n]]
    ]
    return {
        "organism": of.organism.name,
        "method": of.name,
        "findings": len(numbers),
        "explained": len(words),
        "tokens": material.tokens,
        "intruder": [v for n in words if (v := score(material, n, "intruder", words[n]).value) is not None],
        "rows": rows,
    }


def _value(material: Material, number: int, scorer: Any, words: Words) -> float | None:
    """A score; graded answers by their AUROC, which knows no threshold."""
    found: WordScore = score(material, number, scorer, words)
    return found.auroc if found.auroc is not None else found.value


def beats(rows: Sequence[dict[str, Any]]) -> float | None:
    """Share of (own, another's) in which a finding's own explanation scores higher, a tie counting half; each finding weighs the same."""
    shares = [
        float(np.mean([(row["own"] > v) + 0.5 * (row["own"] == v) for v in row["shuffled"]]))
        for row in rows
        if row["shuffled"]
    ]
    return float(np.mean(shares)) if shares else None


def interval(
    by: dict[str, list[dict[str, Any]]], of: Callable[[Sequence[dict[str, Any]]], float | None]
) -> tuple[float, float]:
    """95 % percentiles over draws of organisms, then of findings."""
    rng, names, values = np.random.default_rng(0), list(by), list[float]()
    for _ in range(DRAWS):
        drawn = list[dict[str, Any]]()
        for i in rng.integers(len(names), size=len(names)):
            some = by[names[int(i)]]
            drawn += [some[int(j)] for j in rng.integers(len(some), size=len(some))]
        if (value := of(drawn)) is not None:
            values.append(value)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def table(runs: Sequence[dict[str, Any]]) -> str:
    """What was run, and a row a family and scorer."""
    explained, findings = sum(r["explained"] for r in runs), sum(r["findings"] for r in runs)
    methods, organisms = sorted({r["method"] for r in runs}), ", ".join(r["organism"] for r in runs)
    head = (
        f"{len(runs)} runs of {', '.join(methods)} on {organisms}; "
        f"{explained} of {findings} findings had contexts enough to be explained; {runs[0]['tokens']:,} tokens of text a run."
    )
    lines = [
        "| family | scorer | findings | own | others' | own beats others' |",
        "|---|---|---|---|---|---|",
    ]
    for family in sorted({r["organism"].split("/")[0] for r in runs}):
        some = [r for r in runs if r["organism"].split("/")[0] == family]
        for scorer in OF_EXPLANATIONS:
            by = defaultdict[str, list[dict[str, Any]]](list)
            for r in some:
                for row in r["rows"]:
                    if row["scorer"] == scorer and row["shuffled"]:
                        by[r["organism"]].append(row)
            rows = [row for of in by.values() for row in of]
            if not rows:
                lines.append(f"| {family} | {scorer} | 0 | n/a | n/a | n/a |")
                continue
            own, others = np.mean([r["own"] for r in rows]), np.mean([np.mean(r["shuffled"]) for r in rows])
            low, high = interval(by, beats)
            lines.append(
                f"| {family} | {scorer} | {len(rows)} | {own:.2f} | {others:.2f} | {beats(rows):.2f} [{low:.2f}, {high:.2f}] |"
            )
        right = [v for r in some for v in r["intruder"]]
        lines.append(
            f"| {family} | intruder | {len(right)} | {np.mean(right):.2f} | | |"
            if right
            else f"| {family} | intruder | 0 | n/a | | |"
        )
    return f"{head}\n\n" + "\n".join(lines) + "\n"


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of them.")],
    findings: Annotated[int, typer.Option(help="First findings of each run.")] = 4,
    tokens: Annotated[int | None, typer.Option(help="Of each kind of text.")] = None,
    out: Annotated[Path | None, typer.Option(help="Record; what stands there of other runs is kept.")] = None,
    page: Annotated[Path | None, typer.Option(help="Page whose table is replaced.")] = None,
) -> None:
    """Measure, print the table and write it."""
    known = json.loads(out.read_text()) if out and out.exists() else {}
    for folder in [f.parent for r in runs for f in sorted(r.rglob("result.json"))]:
        with silenced(False):
            try:
                found = measured(folder, findings, tokens)
            except DiffbenchError as error:
                typer.echo(f"{folder}: left out: {error}", err=True)
                continue
        known[f"{found['organism']} {found['method']} {folder.name}"] = found
        if out:
            out.write_text(json.dumps(known, indent=1) + "\n")
    text = table(list(known.values()))
    typer.echo(text)
    if page:
        page.write_text(insert(page.read_text(), text))


if __name__ == "__main__":
    typer.run(main)
