"""A behaviour file on the terminal: the templates that were recognised, and what is weak."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...organisms.behaviour import Behaviour
from ...organisms.hub.templates import template_of
from ...organisms.tables.build import Made
from ...organisms.tables.lint import Weakness

STYLES = {"refused": "red", "weak": "yellow", "note": "dim"}


def templates(behaviour: Behaviour) -> list[dict[str, Any]]:
    """Split, template, prompts and targets of each template, in the order of the file, dev first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for p in sorted(behaviour.prompts, key=lambda p: p.split):
        row = found.setdefault(
            (p.split, template_of(p)),
            {"split": p.split, "template": template_of(p), "prompts": 0, "targets": list[str]()},
        )
        row["prompts"] += 1
        row["targets"] += [t for t in p.targets if t not in row["targets"]]
    return list(found.values())


def made(found: Made, weak: Sequence[Weakness]) -> RenderableType:
    """What a table became: a row a template, what was done, and what is weak."""
    b, rows = found.behaviour, templates(found.behaviour)
    t = Table(
        title=f"{b.name}: templates as recognised", title_style="dim", title_justify="left", box=None, padding=(0, 1)
    )
    for name in ("split", "prompts"):
        t.add_column(name, no_wrap=True, justify="right" if name == "prompts" else "left")
    t.add_column("template", overflow="fold", ratio=2)
    t.add_column("targets", overflow="fold", ratio=1)
    for row in rows:
        t.add_row(row["split"], str(row["prompts"]), row["template"], ", ".join(x.strip() for x in row["targets"]))
    counts = [f"{len(b.of(s))} {s} prompts of {sum(r['split'] == s for r in rows)} templates" for s in ("dev", "test")]
    counts.append(f"{len(b.capability)} capability probes")
    return Group(t, Text(", ".join(counts)), *map(Text, found.notes), Text(), weaknesses(weak))


def weaknesses(found: Sequence[Weakness]) -> RenderableType:
    """A line each, the worst first."""
    count = {level: sum(w.level == level for w in found) for level in STYLES}
    head = f"{count['refused']} that a run refuses, {count['weak']} weak, {count['note']} notes"
    t = Table(title=head, title_style="dim", title_justify="left", box=None, padding=(0, 1), show_header=False)
    t.add_column(no_wrap=True)
    t.add_column(no_wrap=True)
    t.add_column(overflow="fold", ratio=1)
    for w in found:
        t.add_row(Text(w.level, style=STYLES[w.level]), w.about, w.text)
    return t
