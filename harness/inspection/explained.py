"""Explanations that lie beside a run: read for a report, which shows those that are of its findings.

They are no part of the run: nothing in a record depends on them, and they may be written, replaced and removed at any time.
"""

from pathlib import Path

from pydantic import Field, ValidationError

from ..records.identity import Said
from .report import Explained, Part, Report
from .subject import Subject

VERSION = "1"


class Explanations(Part):
    """Explanations of one explainer: all that `bench explain` found in one call."""

    explainer: Said
    prompts: Said | None
    """Version of what a language model was asked; None: none was."""
    seed: int
    tokens: int
    """Of text that activations were read on."""
    notes: list[Said]
    findings: dict[int, Explained]
    """By number, from 1."""


class Beside(Part):
    """The file."""

    version: str = VERSION
    findings_sha256: Said | None
    """Of the findings that are explained."""
    organism_sha256: Said
    layer: int | None
    by: dict[str, Explanations] = Field(default_factory=dict[str, Explanations])
    """By explainer."""


def folder_of(subject: Subject) -> Path | None:
    """The folder beside a run or a file of findings, or in the folder of a dictionary; None: nothing was named."""
    where = subject.folder or subject.where
    if where is None:
        return None
    return where / "explanations" if where.is_dir() else where.with_suffix(".explanations")


def file_of(subject: Subject) -> Path | None:
    """The file of these findings; explanations of others, e.g. of latents of the same run, lie in other files."""
    folder = folder_of(subject)
    return folder / f"explained-{(subject.sha256 or 'none')[:12]}.json" if folder else None


def explanations_of(subject: Subject) -> Beside | None:
    """What lies beside these findings and is of them, in this organism; None if there is no such thing."""
    path = file_of(subject)
    try:
        found = Beside.model_validate_json(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    key = (VERSION, subject.sha256, subject.organism.sha256, subject.layer)
    return (
        found if found and (found.version, found.findings_sha256, found.organism_sha256, found.layer) == key else None
    )


def with_explanations(report: Report, subject: Subject) -> Report:
    """A report with what lies beside its findings."""
    found = explanations_of(subject)
    if found is None:
        return report
    of = {n: [e.findings[n] for e in found.by.values() if n in e.findings] for n in (f.number for f in report.findings)}
    shown = [f.model_copy(update={"explanations": of[f.number]}) for f in report.findings]
    return report.model_copy(update={"findings": shown})
