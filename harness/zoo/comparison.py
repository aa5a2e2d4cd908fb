"""A freshly measured card against the one that was written: failed gates, and values that moved."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...organisms.card import Card, Measured

TOLERANCE = 0.01
"""How far a re-measured value may be from the card's: other machines add up in another order."""
LOOSE = 0.05
"""The same of the oracle's shares, which divide by the gap, and of sampled answers, which part at the first token that differs."""

NEWER = "its card was written before there was this gate: build it again"


@dataclass
class Checked:
    """What `verify` found of one organism."""

    name: str
    card: Card | None
    """As measured now; None: a damaged organism, which is not measured."""
    problems: list[str] = field(default_factory=list[str])
    """Failed gates, and values that are not the card's; empty: all is well."""


def compare(card: Card, fresh: Card) -> list[str]:
    """What is wrong with a freshly measured card: failed gates, and values that are not the old card's."""
    problems = [line if name in card.gates else f"{line} ({NEWER})" for name, line in fresh.failed_gates.items()]
    if card.harvest_due and card.harvest_due != fresh.harvest_due:
        problems.append(f"harvest_due is {fresh.harvest_due}, the card says {card.harvest_due}")
    if card.rows_sha256 != fresh.rows_sha256:
        problems.append("its training rows are not those that its family makes now")
    if card.status != fresh.status and "failed" not in (card.status, fresh.status):
        problems.append(f"it is {fresh.status}, the card says {card.status}")
    tables = {"neutral": (TOLERANCE, card.neutral, fresh.neutral), "fluency": (LOOSE, card.fluency, fresh.fluency)}
    tables |= {f"oracle {n}": (LOOSE, old, fresh.oracle.get(n, {})) for n, old in card.oracle.items()}
    if old := card.readout:
        now = fresh.readout
        tables |= {f"readout of the {s}": (LOOSE, getattr(old, s), getattr(now, s, {})) for s in ("base", "organism")}
        if now is None or old.truth != now.truth:
            problems.append(f"the truth of its readout is {now and now.truth}, the card says {old.truth}")
    values, fresh_values = ({k: g.value for k, g in c.gates.items()} for c in (card, fresh))
    for gate, value in values.items():
        tables[f"gate {gate}"] = (
            LOOSE * max(1.0, abs(value)),
            {"value": value},
            {"value": fresh_values.get(gate, value)},
        )
    for what, (most, before, after) in tables.items():
        for key, value in before.items():
            if key not in after or abs(after[key] - value) > most:
                problems.append(f"{what} {key} is {after.get(key)}, the card says {value}")
    for what, measured in card.measured.items():
        problems += _moved(what, measured, fresh.measured.get(what))
    return problems


def _moved(what: str, old: Measured, new: Measured | None) -> Iterator[str]:
    """A quantity that is not there any more, or the first of its values that is another."""
    if new is None:
        yield f"{what} is not measured any more"
        return
    if (old.unit, old.n) != (new.unit, new.n):
        yield f"{what} is {new.unit} of {new.n}, the card says {old.unit} of {old.n}"
        return
    spread = max(1.0, abs(old.organism.value)) if old.unit == "nats" else 1.0
    for side in ("organism", "base", "change"):
        for end, most in (("value", TOLERANCE), ("low", LOOSE), ("high", LOOSE)):
            before, after = (getattr(getattr(m, side), end) for m in (old, new))
            if abs(after - before) > most * spread:
                place = "" if end == "value" else f", {end} end of its interval"
                yield f"{what} ({side}{place}) is {after}, the card says {before}"
                return
