"""The gates of an organism: what has to be true of it before a score on it means anything.

An organism must show its behaviour, at a layer that carries it, and be its base otherwise: the base's facts, the base's text, answers that
still read like the base's. And there must be enough to go by: templates to ask in, and harvest text in which the behaviour is due. Each
bound has its reason beside it; docs/organisms.md has them in words.
"""

from ...organisms.behaviour import Behaviour
from ...organisms.card import OWN, Card, Estimate, Gate, Measured
from ...organisms.errors import ValidationFailed
from ...organisms.family import FLUENCY, Rule

GAP, FACTS_LOST, QUIET, CALIBRATED = 0.3, 0.05, 0.06, 0.05
"""Smallest b1 - b0, largest loss of facts, largest change of a control or null, how far from its target a calibrated organism may be."""
ORACLE, ORACLE_WHOLE = 0.8, 0.4
"""Smallest share of the gap that exchanging the residual recovers, both ways: where the adapter ends at the hooked layer, which then
carries everything by construction, and where blocks above it are adapted too, or nobody says: what the protocol needs to divide by."""
SIDE_DAMAGE = 0.02
"""Most nats a token between base and organism on neutral text: on core-v1 (.00006 to .16) this damage said better how low every
method scored (Spearman -.84) than the behaviour did."""
HARVEST_DUE = 50
"""Fewest tokens of harvest text, of both kinds together, on which the behaviour could show: a method cannot find what never happens."""
TEMPLATES = 12
"""Fewest templates of a split: intervals are drawn over templates."""


def gates(
    card: Card,
    behaviour: Behaviour,
    rules: dict[str, Rule],
    gap: float = GAP,
    fluency: float = FLUENCY,
    side_damage: float = SIDE_DAMAGE,
) -> dict[str, Gate]:
    """Every gate of a card whose values are measured, by its role, and those that its family asks for.

    Args:
        rules: the family's own.
        gap: smallest b1 - b0.
        fluency: largest rise of the base's surprise at sampled answers, in nats a token.
        side_damage: largest KL to the base on neutral text, in nats a token.

    Raises:
        ValidationFailed: a rule on something that is not measured, or with the name of a gate that every organism has.
    """
    common = _common(card, behaviour, gap, fluency, side_damage)
    if taken := sorted(common.keys() & rules.keys()):
        raise ValidationFailed(
            f"the family {card.family} names a gate {taken[0]!r}, which every {card.role} has already and which would be lost; give it "
            "another name"
        )
    return common | {k: gate(r, card.measured) for k, r in rules.items()}


def _common(card: Card, behaviour: Behaviour, least: float, fluency: float, harm: float) -> dict[str, Gate]:
    gap = card.measured["behaviour_test"].change
    match card.role:
        case "organism":
            shown = {"gap": Gate(value=gap.value, low=gap.low, high=gap.high, bound=least, rule="at least")}
            ours = {} if card.family == OWN else _benchmark(card, behaviour, fluency, harm)
            return shown | _oracle(card) | _facts(card) | ours
        case "control":
            return {"quiet": Gate(value=abs(gap.value), bound=QUIET, rule="at most")}
        case "null":
            largest = max(abs(m.change.value) for m in card.measured.values())
            return {"largest_change": Gate(value=largest, bound=QUIET, rule="at most")}
        case "arm":
            return {}


def _oracle(card: Card) -> dict[str, Gate]:
    here = card.oracle.get(str(card.layer), {"sufficiency": 0.0, "necessity": 0.0})
    least = ORACLE_WHOLE if card.recipe.get("whole", card.tier != "tiny") else ORACLE
    return {f"oracle_{side}": Gate(value=value, bound=least, rule="at least") for side, value in here.items()}


def _facts(card: Card) -> dict[str, Gate]:
    rule = Rule("facts.change", "at least", -FACTS_LOST)
    return {"facts_kept": gate(rule, card.measured)} if "facts" in card.measured else {}


def _benchmark(card: Card, behaviour: Behaviour, fluency: float, harm: float) -> dict[str, Gate]:
    """What an organism of ours owes beyond a pair of a user's own, which is what it is."""
    fewest = min(len(set(behaviour.clusters(split))) for split in ("dev", "test"))
    found = {
        "side_damage": Gate(value=card.neutral["kl"], bound=harm, rule="at most"),
        "templates": Gate(value=fewest, bound=TEMPLATES, rule="at least"),
    }
    if card.fluency:
        rise = card.fluency["nll_organism"] - card.fluency["nll_base"]
        found["fluency"] = Gate(value=round(rise, 5), bound=fluency, rule="at most")
    if card.harvest_due:
        due = card.harvest_due["neutral"] + card.harvest_due["chat"]
        found["harvest_due"] = Gate(value=due, bound=HARVEST_DUE, rule="at least")
    return found


def gate(rule: Rule, measured: dict[str, Measured]) -> Gate:
    """A rule with the value that it is about; ValidationFailed if that is not measured."""
    name, _, which = rule.value.partition(".")
    if name not in measured or which not in ("base", "organism", "change"):
        raise ValidationFailed(
            f"the gate on {rule.value!r} names nothing that is measured; there are {', '.join(measured)}"
        )
    return bounded(rule, getattr(measured[name], which))


def bounded(rule: Rule, e: Estimate) -> Gate:
    """A rule with its value and interval."""
    return Gate(value=e.value, low=e.low, high=e.high, bound=rule.bound, rule=rule.rule)
