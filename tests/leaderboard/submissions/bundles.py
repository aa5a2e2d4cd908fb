"""Bundles of made-up cells that are sound as far as a reader without models can see, and forgeries whose hashes are right."""

import json
import lzma
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.protocol.consistency import counted
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION, sha256_json
from diffbench.harness.records.result import DRAWS, Result
from diffbench.harness.runs.folder import run_folder, write_run
from diffbench.harness.runs.packs import pack
from diffbench.harness.runs.records import records
from diffbench.harness.store.moving import packable
from diffbench.leaderboard.submissions.build import build
from diffbench.leaderboard.submissions.bundle import RECORDS, open_bundle, write_bundle
from diffbench.leaderboard.submissions.card import MethodCard
from diffbench.methods.catalogue import BUILTIN
from diffbench.methods.contract import DiffResult, Finding, Gate

from ...factories import make_result

METHOD = "theirs"
ORGANISMS = ("taboo/gold-narrow", "subliminal/fox-narrow")
CARD = MethodCard(
    name=METHOD,
    summary="Finds what changed.",
    authors=["A. Nother"],
    licence="MIT",
    access="activations",
    developed_on=["taboo/gold-narrow"],
)
PUBLISHED: dict[str, Any] = {"protocol": PROTOCOL_VERSION, "protocol_sha256": PROTOCOL_SHA256}
Edit = Callable[[dict[str, Any]], None]


def make_cell(
    organism: str = ORGANISMS[0], seed: int = 0, method: str = METHOD, stochastic: bool | None = None, **identity: Any
) -> Result:
    """A record under the published protocol; a built-in method draws as the catalogue says, another one does."""
    result = make_result(method, organism, seed, **(PUBLISHED | identity))
    assert result.samples
    result.scores = summarise(result.samples, DRAWS, 0, controls_ran=method != "oracle")
    result.curves = []  # they would be drawn
    usual = BUILTIN[method].stochastic if method in BUILTIN else True
    result.provenance.stochastic = usual if stochastic is None else stochastic
    result.provenance.source = {"organism": organism}
    return result


def found(seed: int) -> DiffResult:
    """As many findings as a made-up record counts."""
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    return DiffResult([Finding(rows[0], Gate(rows[2], 0.5), 1.0), Finding(rows[1], None, 0.5)])


def write_cell(runs: Path, result: Result, trained: bool = False) -> Path:
    """The run folder of a record."""
    i = result.identity
    folder = run_folder(runs, i.organism, i.method, result.id)
    diff = found(i.seeds["method"])
    if trained:
        diff = DiffResult(diff.findings, dictionary={"W": torch.ones(4, 8)})
    write_run(folder, result, diff if result.status == "ok" and counted(result) else None, "log\n")
    return folder


def publish(cells: Sequence[Result], board: Path) -> None:
    """Put records with their findings on a board."""
    with tempfile.TemporaryDirectory() as runs:
        for cell in cells:
            write_cell(Path(runs), cell)
        pack(*packable(list(records(Path(runs))), board))


def write_runs(runs: Path, organisms: Sequence[str] = ORGANISMS, seeds: Sequence[int] = (0, 1, 2)) -> Path:
    """A folder of run folders."""
    for organism in organisms:
        for seed in seeds:
            write_cell(runs, make_cell(organism, seed), trained=True)
    return runs


def write_one(folder: Path, trained: bool = False) -> Path:
    """The bundle of one cell of a method that draws nothing; if it trained anything, with its dictionary."""
    write_cell(folder / "runs", make_cell(stochastic=False), trained)
    bundle, _ = build([folder / "runs"], CARD, folder / "one.bundle.safetensors")
    return bundle.path


def forge(
    bundle: Path, out: Path, edit: Edit | None = None, rename: Callable[[str], str] = str, **changed: Any
) -> Path:
    """A bundle like another, each of its records edited; its manifest and hashes are right again.

    Args:
        rename: old names of members to new ones.
        changed: fields of the manifest's card.
    """
    there = open_bundle(bundle)
    files = {rename(name): there.read(name) for name in there.manifest.members}
    if edit is not None:
        rows = [json.loads(line) for line in lzma.decompress(files[RECORDS]).decode().splitlines()]
        for row in rows:
            edit(row)
        files[RECORDS] = lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    card = there.manifest.card.model_copy(update=changed)
    return write_bundle(out, card, there.manifest.organism_set, files, there.manifest.diffbench).path


def new_id(row: dict[str, Any]) -> None:
    """The id that an edited identity has; its findings stay those of the old one."""
    row["id"] = sha256_json({k: v for k, v in row["identity"].items() if v is not None})
