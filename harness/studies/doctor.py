"""What `bench doctor` looks at: the interpreter, the packages, the device, and the zoo's files."""

import platform
from dataclasses import dataclass

from ...organisms.errors import DiffbenchError, PrerequisiteError
from ...organisms.registry import ZOO, load_card, load_organism, organism_names
from ..runs.provenance import cpu_name, package_versions


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: str
    ok: bool = True


def examine() -> list[Finding]:
    """Every check, none of which changes anything."""
    import torch

    report = [
        Finding("python", platform.python_version()),
        Finding("processor", f"{cpu_name()}, {torch.get_num_threads()} threads"),
    ]
    report += [Finding(name, version, version != "missing") for name, version in package_versions().items()]
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (the embedded tier needs none)"
    report.append(Finding("cuda device", cuda))
    names = organism_names()
    report.append(
        Finding("zoo", f"{len(names)} organisms in {ZOO}" if names else f"no organisms in {ZOO}", bool(names))
    )
    for name in names:
        try:
            load_organism(name, allow_failed=True)
            report.append(Finding(name, "hashes match its card"))
        except PrerequisiteError as error:  # a base that is missing, which one on a real model comes without
            real = load_card(name).tier != "tiny"
            report.append(Finding(name, f"hashes match its card; {error}" if real else str(error), real))
        except DiffbenchError as error:
            report.append(Finding(name, str(error), False))
    return report
