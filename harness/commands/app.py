"""`bench app`: parse, call, serve; nothing heavy is imported before the command runs."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    AdapterOption,
    BaseOption,
    BehaviourOption,
    DeviceOption,
    OnOption,
    OtherBaseFlag,
    TextsOption,
    TunedOption,
)
from ..terminal import Debug, handled, say, silenced
from .inspecting import LayerOption, NamedOption, usable_device


def app_runs(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="What `bench show` takes, one or several; of a folder or a pack all its runs.", metavar="RUN..."
        ),
    ],
    places: Annotated[
        list[Path] | None,
        typer.Option("--in", help="Where ids are looked up; repeatable.  [default: runs and leaderboard/published]"),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 7860,
    host: Annotated[
        str, typer.Option("--host", help="Address that is listened on; any other than this lets others in.")
    ] = "127.0.0.1",
    organism: NamedOption = None,
    layer: LayerOption = None,
    base: BaseOption = None,
    adapter: AdapterOption = None,
    on: OnOption = None,
    tuned: TunedOption = None,
    behaviour: BehaviourOption = None,
    texts: TextsOption = None,
    allow_other_base: OtherBaseFlag = False,
    device: DeviceOption = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no reports.")] = False,
    debug: Debug = False,
) -> None:
    """Try findings in a browser: prompts of your own, with and without, at any strength, and two runs side by side."""
    with handled(debug):
        from ..app.serve import check_free, check_installed, serve, wait

        check_installed()
        check_free(host, port)
        own = {"base": base, "adapter": adapter, "on": on, "tuned": tuned, "behaviour": behaviour, "texts": texts}
        with silenced(False), tempfile.TemporaryDirectory() as scratch:
            from ..app.resident import Resident
            from ..cache import Cache
            from ..inspection.naming import all_named
            from .undescribed import shown_organism

            of = shown_organism(organism, own, allow_other_base)
            subjects, left_out = all_named(runs, Path(scratch), places, of, layer)
            for why in left_out:
                say(f"left out: {why}", err=True)
            resident = Resident(subjects, usable_device(device), None if no_cache else Cache.of_user())
            page, address = serve(resident, host, port)
            for label in resident.labels.values():
                say(label)
            say(f"open {address} (Ctrl-C ends it)")
            wait(page)
