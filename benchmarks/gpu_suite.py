"""`python -m benchmarks.gpu_suite`: everything that only a GPU can show, in at most eight minutes on one device.

A section that fails is recorded with its error and the others go on; one that would not be done in time is not started. `--cpu` runs all of
it at small shapes, to test the suite itself: its figures mean nothing.
"""

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from diffbench.harness.runs.provenance import package_versions

from . import gpu_sections
from .gpu_sections import FULL, QUICK, Found, Sizes
from .records import Machine, Record, machine
from .table import insert

BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
LETTERS = "abcdef"
PACKAGES = ("torch", "transformers", "peft", "numpy")


class Facts(Record):
    """Where it was measured, with what."""

    machine: Machine
    device: str
    """Name of the device, or `cpu`."""
    driver: str | None
    cuda: str | None
    """CUDA version that torch was built for."""
    free_bytes: int | None
    total_bytes: int | None
    packages: dict[str, str]


class Section(Record):
    """One section's tables."""

    letter: str
    name: str
    status: Literal["ok", "failed", "left out"]
    reason: str | None
    """Why it failed or was left out."""
    seconds: float
    rows: list[dict[str, bool | int | float | str | None]]
    notes: list[str]


class Suite(Record):
    """Everything one run of the suite measured."""

    facts: Facts
    quick: bool
    """Small shapes: for tests, not for the page."""
    budget_s: float
    seconds: float
    sections: list[Section]


@dataclass(frozen=True)
class Part:
    """A section before it runs."""

    letter: str
    name: str
    needs_s: float
    """Seconds that it may take on a GPU: with less left it is not started."""
    work: Callable[[Sizes, str], Found]


def parts(sizes: Sizes) -> list[Part]:
    """All sections; what matters most to later work first within the time."""
    two, nine = sizes.models
    return [
        Part("a", "Scores of the embedded tier, device against processor", 80, gpu_sections.scores),
        Part("b", f"Harvest, {two.name}", 20, partial(gpu_sections.harvest, shape=two)),
        Part("b", f"Harvest, {nine.name}", 30, partial(gpu_sections.harvest, shape=nine)),
        Part("c", f"Crosscoder step, {two.name}", 30, partial(gpu_sections.step, shape=two)),
        Part("c", f"Crosscoder step, {nine.name}", 40, partial(gpu_sections.step, shape=nine)),
        Part("d", "Batches from a buffer", 10, gpu_sections.stream),
        Part("e", f"A whole cell, {two.name}", 160, gpu_sections.cell),
        Part("f", f"Training an organism, {two.name}", 90, gpu_sections.training),
    ]


def facts(device: str) -> Facts:
    """This device, now."""
    here, names = machine(), package_versions()
    on_gpu = device.startswith("cuda")
    free, total = torch.cuda.mem_get_info(device) if on_gpu else (None, None)
    return Facts(
        machine=here,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        driver=_driver() if on_gpu else None,
        cuda=torch.version.cuda,
        free_bytes=free,
        total_bytes=total,
        packages={name: names[name] for name in PACKAGES if name in names},
    )


def _driver() -> str | None:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return said[0] if said else None


def run(
    sizes: Sizes,
    device: str,
    letters: Sequence[str] = tuple(LETTERS),
    budget_s: float = 480,
    show: Callable[[Section], None] = lambda section: None,
    save: Callable[[Suite], None] = lambda suite: None,
) -> Suite:
    """Measure the sections of some letters; `save` gets what there is after each, so that a kill loses the current one alone."""
    began, found, known = time.perf_counter(), list[Section](), facts(device)

    def so_far() -> Suite:
        spent = time.perf_counter() - began
        return Suite(facts=known, quick=sizes is QUICK, budget_s=budget_s, seconds=spent, sections=list(found))

    for part in (p for p in parts(sizes) if p.letter in letters):
        left, start = budget_s - (time.perf_counter() - began), time.perf_counter()
        needs = part.needs_s if sizes is FULL else 1
        status, reason, rows, notes = "ok", None, [], []
        if left < needs:
            status, reason = "left out", f"{left:.0f} s were left of {budget_s:g}, and it may take {needs:g} s"
        else:
            try:
                rows, notes = part.work(sizes, device)
            except Exception as error:  # a section fails alone, whatever went wrong
                status, reason = "failed", f"{type(error).__name__}: {error}"
                traceback.print_exception(error)
                traceback.clear_frames(error.__traceback__)
            try:
                gpu_sections.clean(device)
            except RuntimeError as error:  # the device is gone: what was measured on it stays
                reason = reason or f"ended, and then the device failed: {error}"
        section = Section(
            letter=part.letter,
            name=part.name,
            status=status,
            reason=reason,
            seconds=time.perf_counter() - start,
            rows=rows,
            notes=notes,
        )
        found.append(section)
        show(section)
        save(so_far())
    return so_far()


def markdown(suite: Suite) -> str:
    """The record as Markdown, section by section."""
    f = suite.facts
    where = [f.device, *([f"driver {f.driver}"] if f.driver else []), *([f"CUDA {f.cuda}"] if f.cuda else [])]
    where += [f"{name} {version}" for name, version in f.packages.items()]
    if f.free_bytes is not None and f.total_bytes is not None:
        where.append(f"{f.free_bytes / 1e9:.0f} of {f.total_bytes / 1e9:.0f} GB free at the start")
    small = " **Small shapes, to test the suite: the figures mean nothing.**" if suite.quick else ""
    return (
        "\n\n".join([f"{', '.join(where)}; {suite.seconds:.0f} s in all.{small}", *map(section_text, suite.sections)])
        + "\n"
    )


def section_text(section: Section) -> str:
    """One section as Markdown."""
    parts = [f"**{section.letter}. {section.name}** ({section.seconds:.0f} s)"]
    if section.reason:
        parts.append(f"{section.status}: {section.reason}")
    if section.rows:
        columns = list(dict.fromkeys(c for row in section.rows for c in row))
        lines = [columns, ["---"] * len(columns), *([_said(row.get(c)) for c in columns] for row in section.rows)]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, *section.notes])


def _said(value: bool | int | float | str | None) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "**no**"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case str():
            return value


def main(
    out: Annotated[Path, typer.Option(help="Where the record goes, as JSON.")] = Path("docs/gpu.json"),
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page that holds the markers; the tables are written between them.")
    ] = None,
    sections: Annotated[str, typer.Option(help="Letters of the sections to run.")] = ",".join(LETTERS),
    budget_s: Annotated[
        float, typer.Option(min=1, help="Seconds in all: what may not be done in time is not started.")
    ] = 480,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Everything at small shapes on the processor, to test the suite.")
    ] = False,
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
) -> None:
    """Measure what only a GPU can show."""
    letters = [letter.strip() for letter in sections.split(",")]
    if unknown := sorted(set(letters) - set(LETTERS)):
        raise typer.BadParameter(
            f"no section {', '.join(unknown)}; sections: {', '.join(LETTERS)}", param_hint="--sections"
        )
    if not cpu and not torch.cuda.is_available():
        typer.echo("torch sees no CUDA device; install a CUDA build of torch, or test the suite with --cpu", err=True)
        raise typer.Exit(3)
    suite = run(
        QUICK if cpu else FULL,
        "cpu" if cpu else device,
        letters,
        budget_s,
        show=lambda section: typer.echo(section_text(section) + "\n"),
        save=lambda suite: _write(out, suite.model_dump_json(indent=1) + "\n"),
    )
    if page is not None:
        _write(page, insert(page.read_text(), markdown(suite), BEGIN, END))
    typer.echo(f"wrote {out}; {suite.seconds:.0f} s")
    if any(section.status == "failed" for section in suite.sections):
        sys.exit(1)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(text)
    scratch.replace(path)


if __name__ == "__main__":
    typer.run(main)
