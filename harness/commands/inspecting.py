"""`bench show` and `bench try`: parse, call, print; nothing heavy is imported before a command runs."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from ..terminal import Debug, JsonFlag, handled, say, show, silenced

if TYPE_CHECKING:
    from ...organisms.organism import Organism
    from ..inspection.subject import Subject

RunArgument = Annotated[
    str,
    typer.Argument(
        help="Run folder, id, PACK:ID, ORGANISM+METHOD[+SEED], or a file of findings with a pair.",
        metavar="RUN",
        show_default=False,
    ),
]
LookedIn = Annotated[
    list[Path] | None,
    typer.Argument(help="Where an id is looked up.  [default: runs and leaderboard/published]", show_default=False),
]
NamedOption = Annotated[
    str | None,
    typer.Option(
        "-o", "--organism", help="What the findings are of, if a record does not say it or it is not in the zoo."
    ),
]
LayerOption = Annotated[
    int | None,
    typer.Option("--layer", help="Hooked block of a findings file that does not say it.", show_default=False),
]


def show_run(
    run: RunArgument,
    places: LookedIn = None,
    finding: Annotated[str, typer.Option("--finding", help="Which findings: 2, 1-3 or 1,4.")] = "1-3",
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one self-contained page there instead.", show_default=False)
    ] = None,
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
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Collect anew, and keep nothing.")] = False,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """What a run found: where each finding is active, how it reads, and what both models say with and without it."""
    with handled(debug):
        from ..inspection.subject import numbers

        wanted = numbers(finding)
        own = {"base": base, "adapter": adapter, "on": on, "tuned": tuned, "behaviour": behaviour, "texts": texts}
        with silenced(False), tempfile.TemporaryDirectory() as scratch:
            from ..cache import Cache
            from ..inspection.collect import report

            of = named_subject(run, places, scratch, organism, layer, own, allow_other_base)
            have = len(of.findings.findings)
            if have:
                wanted = of.chosen([n for n in wanted if n <= have] if finding == "1-3" else wanted)
            found = report(of, usable_device(device), None if no_cache else Cache.of_user(), tell)
        if html is not None:
            from ..files import atomic_write_text
            from ..inspection.faces.page import page

            atomic_write_text(html, page(found, wanted))
            say(f"written: {html}", err=True)
        if as_json:
            say(found.model_dump_json(indent=1))
        elif html is None:
            from ..inspection.faces.terminal import view

            show(view(found, wanted))


def try_run(
    run: RunArgument,
    places: LookedIn = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What to ask.  [default: one of the organism's dev prompts]", show_default=False
        ),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option(
            "--finding",
            help="Which findings, put to use together: 2, 1-3 or 1,4.  [default: as scoring did]",
            show_default=False,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", help="Multiples of the mean residual norm.  [default: what scoring chose]", show_default=False
        ),
    ] = None,
    side: Annotated[
        Literal["both", "base", "organism"],
        typer.Option(
            "--side", help="Where findings are put to use: added to the base, taken out of the organism, or both."
        ),
    ] = "both",
    gated: Annotated[bool, typer.Option("--gated", help="Only where gates are open.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Plain text to be continued, not a question in chat.")] = False,
    tokens: Annotated[int, typer.Option("--tokens", min=1, max=512, help="Longest answer.")] = 24,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**63 - 1, help="Sample with it.  [default: greedy]", show_default=False),
    ] = None,
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
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Ask both models something, with and without a finding, and see where it is active."""
    with handled(debug):
        from ..inspection.subject import numbers

        wanted = None if finding is None else numbers(finding)
        own = {"base": base, "adapter": adapter, "on": on, "tuned": tuned, "behaviour": behaviour, "texts": texts}
        with silenced(False), tempfile.TemporaryDirectory() as scratch:
            from ..inspection.trial import a_prompt, trial

            of = named_subject(run, places, scratch, organism, layer, own, allow_other_base)
            asked = a_prompt(of) if prompt is None else prompt
            found = trial(of, asked, wanted, strength, side, gated, raw, tokens, seed, usable_device(device))
        if as_json:
            say(found.model_dump_json(indent=1))
        else:
            from ..inspection.faces.terminal import tried

            show(tried(found))


def named_subject(
    run: str,
    places: list[Path] | None,
    scratch: str,
    organism: str | None,
    layer: int | None,
    own: "dict[str, str | Path | None]",
    allow_other_base: bool,
) -> "Subject":
    """What a command is to look at."""
    from ..inspection.naming import named
    from .undescribed import shown_organism

    of: Organism | None = shown_organism(organism, own, allow_other_base)
    return named(run, Path(scratch), places, of, layer)


def usable_device(device: str | None) -> str:
    """A device that is there."""
    from ..pairs.preflight import check_device

    if device not in (None, "cpu"):
        check_device(device)
    return device or "cpu"


def tell(what: str) -> None:
    """What is being done."""
    say(f"{what} …", err=True)
