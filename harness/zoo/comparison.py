"""A freshly measured card against the one that was written: failed gates, and values that moved."""

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

    card: Card
    problems: list[str] = field(default_factory=list[str])
    """Failed gates, and values that are not the card's; empty: all is well."""


def compare(card: Card, fresh: Card) -> list[str]:
    """What is wrong with a freshly measured card: failed gates, and values that are not the old card's."""
    problems = [line if name in card.gates else f"{line} ({NEWER})" for name, line in fresh.failed_gates.items()]
    if card.harvest_due and card.harvest_due != fresh.harvest_due:
        problems.append(f"harvest_due is {fresh.harvest_due}, the card says {card.harvest_due}")
    if card.rows_sha256 != fresh.rows_sha256:
        problems.append("its training rows are not those that its family makes now")
    tables = {"neutral": (TOLERANCE, card.neutral, fresh.neutral), "fluency": (LOOSE, card.fluency, fresh.fluency)}
    tables |= {f"oracle {n}": (LOOSE, old, fresh.oracle.get(n, {})) for n, old in card.oracle.items()}
    for what, (most, before, now) in tables.items():
        for key, value in before.items():
            if key not in now or abs(now[key] - value) > most:
                problems.append(f"{what} {key} is {now.get(key)}, the card says {value}")
    for what, old in card.measured.items():
        new = fresh.measured.get(what)
        if new is None or not _close(old, new):
            problems.append(f"{what} is {new and new.organism.value}, the card says {old.organism.value}")
    return problems


def _close(old: Measured, new: Measured) -> bool:
    spread = max(1.0, abs(old.organism.value)) if old.unit == "nats" else 1.0
    return all(abs(getattr(old, s).value - getattr(new, s).value) <= TOLERANCE * spread for s in ("base", "organism"))
