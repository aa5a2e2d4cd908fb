"""`bench diff`: parse, call, print; nothing heavy is imported before the command runs."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    AdapterOption,
    DeviceMapOption,
    DeviceOption,
    DtypeOption,
    LayerOption,
    NoCacheFlag,
    OnOption,
    OtherBaseFlag,
    OverwriteFlag,
    SecondsOption,
    TokensOption,
    VerboseFlag,
)
from ..terminal import Debug, JsonFlag, collect_log, handled, say, show, silenced


def diff_pair(
    base: Annotated[
        str,
        typer.Argument(help="The model before: a folder, org/repo[/subfolder][@revision] or a fetched base."),
    ],
    tuned: Annotated[
        str | None, typer.Argument(help="The model after, whole; or give --adapter.", show_default=False)
    ] = None,
    adapter: AdapterOption = None,
    on: OnOption = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="YAML file of text sources (docs/real-models.md).  [default: plain English]"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("-m", "--method", help="Further methods, by name or file.py; the cheap ones run anyway."),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Only the methods named with -m.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Method option, method.option=value.")] = None,
    finding: Annotated[str, typer.Option("--finding", help="Which findings are shown: 2, 1-3 or 1,4.")] = "1-3",
    out: Annotated[Path, typer.Option("--out", help="Folder for what is found.")] = Path("diffs"),
    overwrite: OverwriteFlag = False,
    layer: LayerOption = None,
    tokens: TokensOption = None,
    seconds: SecondsOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Method seed.")] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    allow_other_base: OtherBaseFlag = False,
    no_cache: NoCacheFlag = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
    debug: Debug = False,
) -> None:
    """What changed between two models when nobody knows: methods run, findings are shown and read, nothing is scored."""
    with handled(debug):
        from ..diffs.diffing import DEFAULT
        from ..inspection.subject import numbers
        from .settings import asked

        wanted = numbers(finding)
        names = [*(() if only else DEFAULT), *(method or ())]
        options = {"method": names, "seed": str(seed), "set": set_, "tokens": tokens, "seconds": seconds}
        where = {"device": device, "dtype": dtype, "device_map": device_map, "layer": layer}
        file = asked(None, options | where | {"cache": False if no_cache else None})
        log_text = collect_log(verbose or debug)
        own = {"base": base, "tuned": tuned, "adapter": adapter, "on": on, "texts": texts}
        with silenced(verbose):
            from ..cache import Cache
            from ..devices import trouble
            from ..diffs.diffing import TROUBLE, diff
            from ..inspection.answers import Workshop
            from ..inspection.collect import report
            from ..inspection.faces.terminal import view
            from ..inspection.subject import subject
            from ..runs.folder import check_writable
            from .undescribed import cells_of, undescribed

            organism = undescribed(own, allow_other_base)
            cells = cells_of(organism, file)
            check_writable(out)
            cache = Cache.of_user() if file.cache else None
            found, folders, failed = list[dict[str, object]](), list[str](), list[str]()
            for done in diff(cells, out, cache, overwrite, _tell, log_text):
                if done.folder is None:
                    say(f"error: {done.method} failed: {done.error}", err=True)
                    failed.append(done.method)
                    continue
                folders.append(str(done.folder))
                of = subject(done.folder, organism)
                have = len(of.findings.findings)
                work = Workshop(done.stage, of) if done.stage else None
                try:
                    seen = report(of, cells[0].machine, cache, _tell, work)
                except TROUBLE as error:
                    if (known := trouble(error, cells[0].machine.device)) is None:
                        raise
                    say(f"error: {done.method} is kept in {done.folder} and could not be shown: {known}", err=True)
                    failed.append(done.method)
                    continue
                found.append({"folder": str(done.folder), "report": seen.model_dump(mode="json")})
                if not as_json:
                    show(view(seen, [n for n in wanted if n <= have]))
                    say("")
        if as_json:
            say(json.dumps(found, indent=1))
        else:
            pair = {"base": base, "tuned": tuned, "adapter": adapter, "on": on, "texts": texts}
            named = [word for k, v in pair.items() if v is not None for word in (f"--{k}", str(v))]
            said = shlex.join(named + ["--allow-other-base"] * allow_other_base)
            say("\n".join(["kept, with no score:", *(f"  {folder}" for folder in folders)]))
            if folders:
                say(f"ask both models: bench try {shlex.quote(folders[0])} {said} -p '…'")
                say(f"in a browser:    bench app {shlex.join(folders)} {said}")
        if failed:
            raise typer.Exit(1)


def _tell(what: str) -> None:
    say(f"{what} …", err=True)
