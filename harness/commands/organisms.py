"""`bench organisms`: parse, call, print; nothing heavy is imported before a command runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ...organisms.card import Card, Role, Tier
from ...organisms.errors import UsageError, ValidationFailed, unknown
from ..options import DeviceOption, DtypeOption
from ..terminal import Debug, JsonFlag, handled, say, show, silenced

app = typer.Typer(no_args_is_help=True, help="Model organisms: list, show, lint, build, verify, report, new.")
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Organisms at a time, one thread each.")]
ZooOption = Annotated[Path | None, typer.Option("--zoo", help="Zoo folder (default: the installed one, or BENCH_ZOO).")]


@app.command("list")
def organisms_list(
    family: Annotated[
        str | None, typer.Option("--family", help="Only this family; of hub organisms this kind.", show_default=False)
    ] = None,
    role: Annotated[Role | None, typer.Option("--role", help="Only these.", show_default=False)] = None,
    set_: Annotated[
        str | None, typer.Option("--set", help="Only a frozen set, e.g. core-v2.", show_default=False)
    ] = None,
    tier: Annotated[
        Tier | None, typer.Option("--tier", help="Only of this size; hub: public ones too.  [default: all of the zoo]")
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Every organism of the zoo: family, base, role, behaviour before and after, gates, status."""
    with handled(debug):
        from ...organisms.hub.registry.load import is_hub
        from ...organisms.registry import expand, load_card, organism_names
        from ...organisms.sets import members, public, sets

        of_hub = set_ is not None and public(set_)
        names = organism_names()
        if set_ is not None:
            members(set_)  # refuses what is no set
            names = [n for n in members(set_) if not is_hub(n)] if of_hub else expand([set_])
        every, damaged = list[Card](), list[str]()
        for name in names:
            try:
                every.append(load_card(name))
            except ValidationFailed as error:
                damaged.append(f"{name}: {error}")
        tiers = {"hub"} if of_hub else {c.tier for c in every}
        if set_ is not None and tier is not None and tier not in tiers:
            raise UsageError(
                f"{set_} holds organisms of tier {', '.join(sorted(tiers))} and --tier says {tier}; leave one out"
            )
        public_too = of_hub or tier == "hub"
        if family is not None and family not in (known := _families(every, public_too)):
            raise unknown("family", family, sorted(known))
        cards = [c for c in every if c.family == (family or c.family) and c.role == (role or c.role)]
        cards = [c for c in cards if c.tier == (tier or c.tier)]
        if public_too:
            _list_hub(family, role, set_, cards, as_json)
        elif as_json:
            say(json.dumps([c.model_dump(mode="json") for c in cards], indent=1))
        else:
            from ..views import render

            title = set_ and f"{set_}: {sets()[set_].about}; {len(names)} organisms, sha256 {sets()[set_].sha256}"
            show(render.organisms(cards, title))
        if damaged:
            raise ValidationFailed("\n".join([f"{len(damaged)} organisms are damaged and left out", *damaged]))


def _families(cards: list[Card], public_too: bool) -> set[str]:
    """Families that a list can be narrowed to: those that diffbench has, and those that are in the zoo."""
    from ...organisms import families, natural
    from ...organisms.hub.registry.load import hub_cards

    kinds = {c.kind for c in hub_cards().values()} if public_too else set[str]()
    return {*families.families(), *natural.families(), *(c.family for c in cards), *kinds}


def _list_hub(family: str | None, role: str | None, set_: str | None, trained: list[Card], as_json: bool) -> None:
    """Public organisms, and those that were trained here on models of that size."""
    from ...organisms.hub.registry.load import hub_cards
    from ...organisms.sets import members
    from ..views import hub, render

    cards = [c for n, c in hub_cards().items() if set_ is None or n in members(set_)]
    cards = [c for c in cards if c.kind == (family or c.kind) and c.entry.role == (role or c.entry.role)]
    if as_json:
        found = [hub.data(c, priced=False) for c in cards] + [c.model_dump(mode="json") for c in trained]
        say(json.dumps(found, indent=1))
        return
    show(hub.listing(cards))
    if trained:
        show(render.organisms(trained, "trained here"))


@app.command("show")
def organisms_show(
    name: Annotated[
        str,
        typer.Argument(
            help="Organism, e.g. taboo/gold-narrow, my_family.py:member-variant or hub/NAME; or core-hub-v2, with its cost."
        ),
    ],
    behaviour: Annotated[
        bool, typer.Option("--behaviour", help="Of hub/NAME: print its behaviour file instead.")
    ] = False,
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="Longest answer.")] = 24,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Sample the answers at temperature 1 with this seed.  [default: greedy]")
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """One organism: what was measured, gates, oracle per layer, training rows, and answers of base and organism."""
    with handled(debug):
        from ...organisms.hub.registry.load import is_hub
        from ...organisms.sets import public

        if is_hub(name) or public(name):
            _show_hub(name, behaviour, as_json)
            return
        if behaviour:
            raise UsageError(
                f"--behaviour prints the file of a public organism (hub/NAME), and {name} is none; leave it out"
            )
        from ...organisms.registry import card_of

        card = card_of(name)
        if as_json:
            say(card.model_dump_json(indent=1))
        else:
            from ..views import render
            from ..zoo import examples

            with silenced(False):
                talk = examples.conversations(name, tokens=tokens, seed=seed)
                shown = render.organism(card, examples.asked(name), examples.rows(name), talk, seed)
            show(shown)


def _show_hub(name: str, behaviour: bool, as_json: bool) -> None:
    from ...organisms.hub.registry.load import hub_card, is_hub
    from ...organisms.sets import sets
    from ..views import hub

    if not is_hub(name):
        if behaviour:
            raise UsageError(f"--behaviour prints the file of one organism, and {name} is a set; name one of it")
        of = sets()[name]
        cards = [hub_card(n) for n in of.organisms]
        if as_json:
            say(json.dumps({"name": name, "about": of.about, "organisms": [hub.data(c) for c in cards]}, indent=1))
        else:
            show(hub.core(name, of, cards))
    elif behaviour:
        from ...organisms.hub.behaviours.build import behaviour_of

        say(behaviour_of(hub_card(name)).model_dump_json(indent=1, exclude_defaults=True))
    elif as_json:
        say(json.dumps(hub.data(hub_card(name)), indent=1))
    else:
        show(hub.shown(hub_card(name)))


@app.command("lint")
def organisms_lint(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Registry files (YAML).  [default: the registry that diffbench ships]")
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(
            "--adapters",
            help="Folder of org/repo/adapter_config.json to compare bases with.  [default: the hub's cache]",
        ),
    ] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            "--tokenizer", help="BASE=FOLDER: also try every continuation of organisms on that base; repeated."
        ),
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Find mistakes in registered public organisms without loading one: wrong ids, mixes, bases, twins, prompts (exit 4)."""
    with handled(debug):
        from ...organisms.hub.registry import load
        from ...organisms.hub.registry.lint import lint, local_config
        from ..views import hub

        shipped = load.hub_cards()
        cards = [c for f in files for c in load.cards_of(load.read(f))] if files else list(shipped.values())
        read = local_config(adapters)
        with silenced(False):
            found = lint(cards, shipped, read, _tokenizers(tokenizer or []))
        if as_json:
            say(json.dumps([p._asdict() for p in found], indent=1))
        elif found:
            show(hub.problems(found))
        if found:
            wrong = len({p.name for p in found})
            raise ValidationFailed(
                f"{len(found)} mistakes in {wrong} of {len(cards)} registered organisms; mend the file"
            )
        compared = sum(bool(c.entry.adapter) and read(c.entry.repository) is not None for c in cards)
        say(
            f"{len(cards)} registered organisms, no mistake found; the adapter_config.json of {compared} of them was here to compare",
            err=True,
        )


def _tokenizers(given: list[str]) -> dict[str, Any]:
    """`BASE=FOLDER` → tokenizers by base."""
    from ...organisms.hub.sources import locate
    from ...organisms.world.tokenizer import load_tokenizer

    found = dict[str, Any]()
    for one in given:
        base, equals, folder = one.partition("=")
        if not (base and equals and folder):
            raise UsageError(f"--tokenizer {one!r} is not of the form BASE=FOLDER, e.g. Qwen/Qwen3-8B=models/qwen3-8b")
        found[base] = load_tokenizer(locate(folder, "model", "tokenizer's model").folder)
    return found


@app.command("build")
def organisms_build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Organisms, family files (my_family.py) or YAML cards (my.yaml).")
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(
            "--base",
            help="Embedded bases to train first (tiny-gemma2), or the real model to train the organisms on: smollm2-135m, "
            "google/gemma-2-2b-it, a folder.",
        ),
    ] = None,
    family: Annotated[list[str] | None, typer.Option("--family", help="Every organism of a family.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every base and every organism.")] = False,
    zoo: ZooOption = None,
    jobs: Jobs = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build again what is there already.")] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Real models: say rows, tokens, steps, memory and time, and train nothing."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Real models: go on from the checkpoints of a killed run.")
    ] = True,
    blocks: Annotated[
        str | None, typer.Option("--blocks", help="Real models: adapt blocks `below` the hooked layer, or `all`.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Real models: a field of the recipe, lr=3e-4; repeatable.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train bases and organisms, measure them and write their cards; what is there already is kept."""
    with handled(debug):
        real = real_base(base or [], names or [])
        options = {"device": device, "dtype": dtype, "blocks": blocks, "set": settings}
        if real is not None:
            embedded = {"family": family, "all": everything, "jobs": jobs > 1}
            build_real(names or [], real, zoo, dry_run, resume, overwrite, options, embedded)
            return
        if given := [f"--{k}" for k, v in {**options, "dry-run": dry_run, "no-resume": not resume}.items() if v]:
            raise UsageError(
                f"{given[0]} is for organisms on a real model; name one with --base, e.g. --base smollm2-135m"
            )
        from ..zoo.build import build
        from ..zoo.user_pair import build_user_pair

        def tell(line: str) -> None:
            say(line, err=True)

        own = [Path(n) for n in names or [] if n.endswith((".yaml", ".yml"))]
        rest = [n for n in names or [] if not n.endswith((".yaml", ".yml"))]
        with silenced(False):
            for path in own:
                card = build_user_pair(path, tell)
                say(f"{card.name}: {card.status}{': ' + '; '.join(card.failures) if card.failures else ''}")
            if rest or not own:
                build(rest, zoo, tell, base or [], family or [], everything, jobs, overwrite)


def real_base(bases: list[str], names: list[str]) -> str | None:
    """The real model that organisms are to be trained on; None: embedded bases are meant."""
    from ...organisms.world.bases import BASES

    if all(b in BASES for b in bases):
        return None
    from ..zoo.natural_plan import is_real

    real = [b for b in bases if is_real(b)]
    if not names:
        raise UsageError(
            f"{real[0]} is a real model; name the organisms to train on it, e.g. taboo/moon --base {real[0]}"
        )
    if len(bases) > 1:
        raise UsageError(f"{real[0]} is a real model: organisms are trained on one at a time; give one --base")
    return real[0]


def build_real(
    names: list[str],
    base: str,
    zoo: Path | None,
    dry_run: bool,
    resume: bool,
    overwrite: bool,
    options: dict[str, Any],
    embedded: Mapping[str, object],
) -> None:
    """Build organisms on a real model, or say what that would take."""
    if given := [k for k, v in embedded.items() if v]:
        raise UsageError(f"--{given[0]} is for the embedded bases; name organisms of {base}, e.g. taboo/moon")
    if options["blocks"] not in (None, "below", "all"):
        raise UsageError(f"--blocks {options['blocks']}: use below or all")
    from ...organisms.registry import ZOO
    from ..zoo.natural import build_natural, plan_lines
    from ..zoo.natural_plan import Asked

    changes = tuple(setting(text) for text in options["set"] or [])
    device, dtype = options["device"] or "cpu", options["dtype"]
    for name in names:
        asked = Asked(name, base, zoo or ZOO, device, dtype, options["blocks"], changes)
        with silenced(False):
            if dry_run:
                for line in plan_lines(asked):
                    say(line)
                continue
            card, built = build_natural(asked, lambda line: say(line, err=True), overwrite, resume)
        b = card.measured["behaviour_test"]
        why = f": {'; '.join(card.failures)}" if card.failures else ""
        rates = f"b0 {b.base.value:.3f} → b1 {b.organism.value:.3f}, KL {card.neutral['kl']:.3f}"
        say(f"{card.name} {'built' if built else 'is there'}: {rates}, {card.status}{why} ({card.seconds:.0f} s)")


def setting(text: str) -> tuple[str, Any]:
    """`lr=3e-4` → the field and its value; UsageError for anything else."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UsageError(f"--set {text!r} is not of the form field=value, e.g. --set lr=3e-4")
    if (other := {"blocks": "--blocks all", "seed": "a name that ends in -s1"}.get(name.strip())) is not None:
        raise UsageError(f"--set {text!r}: that is part of an organism's name; give {other}")
    return name.strip(), None if value.strip() == "none" else value.strip()


@app.command("verify")
def organisms_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Organisms, family files, YAML cards, or a set.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every organism that is not marked as failed.")] = False,
    zoo: ZooOption = None,
    jobs: Jobs = 1,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Hash every file and measure every gate again; exit 4 if a gate fails or a value is not the card's. --device is for real models."""
    with handled(debug):
        from ..views import render
        from ..zoo.verify import verify_named

        with silenced(False):
            checked = verify_named(names or [], everything, zoo, jobs, device or "cpu")
        if as_json:
            found = [
                {"name": c.name, "card": c.card and c.card.model_dump(mode="json"), "problems": c.problems}
                for c in checked
            ]
            say(json.dumps(found, indent=1))
        elif cards := [c.card for c in checked if c.card]:
            show(render.gates(cards))
        bad = [f"{c.name}: {'; '.join(c.problems)}" for c in checked if c.problems]
        if bad:
            raise ValidationFailed(
                "\n".join([f"{len(bad)} of {len(checked)} organisms are not what they should be", *bad])
            )
        say(f"{len(checked)} organisms verified", err=True)


@app.command("report")
def organisms_report(
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables and figures.")] = Path("organisms-report"),
    zoo: ZooOption = None,
    debug: Debug = False,
) -> None:
    """Tables and one figure per family of everything measured of the zoo, from its cards alone."""
    with handled(debug):
        from ..zoo.report import write

        for path in write(out, zoo):
            say(str(path))


@app.command("new")
def organisms_new(
    name: Annotated[str, typer.Argument(help="Name of the family: lower-case letters, digits, underscores.")],
    debug: Debug = False,
) -> None:
    """Write NAME.py, a family file that works as it stands, to start from."""
    with handled(debug):
        from ...organisms.scaffold import write_family

        path = write_family(name, Path())
        say(f"wrote {path}; next: bench organisms build {path}")
