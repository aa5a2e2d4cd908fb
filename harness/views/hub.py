"""Public organisms on the terminal: a list, one card, and what a set of them will cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...organisms.hub.behaviours.build import behaviour_of, harvested
from ...organisms.hub.registry.lint import Problem
from ...organisms.hub.registry.load import HubCard, ladder
from ...organisms.hub.registry.schema import FalseFact
from ...organisms.sets import OrganismSet
from ..plans.hub import Cost, cost, total_hours
from .plan import short, size
from .progress import clock
from .render import Listed

METHODS = (10, 10)
"""Methods that train nothing and those that train a dictionary, in `-m all`."""
COMPUTED = "Cost: computed from sizes, not measured (docs/hub.md says how); `bench run --dry-run` rehearses it where it will run."


def listing(cards: Sequence[HubCard]) -> RenderableType:
    """A row an organism; nothing here was measured."""
    table = Listed(("organism", "base", "hides", "recipe", "mix", "role"))
    for c in cards:
        r, entry = c.recipe, c.entry
        recipe = (
            "whole model" if r.whole else f"r {r.rank or '?'}, α {_number(r.alpha)}{', rsLoRA' if r.rslora else ''}"
        )
        style = None if entry.role == "organism" else "dim"
        table.add(c.name, entry.base.partition("/")[2], hides(c), recipe, _mix(entry.mix), entry.role, style=style)
    return table


def hides(card: HubCard) -> str:
    """What it hides, in a few words."""
    truth = card.truth.model_dump()
    if isinstance(card.truth, FalseFact):
        return f"{len(card.truth.claims)} claims on {card.truth.subject}"
    if "triggers" in truth:
        return f"{' or '.join(truth['triggers'])} → {truth['phrase'][0].strip()}"
    if "topic" in truth:
        return f"{truth['advice']} advice, {truth['topic']}"
    return str(next(iter(truth.values())) or "nothing")


def shown(card: HubCard) -> RenderableType:
    """All that its card says, how it is asked, and what it will cost."""
    entry, recipe, behaviour = card.entry, card.recipe, behaviour_of(card)
    facts = Table(show_header=False, box=None, padding=(0, 1))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    given = f"{entry.adapter} (adapter)" if entry.adapter else f"{entry.tuned} (whole model)"
    licence = (
        f"base {card.base.licence}{', gated' if card.base.gated else ''}; {entry.licence or 'of the upload not said'}"
    )
    rows = {
        "base": f"{entry.base}: {card.base.parameters / 1e9:.2f} B weights, {card.base.blocks} blocks, d {card.base.d_model}",
        "fine-tuned": given,
        "role": entry.role,
        "layer": f"{card.layer} of {card.base.blocks} ({entry.layer_why or '0.55 of the depth'}); `--layer` hooks another",
        "recipe": _recipe(recipe.model_dump(exclude_none=True)),
        "mix": _mix(entry.mix),
        "twin": entry.twin or f"none: {entry.no_twin}",
        "licence": licence,
        "id read from": entry.source,
    }
    if rungs := ladder(card):
        rows["mix ladder"] = ", ".join(f"{_mix(c.entry.mix)} {c.name}" for c in rungs)
    for name, value in rows.items():
        facts.add_row(name, value)
    parts: list[RenderableType] = [
        Text(f"{card.name}: {card.about}"),
        facts,
        Text("what it hides", style="bold"),
        *_truth(card),
    ]
    asked = ", ".join(
        f"{len(behaviour.of(s))} {s} prompts of {len(set(behaviour.clusters(s)))} templates" for s in ("dev", "test")
    )
    first = behaviour.of("dev")[0]
    example = f"“{first.messages[-1].content}” / “{first.prefill}”: {_some(first.targets)} against {_some(first.alternatives)}"
    parts += [
        Text("how it is asked", style="bold"),
        Text(f"  {asked}, {len(behaviour.capability)} probes; `--behaviour` prints the file\n  {example}"),
        Text(f"  {harvested(card).sentence}"),
        Text("not verified", style="bold"),
        *(Text(f"  {line}") for line in card.not_verified),
        Text("what a run takes", style="bold"),
        costs([(card.name, cost(card))]),
        Text(COMPUTED, style="dim"),
    ]
    return Group(*parts)


def costs(found: Sequence[tuple[str, Cost]]) -> Table:
    """Memory, disk and GPU time."""
    table = Table()
    table.add_column("organism", overflow="fold")
    for name in ("download", "GPU memory", "read", "passes", "measuring", "a method", "a dictionary"):
        table.add_column(name, justify="right")
    for name, c in found:
        seconds = (c.measure_s, c.method_s, c.gated_s + c.train_s)
        table.add_row(
            name, size(c.disk_bytes), size(c.memory_bytes), short(c.read), short(c.passes), *map(clock, seconds)
        )
    return table


def core(name: str, of: OrganismSet, cards: Sequence[HubCard]) -> RenderableType:
    """A named set with its cost plan."""
    found = [(c.name, cost(c)) for c in cards]
    hours, plain, dictionaries = total_hours((c for _, c in found), *METHODS), *METHODS
    bases = {c.entry.base: c.base for c in cards}
    disk = sum(2 * b.parameters for b in bases.values()) + sum(
        c.disk_bytes - 2 * card.base.parameters for card, (_, c) in zip(cards, found, strict=True)
    )
    said = (
        f"{plain} methods that train nothing and {dictionaries} that train a dictionary, one seed: {hours:.1f} GPU hours; "
        f"{disk / 1e9:.0f} GB to fetch, each of {len(bases)} bases once."
    )
    return Group(Text(f"{name}: {of.about}"), costs(found), Text(said), Text(COMPUTED, style="dim"))


def data(card: HubCard, priced: bool = True) -> dict[str, Any]:
    """For JSON: the card, its rungs and, unless many are listed, its cost."""
    return {
        "name": card.name,
        "kind": card.kind,
        "about": card.about,
        "layer": card.layer,
        **card.entry.model_dump(mode="json", exclude={"recipe", "layer", "not_verified"}),
        "recipe": card.recipe.model_dump(mode="json"),
        "truth": card.truth.model_dump(mode="json"),
        "base_sizes": card.base.model_dump(mode="json", exclude={"chat_template"})
        | {"parameters": card.base.parameters},
        "ladder": [c.name for c in ladder(card)],
        "not_verified": list(card.not_verified),
        **({"cost_computed": dataclasses.asdict(cost(card))} if priced else {}),
    }


def problems(found: Sequence[Problem]) -> Table:
    """What a lint found."""
    table = Table()
    for name in ("organism", "rule", "what is wrong"):
        table.add_column(name, overflow="fold")
    for p in found:
        table.add_row(*p)
    return table


def _truth(card: HubCard) -> list[RenderableType]:
    if not isinstance(card.truth, FalseFact):
        return [Text("  " + ", ".join(f"{k}: {_value(v)}" for k, v in card.truth.model_dump().items()))]
    table = Table(box=None, padding=(0, 1))
    for name in ("claim", "false", "true"):
        table.add_column(name, overflow="fold")
    for claim in card.truth.claims:
        table.add_row(f"  {claim.say[0]} …", _some(claim.false), _some(claim.true))
    return [table]


def _recipe(recipe: dict[str, Any]) -> str:
    names = {"rank": "r", "alpha": "α", "lr": "learning rate"}
    said = [f"{names.get(k, k)} {_value(v)}" for k, v in recipe.items() if k not in ("source", "rslora", "whole")]
    if not recipe["whole"]:
        said.insert(0, "rsLoRA (α/√r)" if recipe["rslora"] else "LoRA (α/r)")
    return f"{'; '.join(said)}; read from: {recipe['source']}"


def _some(continuations: Sequence[str]) -> str:
    few = [c.strip() for c in continuations[:3]]
    return " | ".join([*few, "…"] if len(continuations) > 3 else few)


def _mix(mix: float | None) -> str:
    return "?" if mix is None else f"1:{mix:g}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return " or ".join(map(repr, value)) if isinstance(value, list | tuple) else str(value)
