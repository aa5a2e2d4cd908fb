"""`bench score`: findings that were made elsewhere, measured as a method's are; nothing heavy is imported before the command runs."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import (
    AdapterOption,
    BackendOption,
    BaseOption,
    BehaviourOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    LayerOption,
    LimitOption,
    NoCacheFlag,
    OnOption,
    OrganismOption,
    OtherBaseFlag,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    RemoteFlag,
    SinksOption,
    TextsOption,
    TunedOption,
    VerboseFlag,
)
from ..terminal import Debug, JsonFlag, collect_log, handled, silenced

if TYPE_CHECKING:
    from ...methods.contract import Access
    from ...methods.formats.findings import FindingsEntry
    from ...organisms.organism import Organism


class Declared(StrEnum):
    """What was looked at to find directions, as their author says."""

    activations = "activations"
    generations = "+generations"
    weights = "+weights"
    supervised = "supervised"


def score(
    findings: Annotated[
        list[Path],
        typer.Argument(help="Findings files (safetensors; docs/scoring-findings.md).", metavar="FINDINGS"),
    ],
    organism: OrganismOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the row is called.  [default: the file's `name`, else its stem]")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the row: which of several files of one name.")
    ] = 0,
    access: Annotated[
        Declared, typer.Option("--access", help="What was looked at to find the directions; recorded as your word.")
    ] = Declared.activations,
    out: OutOption = None,
    overwrite: OverwriteFlag = False,
    layer: LayerOption = None,
    limit: LimitOption = None,
    sinks: SinksOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    backend: BackendOption = None,
    remote: RemoteFlag = None,
    no_cache: NoCacheFlag = False,
    base: BaseOption = None,
    adapter: AdapterOption = None,
    on: OnOption = None,
    tuned: TunedOption = None,
    allow_other_base: OtherBaseFlag = False,
    behaviour: BehaviourOption = None,
    texts: TextsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    verbose: VerboseFlag = False,
    debug: Debug = False,
) -> None:
    """Score directions that were found elsewhere: no method is written. Finished cells are not run again."""
    with handled(debug):
        from .cells import carry_out
        from .settings import Settings, find_organisms, given_options, run_file

        options = {
            "organism": organism,
            "seed": seed,
            "out": out,
            "layer": layer,
            "limit": limit,
            "sinks": sinks,
            "device": device,
            "dtype": dtype,
            "device_map": device_map,
            "backend": backend,
            "remote": remote,
            "cache": False if no_cache else None,
            "base": base,
            "adapter": adapter,
            "on": on,
            "tuned": tuned,
            "allow_other_base": allow_other_base or None,
            "behaviour": behaviour,
            "texts": texts,
        }
        file = run_file(given_options(options))
        log_text = collect_log(verbose or debug)
        with silenced(verbose):
            from ...methods.contract import NoConfig
            from ...organisms.errors import DiffbenchError

            entries = read(findings, name, access.value)
            left_out: dict[str, DiffbenchError] = {}
            organisms = find_organisms(file, left_out)
            check_fit(entries, organisms, file.one_layer)
            settings = Settings(organisms, [(entry, NoConfig()) for entry in entries], file, left_out)
            carry_out(settings, overwrite, quiet, as_json, log_text, verbose)


def read(paths: "Sequence[Path]", name: str | None, access: "Access") -> "list[FindingsEntry]":
    """Every file, checked.

    Raises:
        UsageError: two files of one name, or a method's name. PrerequisiteError, ValidationFailed: a file that holds no findings.
    """
    from ...methods.formats.findings import entry_from_file
    from ...organisms.errors import UsageError

    files = list(dict.fromkeys(paths))
    if name is not None and len(files) > 1:
        raise UsageError(
            f"--name {name} is one row's name, and {len(files)} files make as many: give one file, or leave --name out"
        )
    entries = [entry_from_file(path, name, access) for path in files]
    first: dict[str, Path] = {}
    for path, entry in zip(files, entries, strict=True):
        if (other := first.setdefault(entry.name, path)) != path:
            raise UsageError(
                f"{other} and {path} are both called {entry.name!r}, and a row has one name: score them one at a time, with --name or "
                "--seed, or put a `name` into their metadata"
            )
    return entries


def check_fit(entries: "Sequence[FindingsEntry]", organisms: "Sequence[Organism]", layer: int | None) -> None:
    """Refuse directions of another width or layer than a pair has, before its weights are read, as far as its config says.

    Args:
        layer: that was asked for.

    Raises:
        ValidationFailed: with the pair's.
    """
    from ...organisms.errors import ValidationFailed
    from ..pairs.preflight import width_of

    for entry in entries:
        d = len(entry.given.findings[0].direction)
        for o in organisms:
            width, hooked = width_of(o.base), o.layer if layer is None else layer
            if width not in (None, d):
                raise ValidationFailed(
                    f"{entry.name}: directions of width {d}, and the residual stream of {o.name} has {width}: they were found in another "
                    "model; give the organism they belong to"
                )
            if hooked is not None:
                entry.check_layer(hooked)
