"""`bench explain`: parse, say what it costs, call, print; nothing heavy is imported before it runs."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from .inspecting import LayerOption, LookedIn, NamedOption, RunArgument, named_subject, tell, usable_device

if TYPE_CHECKING:
    from ..explaining.endpoint import Endpoint
    from ..explaining.material import Material
    from ..inspection.report import Scorer

MOST_TOKENS = 500_000


def explain(
    run: RunArgument,
    places: LookedIn = None,
    finding: Annotated[str, typer.Option("--finding", help="Which findings: 2, 1-3 or 1,4.")] = "1-3",
    latent: Annotated[
        str | None,
        typer.Option(
            "--latent",
            help="Latents of the run's dictionary instead, comma list.  [default: its findings]",
            show_default=False,
        ),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option("--scorer", help="Comma list of scorers.  [default: all]", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1.  [default: no language model, n-grams]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the endpoint's model.", show_default=False)
    ] = None,
    key_env: Annotated[
        str, typer.Option("--key-env", help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    most_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Most tokens that are asked and answered; no more is sent.")
    ] = MOST_TOKENS,
    yes: Annotated[bool, typer.Option("--yes", help="Send without being asked.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Only what --model answered before; nothing is sent.")
    ] = False,
    delphi: Annotated[
        Path | None,
        typer.Option("--delphi", help="Also write activations there, in delphi's cache format.", show_default=False),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            min=100,
            help="Tokens of each kind of text to read.  [default: 15000 on the embedded tier, else 8000]",
            show_default=False,
        ),
    ] = None,
    shuffles: Annotated[
        int, typer.Option("--shuffles", min=0, max=15, help="Other findings' explanations to score as well.")
    ] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of halves and samples.")] = 0,
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
    """Say in words what each finding is, and score the words on text that was not used to find them.

    Without --url the words are n-grams, and no language model is needed. Explanations are kept beside the run; `bench show` shows them.
    """
    with handled(debug):
        from ...organisms.errors import UsageError
        from ..inspection.subject import latents, numbers

        wanted, scorers = numbers(finding), _scorers(scorer)
        _check(url, model, replay)
        own = {"base": base, "adapter": adapter, "on": on, "tuned": tuned, "behaviour": behaviour, "texts": texts}
        with silenced(False), tempfile.TemporaryDirectory() as scratch:
            from ..explaining import explain as explaining
            from ..explaining.material import Material
            from ..inspection.explained import file_of
            from ..inspection.faces.words import explained_lines

            of = named_subject(run, places, scratch, organism, layer, own, allow_other_base)
            if latent is not None:
                of = latents(of, _latents(latent))
            have = len(of.findings.findings)
            everything = list(range(1, have + 1))
            wanted = of.chosen(
                everything if latent else [n for n in wanted if n <= have] if finding == "1-3" else wanted
            )
            path = file_of(of)
            assert path is not None
            if path.is_relative_to(scratch):
                raise UsageError(
                    f"{run} lies in a pack or a bundle, and explanations are kept beside a run folder; "
                    f"make one: bench results fetch {run}"
                )
            key = os.environ.get(key_env) or None
            endpoint = _endpoint(url, model, path.parent / _safe(model), most_tokens, key, replay) if model else None
            material = Material.of(of, wanted, tokens, seed, usable_device(device), tell)
            if delphi is not None:
                from ..explaining.delphi import write

                say(f"written: {write(delphi, material, of.organism.pair.base_name)}", err=True)
            if endpoint is not None and url:
                _may_be_sent(material, endpoint, scorers, shuffles, yes)
            found = explaining.explain(material, endpoint, scorers, shuffles, tell)
            explaining.keep(path, of, found)
        if as_json:
            say(found.model_dump_json(indent=1))
        else:
            from rich.padding import Padding
            from rich.text import Text

            for note in found.notes:
                show(Text(note, style="yellow"))
            for number, e in found.findings.items():
                said = of.diagnostics[number - 1].get("latent") if number <= len(of.diagnostics) else None
                which = f"finding {number}" + (f", latent {said}" if said is not None else "")
                show(Text(f"\n{which}", style="bold underline"))
                for line in explained_lines(e):
                    show(Padding(Text(line), (0, 0, 0, 2)))
        if endpoint is not None:
            say(f"{endpoint.spent}; {endpoint.replayed:,} answers were there already", err=True)
        say(f"kept: {path}" + (f" (bench show {run} shows it)" if latent is None else ""), err=True)


def _scorers(named: str | None) -> "tuple[Scorer, ...]":
    """Scorers by name, in their order."""
    from ...organisms.errors import UsageError
    from ..explaining.explain import SCORERS

    if named is None:
        return SCORERS
    wanted = [n.strip() for n in named.split(",")]
    if wrong := [n for n in wanted if n not in SCORERS]:
        raise UsageError(f"there is no scorer {wrong[0]!r}; there are {', '.join(SCORERS)}")
    return tuple(s for s in SCORERS if s in wanted)


def _latents(text: str) -> list[int]:
    """`5,17` as numbers."""
    from ...organisms.errors import UsageError

    parts = [p.strip() for p in text.split(",")]
    if wrong := [p for p in parts if not (p.isdecimal() and len(p) < 10)]:
        raise UsageError(f"--latent {text!r}: {wrong[0]!r} is no number; give numbers from 0, e.g. 5,17")
    return list(dict.fromkeys(map(int, parts)))


def _check(url: str | None, model: str | None, replay: bool) -> None:
    from ...organisms.errors import UsageError

    if url and replay:
        raise UsageError("--replay sends nothing, so it takes no --url; leave out one of the two")
    if (url or replay) and not model:
        raise UsageError("give the name of the endpoint's model: --model NAME")
    if model and not (url or replay):
        raise UsageError(
            f"--model {model} is a model of an endpoint; give --url, or --replay for what it answered before"
        )


def _endpoint(url: str | None, model: str, folder: Path, most_tokens: int, key: str | None, replay: bool) -> "Endpoint":
    from ..explaining.endpoint import Endpoint, Replay, extra

    if replay:
        return Replay(model, folder)
    assert url is not None
    for name in ("httpx", "tenacity"):
        extra(name)
    return Endpoint(url, model, folder, most_tokens, key)


def _may_be_sent(
    material: "Material", endpoint: "Endpoint", scorers: "tuple[Scorer, ...]", shuffles: int, yes: bool
) -> None:
    """Say what will be sent at most, and ask; nothing goes without it."""
    from ...organisms.errors import UsageError
    from ..explaining.endpoint import ASKED_AGAIN, Rehearsal
    from ..explaining.explain import BY_BASE, explain

    rehearsal = Rehearsal(endpoint.model, endpoint.folder)
    explain(material, rehearsal, [s for s in scorers if s not in BY_BASE], shuffles)
    cost = rehearsal.spent
    say(
        f"to be sent to {endpoint.url}: at most {cost} ({rehearsal.replayed:,} answers are there already); an answer that cannot be "
        f"read is asked for again, {ASKED_AGAIN} times at most",
        err=True,
    )
    if cost.tokens > endpoint.most_tokens:
        raise UsageError(
            f"that is more than --max-tokens {endpoint.most_tokens:,}; raise it, or ask for fewer findings (--finding), scorers (--scorer) "
            "or others' explanations (--shuffles 0)"
        )
    if cost.requests and not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was sent; add --yes to send it")
        if not typer.confirm("send?"):
            raise UsageError("nothing was sent")


def _safe(name: str | None) -> str:
    """A model's name as one folder name."""
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in name or "").lstrip(".") or "model"
