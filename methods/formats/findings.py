"""Findings made elsewhere: a safetensors file of directions, read and checked as what a method returns is.

The idea: a file's header gives every name, shape and type, so whatever is wrong with those is refused before a number is read; the
numbers then pass the contract's own checks. Two layouts are read: the one that people write, and the one that a run folder keeps.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ..contract import (
    MAX_FINDINGS,
    Access,
    DiffProblem,
    DiffResult,
    Finding,
    FindingError,
    Gate,
    check_claims,
    check_findings,
    check_line,
)
from ..entry import MethodEntry
from ..registry import GIVEN, check_name, method_names

Layout = Mapping[str, str]
"""Tensor → its dimensions by letter: n findings, width d."""
OWN: Layout = {"directions": "nd", "gate_read": "nd", "gate_threshold": "n", "score": "n"}
"""What people write. Only `directions` must be there; the two gate tensors come together."""
KEPT: Layout = {"direction": "nd", "read": "nd", "threshold": "n", "score": "n"}
"""What a run folder keeps; all of it is there."""
FLOATS = ("F32", "F64", "F16", "BF16")
HALF = (2.0**-6, 2.0**15)
"""Largest entries of a vector between which half precision has its numbers as they are: eleven bits, and a floor far below them."""
MOST_WIDTH = 2**16
"""Widest residual that is believed; the widest of today's models have 18,432."""


def is_pickle(first: bytes) -> bool:
    """Whether a file that begins with these 9 bytes is one of `torch.save` or `pickle.dump`.

    One safetensors file in 32 begins with the byte that a pickle begins with, because its header is so long; a brace follows the length.
    """
    return first.startswith(b"PK\x03\x04") or (first.startswith(b"\x80") and first[8:9] != b"{")


class FindingsFileError(ValidationFailed):
    """A file that is not one of findings."""

    def __init__(self, path: Path, fact: str, fix: str):
        super().__init__(f"{path} {fact}; {fix}")
        self.fact = fact


class FindingsFile(NamedTuple):
    """What a file of findings holds, checked."""

    result: DiffResult
    """Findings and claims."""
    sha256: str
    """Of its bytes."""
    name: str | None
    """What its author calls it."""
    method: str | None
    """What its author says found it."""
    layer: int | None
    """Block whose output the directions belong to."""


class Given:
    """Findings made elsewhere."""


@dataclass(frozen=True)
class FindingsEntry(MethodEntry):
    """Findings in the place of a method. Nothing is run, and what was looked at to find them is their author's word."""

    given: DiffResult = field(default_factory=lambda: DiffResult([]), compare=False)
    declared: Access = "activations"
    layer: int | None = None
    """The only layer that they may be scored at; None: not known."""

    @property
    def access(self) -> Access:
        """Access tier as declared."""
        return self.declared

    def run(self, config: BaseModel, problem: DiffProblem) -> DiffResult:
        """The findings; FindingError if they are of another layer."""
        self.check_layer(problem.layer)
        return self.given

    def check_layer(self, layer: int) -> None:
        """Refuse another layer than the one they were found at."""
        if self.layer not in (None, layer):
            raise FindingError(
                f"the directions of {self.name} are of layer {self.layer}, and this pair is hooked at layer {layer}: elsewhere they "
                f"mean nothing; use --layer {self.layer}"
            )


def entry_from_file(path: Path, name: str | None = None, access: Access = "activations") -> FindingsEntry:
    """A file of findings, to be scored like a method.

    Args:
        name: what the row is called; default: the name in the file, else the file's.

    Raises:
        UsageError: a name that a method has, or that cannot name a folder. PrerequisiteError, ValidationFailed: see `read_file`.
    """
    file = read_file(path)
    by = f", found by {file.method}" if file.method else ""
    origin = f"findings file {path}{by}"
    return _entry(file.result, name or file.name or path.stem, access, origin, file.sha256, file.layer)


def entry_from_findings(result: DiffResult, name: str, access: Access = "activations") -> FindingsEntry:
    """Findings in memory, to be scored like a method; they are checked when they are scored.

    Raises:
        UsageError: as `entry_from_file`.
    """
    said = [(f.direction.tolist(), f.gate and (f.gate.read.tolist(), f.gate.threshold)) for f in result.findings]
    sha256 = hashlib.sha256(repr((said, result.claims)).encode()).hexdigest()
    return _entry(result, name, access, "findings given to db.score", sha256, None)


def _entry(result: DiffResult, name: str, access: Access, origin: str, sha256: str, layer: int | None) -> FindingsEntry:
    if name in method_names():
        raise UsageError(
            f"{origin} is called {name!r}, which is a built-in or an installed method; did you mean {name + '-findings'!r}? "
            "Another name keeps its row apart from the method's own"
        )
    try:
        check_name(name, origin)
    except PrerequisiteError as error:
        raise UsageError(f"{error}; --name gives it another") from error
    told = f"{origin}; access {access} is declared, not enforced"
    return FindingsEntry(name, Given, told, f"{GIVEN}{sha256[:16]}", given=result, declared=access, layer=layer)


def read_file(path: Path, layouts: Sequence[Layout] = (OWN, KEPT)) -> FindingsFile:
    """Read a file of findings.

    Raises:
        PrerequisiteError: there is no such file.
        ValidationFailed: no safetensors file, half of one, tensors that are no findings, numbers or words that the contract refuses.
    """
    if not path.is_file():
        raise PrerequisiteError(
            f"{path} is a folder; give a file in it, such as {path / 'findings.safetensors'}"
            if path.is_dir()
            else f"there is no findings file {path}; check the path, or write one as docs/scoring-findings.md shows"
        )
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            shapes = {name: list(part.get_shape()) for name, part in slices.items()}
            types = {name: str(part.get_dtype()) for name, part in slices.items()}
            about = dict(file.metadata() or {})
        layout = _check_header(path, shapes, types, layouts)
        data = path.read_bytes()
        tensors = {name: t.float() for name, t in load(data).items()}
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            pickled = is_pickle(file.read(9))
        pickle = "a pickle or an archive, as torch.save or numpy.savez write it, which is never opened"
        fact = f"is {pickle}" if pickled else f"is no whole safetensors file ({error})"
        raise FindingsFileError(path, fact, "write it with safetensors.torch.save_file, or copy it again") from error
    try:
        result = DiffResult(_findings(path, tensors, layout), claims=check_claims(_json_list(about.get("claims"))))
        result = check_findings(result, shapes[next(iter(layout))][1])
        method = check_line(about["method"], "method") if "method" in about else None
        layer = _layer(about.get("layer"))
    except FindingError as error:
        raise ValidationFailed(f"{path}: {error}") from error
    return FindingsFile(result, hashlib.sha256(data).hexdigest(), about.get("name"), method, layer)


def _check_header(path: Path, shapes: dict[str, list[int]], types: dict[str, str], layouts: Sequence[Layout]) -> Layout:
    """The layout of a file whose names, shapes and types are those of findings."""
    only = [{name for name in shapes if name in layout and name != "score"} for layout in layouts]
    if all(only) and len(layouts) > 1:
        names = " and ".join(", ".join(sorted(names)) for names in only)
        raise FindingsFileError(path, f"holds findings twice, in two layouts ({names})", "keep one of them")
    layout = next((layout for layout, names in zip(layouts, only, strict=True) if names), layouts[0])
    if other := [name for name in shapes if name not in layout]:
        near = difflib.get_close_matches(other[0], layout, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise FindingsFileError(
            path,
            f"holds {', '.join(map(repr, sorted(other)[:5]))}, which is no part of a findings file",
            f"{hint}its tensors are {', '.join(layout)}",
        )
    first, read, threshold, _ = layout
    needed = [name for name in layout if layout is KEPT or name == first]
    if missing := [name for name in needed if name not in shapes]:
        raise FindingsFileError(
            path, f"has no {', '.join(missing)}", "put the directions there, one a row: [n, d_model]"
        )
    if (read in shapes) != (threshold in shapes):
        have, lacks = (read, threshold) if read in shapes else (threshold, read)
        raise FindingsFileError(
            path,
            f"has {have} and no {lacks}, and a gate is open where residual @ {read} > {threshold}",
            f"add {lacks}, or leave both out",
        )
    shape = shapes[first]
    if len(shape) != 2:
        raise FindingsFileError(path, f"has {first} of shape {shape}", "give one direction a row: [n, d_model]")
    n, d = shape
    if n == 0:
        raise FindingsFileError(path, "holds no directions", "a row of zeros is how to say that nothing was found")
    if n > MAX_FINDINGS:
        raise FindingsFileError(
            path, f"holds {n:,} directions of width {d:,}", f"keep the best {MAX_FINDINGS}, best first"
        )
    if not 0 < d <= MOST_WIDTH:
        raise FindingsFileError(
            path, f"has directions of width {d:,}", "give directions in the residual stream, [n, d_model]"
        )
    for name, found in shapes.items():
        expected = [{"n": n, "d": d}[letter] for letter in layout[name]]
        if found != expected:
            raise FindingsFileError(
                path, f"has {name} of shape {found} for {first} of shape {shape}", f"make it {expected}"
            )
        kept = ("F16", "F32") if "d" in layout[name] else ("F32",)
        if types[name] not in (FLOATS if layout is OWN else kept):
            raise FindingsFileError(path, f"has {name} of type {types[name]}", "save it as float32")
    return layout


def _findings(path: Path, tensors: dict[str, Tensor], layout: Layout) -> list[Finding]:
    first, read, threshold, score = layout
    directions = tensors[first]
    n = len(directions)
    scores = tensors.get(score, torch.zeros(n)).tolist()
    if layout is OWN:
        rising = next((i for i in range(n - 1) if scores[i + 1] > scores[i]), None)
        if rising is not None:
            raise FindingsFileError(
                path,
                f"ranks best first, but its score rises from row {rising} ({scores[rising]:g}) to the next ({scores[rising + 1]:g})",
                "sort the rows by score, or leave score out if a low one is better",
            )
    gates: list[Gate | None] = [None] * n
    if read in tensors:
        pairs = zip(tensors[read], tensors[threshold].tolist(), strict=True)
        gates = [None if t == float("-inf") else Gate(r, t) for r, t in pairs]
    return [Finding(d, g, s) for d, g, s in zip(directions, gates, scores, strict=True)]


def _json_list(text: str | None) -> Any:
    """Claims as metadata holds them, which is text."""
    if text is None:
        return []
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FindingError(f"claims is not JSON ({error}); write json.dumps([…]) into the metadata") from error


def _layer(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise FindingError(f"layer is {text[:20]!r}, not the number of a block; write e.g. '12' into the metadata")
    return int(text)


def halved(result: DiffResult) -> DiffResult:
    """The same findings in half precision (IEEE 754 binary16, in tensors of float32): so they are scored, and so they are kept.

    A vector too long or too short for that is scaled by a power of two first, a gate's threshold with its read-out. Neither changes
    which way a direction points or where a gate is open.
    """

    def gate(given: Gate) -> Gate:
        read, scale = _half(given.read)
        return Gate(read, given.threshold * scale)

    findings = [replace(f, direction=_half(f.direction)[0], gate=f.gate and gate(f.gate)) for f in result.findings]
    return replace(result, findings=findings)


def _half(vector_d: Tensor) -> tuple[Tensor, float]:
    """A vector in half precision, and what it was multiplied by."""
    most = float(vector_d.abs().max())
    scale = 1.0 if most == 0 or HALF[0] <= most <= HALF[1] else 2.0 ** -math.floor(math.log2(most))
    return (vector_d.double() * scale).half().float(), scale


def pack(findings: Sequence[Finding]) -> dict[str, Tensor]:
    """Findings as a run folder keeps them: direction, read [n, d_model]; threshold (−inf without a gate), score [n].

    Vectors take two bytes a number where that loses nothing, as it does of `halved` ones.
    """
    d = findings[0].direction

    def vectors(rows: Sequence[Tensor]) -> Tensor:
        whole = torch.stack(list(rows))
        half = whole.half()
        return half if torch.equal(half.float(), whole) else whole

    return {
        "direction": vectors([f.direction for f in findings]),
        "read": vectors([f.gate.read if f.gate else torch.zeros_like(d) for f in findings]),
        "threshold": torch.tensor(
            [f.gate.threshold if f.gate else float("-inf") for f in findings], dtype=torch.float32
        ),
        "score": torch.tensor([f.score for f in findings], dtype=torch.float32),
    }
