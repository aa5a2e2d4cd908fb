"""What is to be looked at: findings, the record they belong to if there is one, and the organism they were found in.

Nothing is loaded because a record says so: an organism of the zoo is taken from it, any other is named by who asks. What the record was
made on must be what is here, or what is seen is of something else.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...methods.contract import DiffResult
from ...methods.formats.findings import read_file
from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism
from ..protocol.consistency import counted
from ..records.reading import prompts_sha256
from ..records.result import Result
from ..runs.folder import FINDINGS, RESULT, read_findings
from ..runs.records import findings_faults, read_run, zoo_name


@dataclass(frozen=True)
class Subject:
    """Findings and where they come from."""

    name: str
    """Of the method, or of the file."""
    organism: Organism
    layer: int | None
    findings: DiffResult
    """Without any, if the run has none or they are not there."""
    result: Result | None
    folder: Path | None = None
    """Run folder."""
    sha256: str | None = None
    """Of the findings."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def diagnostics(self) -> list[dict[str, Any]]:
        """What the method says of each finding."""
        said = self.result.diagnostics.get("findings") if self.result else None
        return said if isinstance(said, list) else []  # pyright: ignore[reportUnknownVariableType]

    def chosen(self, numbers: list[int]) -> list[int]:
        """Numbers of findings (from 1) that are there, in their order.

        Raises:
            PrerequisiteError: there are none at all. UsageError: one that is not there.
        """
        have = len(self.findings.findings)
        if not have:
            why = "; ".join(self.notes) or f"{self.name} returned none"
            raise PrerequisiteError(f"{self.name} has no findings here: {why}")
        if wrong := [n for n in numbers if not 1 <= n <= have]:
            raise UsageError(f"there is no finding {wrong[0]}: {self.name} has {have}; give a number from 1 to {have}")
        return numbers


def numbers(text: str) -> list[int]:
    """`1-3`, `2` and `1,4-5` as numbers, rising and each once.

    Raises:
        UsageError: anything else.
    """
    found = set[int]()
    for part in text.split(","):
        first, dash, last = (p.strip() for p in part.partition("-"))
        if not (first.isdecimal() and (last.isdecimal() if dash else not last)) or len(part) > 9:
            raise UsageError(
                f"--finding {text!r} names no findings; give a number, a range or a comma list: 2, 1-3, 1,4"
            )
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 999:
            raise UsageError(f"--finding {text!r}: findings are numbered from 1, and a range rises, e.g. 1-3")
        found |= set(range(low, high + 1))
    return sorted(found)


def subject(where: Path, organism: Organism | None = None, layer: int | None = None) -> Subject:
    """A run folder, a record without its folder, or a file of findings with a pair.

    Args:
        organism: what it was found in, where that is no organism of the zoo, or not said by a record.
        layer: of a file of findings that does not say it.

    Raises:
        UsageError: a record of a pair that is not named, a file without a pair, another layer than the findings have.
        PrerequisiteError: nothing there, or a cell that failed. ValidationFailed: damaged or edited, or the organism has changed.
    """
    if where.suffix == ".safetensors" and not (where.parent / RESULT).is_file():
        return _of_file(where, organism, layer)
    folder = where.parent if where.suffix == ".safetensors" else where
    return _of_record(folder, read_run(folder), organism)


def _of_file(path: Path, organism: Organism | None, layer: int | None) -> Subject:
    file = read_file(path)
    if organism is None:
        raise UsageError(
            f"{path} is a file of findings and does not say of which pair; name it: -o ORGANISM, or --base with --adapter or --tuned "
            "and --behaviour"
        )
    if None not in (layer, file.layer) and layer != file.layer:
        raise UsageError(f"{path} holds directions of layer {file.layer}, not of {layer}; leave --layer out")
    at = file.layer if layer is None else layer
    notes = ["These findings were made elsewhere and are not scored here: `bench score` does that."]
    return Subject(file.name or path.stem, organism.at(at, None), at, file.result, None, None, file.sha256, notes)


def _of_record(where: Path, result: Result, organism: Organism | None) -> Subject:
    who, folder = result.identity, where if where.is_dir() else where.parent
    if result.status not in ("ok", "not_applicable"):
        raise PrerequisiteError(
            f"{where} is a cell with status {result.status!r} ({result.reason or 'no reason recorded'}), so it found nothing that could be "
            f"shown; run it again: bench run -m {who.method} -o {who.organism}"
        )
    o = (organism or load_organism(zoo_name(result))).at(who.layer, who.limit)
    here = {"organism_sha256": o.sha256, "prompts_sha256": prompts_sha256(o)}
    what = {
        "organism_sha256": f"weights or tokenizer of {who.organism}",
        "prompts_sha256": f"prompts or texts of {who.organism}",
    }
    for name, found in here.items():
        if getattr(who, name) != found:
            raise ValidationFailed(
                f"{where}: the {what[name]} are not the ones it was made on ({getattr(who, name)[:12]} there, {found[:12]} here), so its "
                f"findings would be shown in another model; run the cell again, or read the record alone: bench results show {where}"
            )
    known = Subject(who.method, o, who.layer, DiffResult([]), result, folder, result.findings_sha256)
    if who.method == "oracle":
        return replace(known, notes=["The oracle exchanges the whole residual: it has no findings to look at."])
    if not (folder / FINDINGS).is_file():
        if counted(result):
            return replace(known, notes=[f"{FINDINGS} does not lie beside the record: only the record is shown."])
        return replace(known, notes=["The method returned no findings."])
    if faults := findings_faults(folder, result):
        raise ValidationFailed(f"{folder}: {'; '.join(faults)}; run the cell again with --overwrite")
    return replace(known, findings=read_findings(folder))


def gone(error: DiffbenchError, where: Path) -> DiffbenchError:
    """An organism that cannot be loaded, with what can be read without it."""
    said = f"{error}; what the record alone says: bench results show {where}"
    return type(error)(said) if type(error).__init__ is DiffbenchError.__init__ else error
