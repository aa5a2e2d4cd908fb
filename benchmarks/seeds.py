"""`python -m benchmarks.seeds RUNS`: why one seed of a crosscoder finds the behaviour and another does not.

A seed may fail because its dictionary lacks the change, or because the ranking passes it over. For each trained dictionary below RUNS,
among the latents that may be a finding (not designated shared): the one whose change of direction, decoder row of the fine-tuned model less
that of the base, has the largest cosine with a direction fitted on labels (`supervised` on the same organism, the best of its directions),
its relative decoder norm, and its place by that norm. Beside it what each ranking made of the same dictionary: the largest such
cosine among the first ten findings, and isolation.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.records.loading import load_result
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import DICTIONARY, FINDINGS, RESULT
from diffbench.harness.terminal import handled
from diffbench.leaderboard.pages.text_formats import markdown_table
from diffbench.methods.coder.scaling import relative_decoder_norm
from diffbench.organisms.errors import PrerequisiteError, UsageError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from .table import insert

LABELLED = "supervised"
FIRST = 10
"""Findings that a score may use."""
DRAWS = 20


class Held(NamedTuple):
    """Where a trained dictionary has the behaviour's direction."""

    organism: str
    seed: int
    cosine: float
    """Largest cosine with a labelled direction among latents that may be a finding."""
    chance: float
    """The same of as many random directions, mean of `DRAWS` draws."""
    rdn: float
    """Relative decoder norm of the latent with that cosine, in [0, 1]: .5 if its rows are equally long."""
    place: int
    """Its place by that norm, from 1."""
    of: int
    """Latents that may be a finding."""


class Found(NamedTuple):
    """What one ranking made of one dictionary."""

    held: Held
    rank: str
    chosen: float
    """Largest cosine among the first ten findings."""
    isolation: float


def cosines(directions: Tensor, labelled: Tensor) -> Tensor:
    """[n] largest cosine of each of directions [n, d] with one of `labelled` [m, d]; 0 for a zero direction."""
    return (normalize(directions, dim=1) @ normalize(labelled, dim=1).T).amax(1)


def found(folder: Path, result: Result, labelled: Tensor) -> Found:
    """What a run folder with a dictionary holds.

    Raises:
        UsageError: its dictionary is not of two models.
    """
    decoder_NMd = load_file(folder / DICTIONARY)["decoder_NMd"] if (folder / DICTIONARY).is_file() else None
    if decoder_NMd is None or decoder_NMd.shape[1] != 2:
        raise UsageError(f"{folder} holds no dictionary of both models; give a crosscoder with --method")
    decoder_N2d = decoder_NMd[int(result.diagnostics.get("n_shared", 0)) :]
    changes_Nd = decoder_N2d[:, 1] - decoder_N2d[:, 0]
    cos_N, rdn_N = cosines(changes_Nd, labelled), relative_decoder_norm(decoder_N2d)
    best = int(cos_N.argmax())
    draws = torch.Generator().manual_seed(0)
    by_luck = [cosines(torch.randn(changes_Nd.shape, generator=draws), labelled).max() for _ in range(DRAWS)]
    assert result.scores is not None
    held = Held(
        organism=result.identity.organism,
        seed=result.identity.seeds["method"],
        cosine=float(cos_N[best]),
        chance=float(torch.stack(by_luck).mean()),
        rdn=float(rdn_N[best]),
        place=1 + int((rdn_N > rdn_N[best]).sum()),
        of=len(rdn_N),
    )
    chosen = cosines(load_file(folder / FINDINGS)["direction"][:FIRST], labelled).max()
    return Found(held, result.identity.config["rank"], float(chosen), result.scores.isolation.value or 0.0)


def read(runs: Path, method: str) -> list[Found]:
    """All dictionaries of a method below a folder of runs.

    Raises:
        PrerequisiteError: none, or none of an organism on which the labelled anchor ran.
        UsageError: see `found`.
    """
    results = {path.parent: load_result(path) for path in sorted(runs.rglob(RESULT))}
    labelled = {
        r.identity.organism: load_file(folder / FINDINGS)["direction"]
        for folder, r in results.items()
        if r.identity.method == LABELLED and r.status == "ok"
    }
    rows = [
        found(folder, r, labelled[r.identity.organism])
        for folder, r in results.items()
        if r.identity.method == method and r.status == "ok" and r.identity.organism in labelled
    ]
    if not rows:
        raise PrerequisiteError(
            f"{runs} has no finished run of {method} on an organism on which {LABELLED} ran too; run both with "
            f"`bench run -m {method},{LABELLED}`"
        )
    return sorted(rows)


def table(rows: Sequence[Found]) -> str:
    """A row a dictionary; two columns a ranking."""
    ranks = sorted({r.rank for r in rows})
    of: dict[Held, dict[str, Found]] = {}
    for r in rows:
        of.setdefault(r.held, {})[r.rank] = r
    head = ("organism", "seed", "best latent's cosine (random)", "its relative decoder norm", "its place by that")
    return markdown_table(
        (*head, *(f"{rank}: cosine, isolation" for rank in ranks)),
        [
            [
                h.organism,
                str(h.seed),
                f"{h.cosine:.2f} ({h.chance:.2f})",
                f"{h.rdn:.2f}",
                f"{h.place} of {h.of}",
                *_cells(by_rank, ranks),
            ]
            for h, by_rank in of.items()
        ],
    )


def _cells(by_rank: dict[str, Found], ranks: Iterable[str]) -> Iterable[str]:
    for rank in ranks:
        yield f"{f.chosen:.2f}, {f.isolation:.2f}" if (f := by_rank.get(rank)) else "–"


def main(
    runs: Annotated[Path, typer.Argument(help="Folder that `bench run --out` wrote.")],
    method: Annotated[str, typer.Option(help="A crosscoder.")] = "delta",
    page: Annotated[Path, typer.Option(help="Page whose table is replaced.")] = Path("docs/seeds.md"),
) -> None:
    """Print the table, and write it into the page if there is one."""
    with handled(False):
        text = table(read(runs, method))
        if page.is_file():
            atomic_write_text(page, insert(page.read_text(), text + "\n"))
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
