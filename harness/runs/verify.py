"""Re-score the saved findings of a run folder and compare with what its result claims. Nothing in the result is believed.

That its method found them is not shown by this: the method is not run again, and one that a record names is never imported.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ...methods.catalogue import BUILTIN, method_file
from ...methods.contract import check_findings
from ...methods.registry import is_given
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism
from ..protocol.consistency import identity_faults
from ..protocol.controls import SCORE_SEED
from ..records.identity import sha256_json
from ..records.loading import load_result
from ..records.reading import prompts_sha256
from ..records.result import Result
from ..records.settings import PROTOCOL_V2
from .folder import RESULT, read_findings
from .packs import reason
from .provenance import source_hash
from .records import findings_faults, zoo_name
from .stage import Stage, measured, shipped_controls

TOLERANCE = 1e-4
"""Largest difference of a score that floating-point order can explain on another machine (fp32)."""
ABSENT = "nothing"
"""What stands in a difference for a value that one side does not have."""


@dataclass(frozen=True)
class Verification:
    """What a fresh scoring says about a result."""

    compared: int
    """Values compared: everything in a result that follows from the findings."""
    differences: list[tuple[str, object, object]]
    """(where, claimed, found) for every value beyond the tolerance."""
    unknown: list[str] = field(default_factory=list[str])
    """What the record says and nothing here can check."""

    @property
    def ok(self) -> bool:
        """Whether everything agreed."""
        return not self.differences


@dataclass
class Loaded:
    """The pair that was loaded last, for the next run folder on it."""

    key: tuple[object, ...] = ()
    stage: Stage | None = None

    def get(self, organism: Organism, drops: bool) -> Stage:
        """The organism's stage."""
        key = (organism.name, organism.sha256, organism.layer, drops)
        if self.stage is None or self.key != key:
            self.key, self.stage = key, Stage.load(organism, "cpu", PROTOCOL_V2, drops)
        return self.stage


def verify(folder: Path, organism: Organism | None = None, loaded: Loaded | None = None) -> Verification:
    """Compare a run folder with a fresh scoring of its findings.

    Args:
        folder: a run folder.
        organism: what it was run on, where that is not an organism of the zoo: a record names nothing that is loaded.
        loaded: keeps the pair between run folders; what is measured of it is then measured once.

    Raises:
        ValidationFailed: the record is damaged, or belongs to other weights, prompts or protocol than the ones here.
        PrerequisiteError: nothing there, or not a scored run.
    """
    result = _read(folder)
    if result.status != "ok":
        raise PrerequisiteError(
            f"{folder} holds a cell with status {result.status!r}; only scored cells can be verified"
        )
    if result.identity.dtype != "float32":
        raise PrerequisiteError(
            f"{folder} was scored in {result.identity.dtype}; only fp32 results can be verified to {TOLERANCE:g}"
        )
    identity = result.identity
    for wrong in identity_faults(result):
        raise ValidationFailed(f"{folder}: {wrong}")
    organism = (organism or load_organism(zoo_name(result))).at(identity.layer, identity.limit)
    protocol = PROTOCOL_V2
    here = {
        "organism": organism.name,
        "tier": organism.tier,
        "organism_sha256": organism.sha256,
        "protocol_sha256": sha256_json(protocol.model_dump()),
        "prompts_sha256": prompts_sha256(organism),
        "controls_sha256": str(
            shipped_controls(organism, identity.layer, "float32", identity.sinks == "drop", protocol)
        ),
    }
    for what, found in here.items():
        claimed = str(getattr(identity, what))
        if claimed != found:
            a, b = (claimed[:12], found[:12]) if what.endswith("sha256") else (claimed, found)
            raise ValidationFailed(
                f"{folder}: {what} is {a} in the result and {b} here: another organism, protocol or version of diffbench"
            )
    stage = (loaded or Loaded()).get(organism, identity.sinks == "drop")
    if (stage.pair.layer, SCORE_SEED) != (result.identity.layer, result.identity.seeds["scores"]):
        raise ValidationFailed(f"{folder}: layer or scoring seed is not the one this organism is scored with")
    if faults := findings_faults(folder, result):
        raise ValidationFailed(f"{folder}: {'; '.join(faults)}")
    findings = read_findings(folder)
    if findings.patch != (result.identity.method == "oracle"):
        raise ValidationFailed(
            f"{folder} has no findings to re-score, and {result.identity.method!r} is not the oracle"
        )
    fresh: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(
        measured(check_findings(findings, stage.pair.d_model), stage)
    )
    claimed_all = result.model_dump()
    differences: list[tuple[str, object, object]] = []
    compared = sum(compare(name, claimed_all[name], found, differences) for name, found in fresh.items())
    return Verification(compared, differences, _unknown(result))


def _unknown(result: Result) -> list[str]:
    """What a record says of its making that the code here does not show."""
    who = result.identity
    if is_given(who.method_version):
        return [f"the findings of {who.method} were made elsewhere: what was looked at to find them was not seen"]
    if who.method not in BUILTIN:
        return [f"{who.method} is no built-in method: that it is what its version and options say was not checked"]
    if source_hash(method_file(who.method)) != who.code_sha256:
        return [
            f"the record was made by other source ({who.code_sha256[:12]}) than this: its findings were scored, its code was not seen"
        ]
    return []


def _read(folder: Path) -> Result:
    try:
        return load_result(folder / RESULT)
    except OSError as error:
        raise PrerequisiteError(
            f"there is no {RESULT} in {folder}; give a run folder (DIR/<organism>/<method>/<id>)"
        ) from error
    except ValueError as error:
        raise ValidationFailed(f"{folder / RESULT} is not a valid result: {reason(error)}") from error


def compare(where: str, claimed: Any, found: Any, differences: list[tuple[str, object, object]]) -> int:
    """Walk two JSON trees; numbers may differ by `TOLERANCE`. Returns how many leaves were compared."""
    if isinstance(found, dict) and isinstance(claimed, dict):
        keys = dict.fromkeys([*found, *claimed])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return sum(
            compare(f"{where}.{k}", claimed.get(k, ABSENT), found.get(k, ABSENT), differences)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            for k in keys  # pyright: ignore[reportUnknownVariableType]
        )
    if isinstance(found, list) and isinstance(claimed, list) and len(found) == len(claimed):  # pyright: ignore[reportUnknownArgumentType]
        return sum(
            compare(f"{where}[{i}]", c, f, differences) for i, (c, f) in enumerate(zip(claimed, found, strict=True))
        )  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    numbers = isinstance(claimed, int | float) and isinstance(found, int | float)
    if not (abs(float(claimed) - float(found)) <= TOLERANCE if numbers else claimed == found):  # pyright: ignore[reportArgumentType]
        differences.append((where, claimed, found))
    return 1
