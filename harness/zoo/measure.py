"""What is true of an organism: every quantity of its card, with an interval where it is a mean over prompts.

Everything is judged by closed choice or by a property of words, on base and organism alike; intervals are bootstrap intervals over prompts
(scipy), so a gate is read with its uncertainty.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from ...organisms.behaviour import Behaviour, Prompt
from ...organisms.card import OWN, Card, Estimate, Gate, Measured, Readout
from ...organisms.family import FLUENCY, Candidates, Family, Probe, Rule, Spec, Spoken
from ...organisms.hub.corpora import Kind
from ...organisms.texts import KINDS, Texts, WorldTexts, encode, opening
from ...organisms.world.base_probes import GATES, base_probes
from ...organisms.world.document import Document
from ...organisms.world.facts import World
from ..pairs.engine import Side
from ..pairs.pair import Pair, padded
from ..protocol.prompts import Choices, Passage, choices, correct, kl, likeliest, log_masses, nll, passage, rates
from .fluency import fluency
from .gates import CALIBRATED, GAP, SIDE_DAMAGE, bounded, gates

Array = NDArray[np.float64]
SIDES: tuple[Side, Side] = ("base", "tuned")
NEUTRAL_TOKENS = 4000
DRAWS = 1000
HARVEST_TOKENS = 16_000
"""Tokens of each kind of harvest text that are looked through."""
MOST_LOGITS = 2**26
"""Logits of one side that are held at a time."""
SMALL_GAP = 0.1
"""Below this the oracle's share is not computed: it would divide by noise."""


class Measurable(NamedTuple):
    """What is to be measured of a pair."""

    behaviour: Behaviour
    probes: dict[str, Probe]
    spoken: dict[str, Spoken]
    candidates: Candidates | None
    gates: dict[str, Rule]
    gap: float = GAP
    """Smallest b1 - b0."""
    fluency: float = FLUENCY
    """Most nats a token by which sampled answers may surprise the base more than its own."""
    side_damage: float = SIDE_DAMAGE
    """Most nats a token between base and organism on neutral text."""

    @classmethod
    def of(cls, family: Family, world: World, spec: Spec) -> "Measurable":
        """Everything a family says of one of its organisms."""
        return cls(
            family.behaviour(world, spec),
            family.probes(world, spec),
            family.spoken(world, spec),
            family.candidates(world, spec),
            family.gates(spec),
            family.gap,
            family.fluency,
        )


def measure(
    card: Card,
    measurable: Measurable,
    pair: Pair,
    texts: Texts,
    harvest_due: Mapping[str, int] | None = None,
    layers: Sequence[int] | None = None,
) -> Card:
    """Fill a card's measured values, readout, oracle per layer, gates and status.

    Args:
        texts: ordinary text, without the organism's subject.
        harvest_due: what `due_in` counted; None: not counted.
        layers: of the oracle; None: all.
    """
    behaviour = measurable.behaviour
    sets = {
        "behaviour_dev": Probe(behaviour.of("dev")),
        "behaviour_test": Probe(behaviour.of("test")),
        **measurable.probes,
    }
    if facts := behaviour.capability_of("test"):
        sets["facts"] = Probe(facts, "correct")
    measured = {name: _paired(pair, probe) for name, probe in sets.items()} | _spoken(pair, measurable.spoken)
    oracle: dict[str, dict[str, float]] = {}
    if abs(measured["behaviour_test"].change.value) >= SMALL_GAP:
        oracle = _oracle(pair, behaviour.of("test"), layers or range(pair.n_layers))
    choices_, spoken = measurable.candidates, card.role == "organism" and card.family != OWN  # what has the gate
    found = card.model_copy(
        update={
            "measured": measured,
            "neutral": _rounded(neutral(pair, texts)),
            "fluency": _rounded(fluency(pair, texts.prompts())) if spoken else {},
            "harvest_due": dict(harvest_due or {}),
            "readout": _readout(pair, choices_) if choices_ and choices_.ask else None,
            "oracle": oracle,
        }
    )
    bounds = measurable.gap, measurable.fluency, measurable.side_damage
    held = gates(found, behaviour, measurable.gates, *bounds)
    target, dev = card.training.get("target"), measured["behaviour_dev"].organism.value
    status = "calibrated" if target is None or abs(dev - target) <= CALIBRATED else "uncalibrated"
    return found.model_copy(
        update={"gates": held, "status": status if all(g.passed for g in held.values()) else "failed"}
    )


def neutral(pair: Pair, texts: Texts, split: Literal["dev", "test"] = "test") -> dict[str, float]:
    """Nats a token of neutral text: its surprise for each side, and how far the sides are apart."""
    text = passage(pair, texts.rows("neutral", split), NEUTRAL_TOKENS)
    rows = max(1, MOST_LOGITS // (text.ids.shape[1] * pair.vocab_size))
    sums = dict.fromkeys(("nll_base", "nll_organism", "kl"), 0.0)
    for start in range(0, len(text.ids), rows):
        some = Passage(text.ids[start : start + rows], text.scored[start : start + rows])
        base, tuned = (pair.logits(some.ids, s).log_softmax(-1) for s in SIDES)
        each = nll(base[None], some), nll(tuned[None], some), kl(base, tuned[None], some)
        for name, value in zip(sums, each, strict=True):
            sums[name] += float(value[0]) * some.tokens
    return {name: total / text.tokens for name, total in sums.items()}


def due_in(family: Family, spec: Spec, world: World, tokenizer: object) -> dict[str, int]:
    """Tokens of the first `HARVEST_TOKENS` of each kind of harvest text on which the behaviour could show.

    Returns:
        `neutral`, `chat`, and `tokens`; empty where the family does not count them.
    """
    if type(family).due is Family.due:
        return {}
    texts = WorldTexts(world, tokenizer, family.subject(world, spec))
    counted = {kind: _count(texts, kind, lambda d: family.due(world, spec, d)) for kind in KINDS}
    return counted | {"tokens": HARVEST_TOKENS}


def _count(texts: WorldTexts, kind: Kind, due: Callable[[Document], int]) -> int:
    """Sum of `due` over whole documents, until they hold so many tokens."""
    read = found = 0
    for document in texts.documents(kind, "harvest"):
        found += due(document)
        read += len(encode(texts.tokenizer, document))
        if read >= HARVEST_TOKENS:
            break
    return found


def measure_base(
    model: torch.nn.Module, tokenizer: object, world: World
) -> tuple[dict[str, Estimate], dict[str, Gate]]:
    """Measured values and gates of a base."""
    plain = Plain(model, tokenizer)
    measured: dict[str, Estimate] = {}
    for name, probe in base_probes(world).items():
        c = choices(plain, probe.prompts)  # pyright: ignore[reportArgumentType]
        with torch.inference_mode():
            logits = model(input_ids=c.ids, use_cache=False, logits_to_keep=c.keep).logits.float()[None]
        measured[name] = _estimate(_values(logits, c, probe)[0])
    gates = {name: bounded(rule, measured[rule.value.partition(".")[0]]) for name, rule in GATES.items()}
    return measured, gates


class Plain:
    """The part of `Pair` that tokenising prompts needs, for a model without an adapter."""

    def __init__(self, model: torch.nn.Module, tokenizer: object):
        self.tokenizer, self.device = tokenizer, next(model.parameters()).device

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `padded`."""
        return padded(rows, self.tokenizer, self.device)


def dev_rate(model: object, tokenizer: object, layer: int, prompts: Sequence[Prompt]) -> float:
    """Mean behaviour rate of a live peft model."""
    pair = Pair(model, tokenizer, layer)
    c = choices(pair, prompts)
    return float(rates(pair.logits(c.ids, "tuned", c.keep)[None], c).mean())


def _values(logits: torch.Tensor, c: Choices, probe: Probe) -> Array:
    """[batch, prompts] in the probe's unit."""
    if probe.unit == "nats":
        return _log_odds(logits, c)
    return (correct if probe.unit == "correct" else rates)(logits, c).double().cpu().numpy()


def _log_odds(logits: torch.Tensor, c: Choices) -> Array:
    """log p(targets) minus the mean log p of the alternatives [batch, prompts]."""
    zero, log_mass = logits.new_zeros(len(logits), c.n), log_masses(logits, c)
    most = likeliest(log_mass, c, c.target)
    wanted = zero.index_add(1, c.prompt, (log_mass - most[:, c.prompt]).exp() * c.target).log() + most
    other = zero.index_add(1, c.prompt, log_mass * ~c.target)
    count = zero.index_add(1, c.prompt, (~c.target).float().expand(len(logits), -1))
    return (wanted - other / count).double().cpu().numpy()


def _paired(pair: Pair, probe: Probe) -> Measured:
    c = choices(pair, probe.prompts)
    base, tuned = (_values(pair.logits(c.ids, s, c.keep)[None], c, probe)[0] for s in SIDES)
    return _measured(base, tuned, probe.unit)


def _spoken(pair: Pair, wanted: dict[str, Spoken]) -> dict[str, Measured]:
    """Shares of free answers with a property; properties of the same answers share them."""
    answers: dict[tuple[object, ...], list[list[list[list[str]]]]] = {}
    out: dict[str, Measured] = {}
    for name, spoken in wanted.items():
        key = (*spoken.openings, spoken.samples, spoken.tokens)
        if key not in answers:
            answers[key] = [_answers(pair, spoken, side) for side in SIDES]
        base, tuned = (
            np.array([np.mean([spoken.holds(words) for words in each]) for each in side], dtype=float)
            for side in answers[key]
        )
        out[name] = _measured(base, tuned, "share")
    return out


def _answers(pair: Pair, spoken: Spoken, side: Side) -> list[list[list[str]]]:
    """Words of every answer to every opening."""
    repeat = max(1, spoken.samples)
    rows = [opening(pair.tokenizer, [{"role": "user", "content": o}]) for o in spoken.openings for _ in range(repeat)]
    said = pair.generate(rows, side, spoken.tokens, seed=0 if spoken.samples else None)
    words = [pair.tokenizer.decode(a, skip_special_tokens=True).split() for a in said]
    return [words[i : i + repeat] for i in range(0, len(words), repeat)]


def _readout(pair: Pair, candidates: Candidates) -> Readout:
    """Mean log-probability of each candidate's words where one of them is due."""
    sides: list[dict[str, float]] = []
    for side in SIDES:
        table: dict[str, float] = {}
        for label, words in candidates.words.items():
            prompts = [p.model_copy(update={"targets": words, "alternatives": ()}) for p in candidates.ask]
            c = choices(pair, prompts)
            table[label] = float(rates(pair.logits(c.ids, side, c.keep)[None], c).clamp_min(1e-30).log().mean())
        sides.append(_rounded(table))
    return Readout(truth=candidates.truth, base=sides[0], organism=sides[1])


def _oracle(pair: Pair, prompts: list[Prompt], layers: Sequence[int]) -> dict[str, dict[str, float]]:
    """By layer, the share of the gap recovered by exchanging the residual there, both ways."""
    c = choices(pair, prompts)
    b0, b1 = (float(rates(pair.logits(c.ids, s, c.keep)[None], c).mean()) for s in SIDES)
    found: dict[str, dict[str, float]] = {}
    for layer in layers:
        at = pair.at(layer)
        h0, h1 = at.residuals(c.ids, "base"), at.residuals(c.ids, "tuned")
        up = float(rates(at.resume(h1, c.ids, "base", c.keep)[None], c).mean())
        down = float(rates(at.resume(h0, c.ids, "tuned", c.keep)[None], c).mean())
        found[str(layer)] = _rounded({"sufficiency": (up - b0) / (b1 - b0), "necessity": (b1 - down) / (b1 - b0)})
    return found


def _measured(base: Array, tuned: Array, unit: str) -> Measured:
    parts = {"base": _estimate(base), "organism": _estimate(tuned), "change": _estimate(tuned - base)}
    return Measured(unit=unit, n=len(base), **parts)  # pyright: ignore[reportArgumentType]


def _estimate(values: Array) -> Estimate:
    """Mean with its 95 % percentile bootstrap interval over prompts."""
    mean = float(values.mean())
    low = high = mean
    if np.ptp(values) > 0:
        found = bootstrap((values,), np.mean, n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(0))
        low, high = (float(v) for v in found.confidence_interval)
    return Estimate(value=round(mean, 5), low=round(low, 5), high=round(high, 5))


def _rounded(table: dict[str, float]) -> dict[str, float]:
    return {k: round(v, 5) for k, v in table.items()}
