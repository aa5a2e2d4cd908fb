"""Concept-ablation fine-tuning: what an organism would have become, had a run's findings been out of reach while it was trained.

The one idea (Casademunt et al. 2025, arXiv 2507.16795): the span of the first k findings is projected out of the residual during
fine-tuning, afterwards nothing intervenes, and the behaviour is measured. Two anchors are measured with it: training with nothing
projected, which must give the organism back, and random directions put through the same training.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...methods.contract import DiffResult, check_findings
from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ...organisms.registry import load_organism
from ..pairs.interventions import Directions, span
from ..pairs.loading import load_pair
from ..protocol.controls import control
from ..records.identity import Record
from ..records.making import Provenance
from ..records.result import Result
from ..runs.folder import check_writable, read_findings
from ..runs.provenance import provenance
from ..runs.records import file_faults, read_run, zoo_name
from .retraining import Origin
from .whole_models import Retrained, WholeModels

Say = Callable[[str], None]
FILE, WEIGHTS = "mitigation.json", "adapter_model.safetensors"
DRIFT = 0.1
"""Largest reduction, either way, of training with nothing projected: beyond it the training is not the organism's."""


class AtK(Record):
    """The first k findings, and as many random directions."""

    k: int
    findings: Retrained
    controls: list[Retrained]
    control_reduction: float | None
    """Mean over the controls; None without controls."""
    control_area: float | None


class Mitigation(Record):
    """Concept-ablation fine-tuning with the findings of one run."""

    schema_version: int = 1
    result: str
    """Id of the run's result."""
    organism: str
    method: str
    seed: int
    """The method's."""
    layer: int
    n: int
    """Test prompts."""
    tuned: Retrained
    """The organism as it is."""
    off: Retrained
    """The adapter off: the base."""
    nothing: Retrained
    """Trained with nothing projected out."""
    same_bytes: bool
    """Whether that gave the organism's adapter to the bit."""
    at: list[AtK]
    seconds: float
    provenance: Provenance


def mitigate(
    folder: Path, ks: Sequence[int], controls: int, say: Say = lambda line: None, named: str | None = None
) -> Mitigation:
    """Train a run's organism again with its first findings out of reach, for each k, and with random directions.

    Args:
        folder: a run folder with scores and findings.
        ks: how many findings; more than there are means all.
        controls: sets of isotropic directions for each k, the first ones of the scoring protocol.
        say: told one line per training.
        named: the organism, where it is not one of the zoo (a family file): a record names nothing that is loaded.

    Raises:
        UsageError: nothing to mitigate (a null, a run without findings) or nothing to train (no recipe).
        PrerequisiteError: no scored run there, or the disk refuses.
        ValidationFailed: damaged files, other weights than the run's, zero findings, or a training that is not the organism's.
    """
    started, start = datetime.now(UTC), time.perf_counter()
    result, diff = read(folder)
    name = named or zoo_name(result)
    origin, organism = Origin.of(name), load_organism(name)
    if organism.name != result.identity.organism:
        raise ValidationFailed(
            f"{folder} is a run on {result.identity.organism}, not on {organism.name}; give its organism with -o"
        )
    if organism.sha256 != result.identity.organism_sha256:
        raise ValidationFailed(f"{folder}: {organism.name} had other weights in this run than here; run the cell again")
    whole_models = WholeModels(origin, organism)
    d_model = whole_models.pair.d_model
    directions_KD = Directions.of(check_findings(diff, d_model).findings).direction
    ks = sorted({min(k, len(directions_KD)) for k in ks})
    if not directions_KD[: ks[0]].any():
        raise ValidationFailed(
            f"{folder}: the findings up to k = {ks[0]} are zero, and to project nothing out changes nothing; give a run with findings"
        )
    total, done = 1 + len(ks) * (1 + controls), 0

    def train(what: str, basis_DR: Tensor) -> tuple[Retrained, str]:
        nonlocal done
        with tempfile.TemporaryDirectory(prefix="diffbench-mitigate-") as scratch:
            seconds = origin.train(Path(scratch), basis_DR)
            pair = load_pair(organism.base, scratch, organism.layer, identity=True)
            found = whole_models.read(pair, basis_DR.shape[1], seconds)
            done += 1
            say(f"{done} of {total}: {what} out of reach: reduction {found.reduction.value:.3f} ({seconds:.0f} s)")
            return found, sha256_file(Path(scratch) / WEIGHTS)

    nothing, sha256 = train("nothing (no-op)", torch.zeros(d_model, 0))
    if abs(nothing.reduction.value) > DRIFT:
        raise ValidationFailed(
            f"{organism.name}, trained again as its card says, shows the behaviour at {nothing.rate.value:.3f} and not at "
            f"{whole_models.organism.rate.value:.3f}; build it with this version (`bench organisms build {organism.name} --overwrite`)"
        )
    at: list[AtK] = []
    for k in ks:
        own, _ = train(f"findings, k = {k}", span(directions_KD[:k]))
        null = [train(f"random directions, k = {k}", span(control(i, d_model)[:k]))[0] for i in range(controls)]
        areas = [c.area.value for c in null if c.area]
        at.append(
            AtK(
                k=k,
                findings=own,
                controls=null,
                control_reduction=float(np.mean([c.reduction.value for c in null])) if null else None,
                control_area=float(np.mean(areas)) if areas else None,
            )
        )
    return Mitigation(
        result=result.id,
        organism=organism.name,
        method=result.identity.method,
        seed=result.identity.seeds["method"],
        layer=origin.card.layer,
        n=whole_models.n,
        tuned=whole_models.organism,
        off=whole_models.off,
        nothing=nothing,
        same_bytes=sha256 == origin.card.files[WEIGHTS],
        at=at,
        seconds=round(time.perf_counter() - start, 1),
        provenance=provenance(
            result.provenance.access, "cpu", result.provenance.source, result.provenance.method_origin, started
        ),
    )


def read(folder: Path) -> tuple[Result, DiffResult]:
    """A scored run and its findings; raises as `mitigate`."""
    result = read_run(folder)
    if result.false_discovery is not None:
        raise UsageError(
            f"nothing is hidden in {result.identity.organism}, so there is nothing to mitigate; give a run on an organism"
        )
    if result.status != "ok":
        raise PrerequisiteError(
            f"{folder} holds a cell with status {result.status!r}; only scored cells can be mitigated, run it again"
        )
    if faults := file_faults(folder, result):
        raise ValidationFailed(f"{folder}: {'; '.join(faults)}; run the cell again")
    diff = read_findings(folder)
    if diff.patch:
        raise UsageError(
            f"{result.identity.method!r} has no findings to project out; give a run of a method that returns some"
        )
    return result, diff


def destination(folder: Path, out: Path | None) -> Path:
    """Where the record goes, refused before anything is trained if it cannot be written there.

    Raises:
        UsageError: `out` is a folder. PrerequisiteError: nothing can be written there.
    """
    if out is not None and out.is_dir():
        raise UsageError(f"{out} is a folder; give a file, e.g. --out {out / FILE}")
    path = out or folder / FILE
    check_writable(path.parent)
    return path
