"""`bench sweep`: parse, plan, sweep, print."""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..options import (
    BackendOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    LayersOption,
    LimitOption,
    MethodsOption,
    NoCacheFlag,
    OrganismOption,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    SecondsOption,
    SinksOption,
    TextsOption,
    TierOption,
    TokensOption,
)
from ..terminal import Debug, JsonFlag, handled, say, show, silenced

if TYPE_CHECKING:
    from ..commands.settings import RunFile, Settings
    from .driver import Ended
    from .engine import Engine, Work
    from .plan import Plan

PUBLISHED = Path("leaderboard/published")
"""Where published records stand in a checkout."""


def sweep(
    method: MethodsOption = None,
    organism: OrganismOption = None,
    tier: TierOption = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="So many method seeds: 0, 1, …  [default: 1]", show_default=False),
    ] = None,
    seed: Annotated[
        str | None, typer.Option("--seed", envvar="BENCH_SEED", help="Or these: a comma list.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            min=1,
            help="Cells at a time, each on its share of the cores.  [default: 1; with ray as many as fit]",
            show_default=False,
        ),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteFlag = False,
    layer: LayersOption = None,
    tokens: TokensOption = None,
    seconds: SecondsOption = None,
    limit: LimitOption = None,
    sinks: SinksOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    backend: BackendOption = None,
    no_cache: NoCacheFlag = False,
    texts: TextsOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="YAML file of `bench run`, e.g. with a pair of your own; options given here win."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Method option, method.option=value; repeatable.")
    ] = None,
    retries: Annotated[
        int,
        typer.Option("--retries", min=0, help="How often a cell is run again whose process or machine was lost."),
    ] = 1,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Processes here, or actors on a Ray cluster that is there."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray: the cluster's.  [default: $RAY_ADDRESS, or one of this machine]"),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", help="Ray: cores of a cell.  [default: 1]", show_default=False)
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus", help="Ray: GPUs of a cell; a part of one is shared.  [default: 1 on cuda]", show_default=False
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory",
            help="Ray: GiB of a cell.  [default: what cells like these held, where known]",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            help="Records that times are taken from, beside those in --out.  [default: leaderboard/published, if it is here]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will run and how long it takes; run nothing.")
    ] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: Debug = False,
) -> None:
    """Run very many cells, several at a time, and go on after anything.

    The cells are those of `bench run` with the same lists, and so are their records. `bench run` runs a few of them one after the other in
    its own process and prints every record; a sweep plans first, runs each in a process apart, so that a crash costs one cell, and tells
    how far it is. Finished cells are never run again: after a kill, the same command goes on. See docs/sweeps.md.
    """
    with handled(debug):
        from ...organisms.errors import UsageError
        from ..commands.settings import asked, resolve

        for_ray = {"--address": address, "--cpus": cpus, "--gpus": gpus, "--memory": memory}
        if engine == "local" and (wrong := [k for k, v in for_ray.items() if v is not None]):
            raise UsageError(f"{wrong[0]} is about a Ray cluster; add --engine ray, or leave it out")
        if seeds is not None and seed is not None:
            raise UsageError("--seeds says how many seeds and --seed which; give one of the two")
        given = {
            "method": method,
            "organism": organism,
            "tier": tier,
            "seed": list(range(seeds)) if seeds else seed,
            "out": out,
            "layer": layer,
            "tokens": tokens,
            "seconds": seconds,
            "limit": limit,
            "sinks": sinks,
            "device": device,
            "dtype": dtype,
            "device_map": device_map,
            "backend": backend,
            "cache": False if no_cache else None,
            "texts": texts,
            "set": set_,
        }
        file = asked(config, given, here=engine == "local")
        if file.in_process:
            raise UsageError("in_process is for debugging one method with `bench run`; leave it out of a sweep's file")
        with silenced(False):
            from .plan import work_of

            settings = resolve(file)
            work = work_of(settings.plan(overwrite))
            if engine == "local":
                plan, runs = _here(work, file, jobs, measured)
            else:
                plan, runs = _there(work, file, jobs, measured, (cpus, gpus, memory), address)
            _sweep(work, plan, runs, settings, retries, dry_run, as_json, quiet)


def _here(work: "Work", file: "RunFile", jobs: int | None, measured: Path | None) -> "tuple[Plan, Engine]":
    """Processes of this machine, no more than it has cores."""
    from .processes import Processes, cores, threads_of

    most = min(jobs or 1, cores())
    if jobs and most < jobs:
        say(
            f"note: {most} at a time, not {jobs}: there are {most} cores here, and more processes would only wait",
            err=True,
        )
    plan = _planned(work, measured, most, threads_of(most))
    return plan, Processes(work, file, max(1, min(most, len(plan.todo))))


def _there(
    work: "Work",
    file: "RunFile",
    jobs: int | None,
    measured: Path | None,
    needs: tuple[float | None, float | None, float | None],
    address: str | None,
) -> "tuple[Plan, Engine]":
    """Actors on a cluster, as many as fit unless fewer are wanted."""
    from dataclasses import replace

    from .cluster import Cluster, Need, connected, machines

    plan = _planned(work, measured, 1, 0)
    need = Need.of(file.device, *needs, plan.memory_bytes)
    ray = connected(address)
    room = need.room(machines(ray))
    if jobs and jobs > room:
        say(f"note: {room} fit onto the cluster at a time, not {jobs}; the others wait for a machine to join", err=True)
    at_once = min(jobs or room, max(1, len(plan.todo)))
    return replace(plan, jobs=at_once), Cluster(work, file, at_once, need, ray)


def _sweep(
    work: "Work",
    plan: "Plan",
    engine: "Engine",
    settings: "Settings",
    retries: int,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from ..commands.cells import save_layers
    from ..records.loading import load_result
    from ..runs.folder import RESULT, check_writable
    from ..runs.run import exit_code_of
    from . import display

    if dry_run:
        if as_json:
            say(json.dumps(plan.data(), indent=1))
        else:
            show(display.plan_table(plan))
        plan.check()
        return
    plan.check()
    check_writable(settings.out)
    if not quiet:
        show(display.plan_table(plan), err=True)
    ended = display.known(plan)
    _run(work, plan, engine, retries, quiet, ended)
    if as_json:
        say(json.dumps(display.outcome_data(plan, ended), indent=1))
    else:
        say(display.outcome(plan, ended))
    if len(settings.file.layer) > 1:
        save_layers([load_result(Path(e.ran.folder) / RESULT) for e in ended if e.ran.good], settings.out)
    for name, why in settings.left_out.items():
        say(f"error: {name} was left out: {why}", err=True)
    code = exit_code_of((e.ran.status, e.ran.pair, e.ran.zoo) for e in ended)
    if code := max(code, int(bool(settings.left_out))):
        raise typer.Exit(code)


def _run(work: "Work", plan: "Plan", engine: "Engine", retries: int, quiet: bool, ended: "list[Ended]") -> None:
    """Sweep what is left, each cell's outcome added as it comes; SIGTERM is as good as Ctrl-C.

    Raises:
        KeyboardInterrupt: with what is kept.
    """
    import signal

    from .display import SweepDisplay
    from .driver import sweep

    if not plan.todo:
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with SweepDisplay(plan, quiet) as shown, closing(sweep(work, plan.todo, engine, shown, retries)) as running:
            ended.extend(running)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"{_kept(work, ended)} of {len(plan.cells)} cells are finished and kept in {plan.out}, and so is what the others have "
            "trained; the same command goes on from here"
        ) from interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def _kept(work: "Work", ended: "list[Ended]") -> int:
    """Cells that are finished, those among them that processes saved while they were stopped."""
    from ..runs.run import finished_before

    over = {e.number for e in ended}
    rest = [(c, id_) for n, (c, id_) in enumerate(zip(work.plan.cells, work.ids, strict=True)) if id_ and n not in over]
    return sum(e.ran.good for e in ended) + sum(finished_before(work.plan, c, id_) is not None for c, id_ in rest)


def _planned(work: "Work", measured: Path | None, jobs: int, threads: int) -> "Plan":
    from ...organisms.errors import PrerequisiteError
    from .plan import Measured, plan, recorded

    if measured is not None and not measured.is_dir():
        raise PrerequisiteError(
            f"there is no folder {measured}; give one of run folders or packs, or leave out --measured"
        )
    sources = [p for p in (work.plan.out, measured or PUBLISHED) if p.is_dir()]
    return plan(work, Measured.of(recorded(*sources)), jobs, threads)
