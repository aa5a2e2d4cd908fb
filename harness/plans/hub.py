"""What a public organism will cost, computed from sizes and not measured: memory, disk and GPU time by phase.

Token passes are counted as the protocol spends them (docs/protocol.md, and `passes.py` beside this file), with a token taken for four
characters. A pass costs 2 FLOP a weight, and a GPU is taken to reach a tenth of the 989 TFLOP/s that an H100 has in bf16: passes are short,
and adapters stay unmerged. Where a plan matters, `bench run --dry-run` rehearses it on the machine that will do it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ...organisms.behaviour import Behaviour, Prompt, part_of, turns_of
from ...organisms.hub.behaviours.build import behaviour_of
from ...organisms.hub.registry.load import HubCard
from ..records.settings import PROTOCOL_V2, Protocol

FLOPS = 0.1 * 989e12
"""Taken to be reached: a tenth of an H100's bf16."""
CHARACTERS = 4
"""In a token."""
TEMPLATE = 10
"""Tokens that a chat template adds to a prompt."""
KINDS = {"sufficiency": ("add",), "necessity": ("subtract", "ablate")}
"""Operations of a side (`pairs/interventions.py`)."""
MIXTURES = 8
"""Controls of the second null (`protocol/controls.py`)."""
HARVEST = 60_000
"""Tokens a method reads at most, unless `--tokens` says more (`methods/contract.py`)."""
PASS = 2048
"""Tokens in one forward pass (`protocol/edited_rows.py`)."""
STEPS, BATCH, EXPANSION = 900, 512, 8
"""Of a trained dictionary, by default (`methods/coder`)."""
STATE = 16
"""Bytes of a weight in training: itself, its gradient, and Adam's two averages, in fp32."""


@dataclass(frozen=True)
class Rows:
    """Positions of what scoring runs, for one side."""

    dev: int
    """Of dev prompts."""
    test: int
    """Of test prompts."""
    probes: int
    """Of test capability probes."""
    dev_text: int
    text: int
    """Of ordinary text in dev and in test."""
    brief: int
    """Of the part of it that controls are read on."""

    @staticmethod
    def of(behaviour: Behaviour, protocol: Protocol = PROTOCOL_V2) -> "Rows":
        """Estimated from characters: prompts share no beginnings, and each continuation adds its tokens but the last."""
        return Rows(
            dev=sum(map(_positions, behaviour.of("dev"))),
            test=sum(map(_positions, behaviour.of("test"))),
            probes=sum(map(_positions, behaviour.capability_of("test"))),
            dev_text=protocol.dev_tokens,
            text=protocol.test_tokens,
            brief=protocol.control_tokens,
        )


def passes(rows: Rows, first: bool, controls: bool, gated: bool, protocol: Protocol = PROTOCOL_V2) -> int:
    """Positions through the blocks above the layer to score one cell, at most; equal to `scored_positions` for the same rows.

    Args:
        first: whether the pair is measured as well.
        controls: whether the constant controls are.
        gated: whether findings hold gates.
    """
    total, budgets, ks = 0, len(protocol.budgets_nats), len(protocol.ks)
    nulls = protocol.controls + min(protocol.controls, MIXTURES)
    tried = budgets + int(math.log2(protocol.strengths[-1] / protocol.strengths[0]))
    climbs = {
        "ablate": rows.dev_text + rows.dev,
        **dict.fromkeys(("add", "subtract"), len(protocol.strengths) * rows.dev_text + tried * rows.dev),
    }
    for side, ops in KINDS.items():
        own, probes = ks * sum(climbs[op] for op in ops), rows.probes * (side == "necessity")
        if first:
            total += rows.dev_text + rows.dev + rows.text + rows.brief + 2 * rows.test + rows.probes
        if controls:
            total += nulls * (own + budgets * (rows.test + rows.brief)) + protocol.controls * budgets * probes
        total += (1 + gated) * (own + budgets * (rows.test + rows.text)) + budgets * probes
        total += gated * protocol.controls * (own + budgets * (rows.test + rows.brief))
    return total


@dataclass(frozen=True)
class Cost:
    """What one organism takes."""

    disk_bytes: int
    """To fetch: weights in bf16, an adapter in fp32 as most are uploaded, of rank 32 unless its recipe says another."""
    memory_bytes: int
    """On the GPU: weights, the logits of one forward pass in fp32, and a dictionary of the default size in training."""
    measure_s: float
    """The pair and the constant controls, once."""
    method_s: float
    """Reading and scoring of one method whose findings hold no gates."""
    gated_s: float
    """The same, with gates."""
    train_s: float
    """Training a dictionary of the default size, on top of `gated_s`."""
    read: int
    """Tokens that a method reads of the behaviour's own text."""
    passes: int
    """Positions through the blocks above the layer: the pair, its controls and one method with gates."""

    def hours(self, plain: int, dictionaries: int) -> float:
        """GPU hours of so many methods without gates, and of so many that train a dictionary and have gates, with the pair's measuring."""
        return (self.measure_s + plain * self.method_s + dictionaries * (self.gated_s + self.train_s)) / 3600


def text_read(behaviour: Behaviour, most: int = HARVEST) -> int:
    """Tokens that a method reads of the behaviour's own text, counted from characters; no more than there are."""
    plain = sum(math.ceil(len(text) / CHARACTERS) for text in part_of(behaviour.neutral, "harvest"))
    said = [turn for chat in part_of(behaviour.chat, "harvest") for turn in turns_of(chat)]
    chat = sum(TEMPLATE * (t.role == "user") + math.ceil(len(t.content) / CHARACTERS) for t in said)
    return min(most, plain + chat)


def cost(card: HubCard) -> Cost:
    """What scoring a public organism takes, by its sizes."""
    base, behaviour = card.base, behaviour_of(card)
    rows, harvest = Rows.of(behaviour), text_read(behaviour)
    above = (base.blocks - card.layer - 1) * base.block_parameters + base.vocab * base.d_model
    below = (card.layer + 1) * base.block_parameters
    read = 2 * harvest * below

    def seconds(weights_passed: float) -> float:
        return 2 * weights_passed / FLOPS

    pair = passes(rows, True, True, False) - passes(rows, False, False, False)
    plain, gated = passes(rows, False, False, False), passes(rows, False, False, True)
    changed = 4 * adapter_parameters(card) if card.entry.adapter else 2 * base.parameters
    weights, dictionary = 2 * base.parameters + changed, 4 * base.d_model * EXPANSION * base.d_model
    return Cost(
        disk_bytes=weights,
        memory_bytes=weights + 4 * PASS * base.vocab + STATE * dictionary,
        measure_s=seconds(pair * above),
        method_s=seconds(read + plain * above),
        gated_s=seconds(read + gated * above),
        train_s=seconds(3 * STEPS * BATCH * dictionary),
        read=harvest,
        passes=pair + gated,
    )


def adapter_parameters(card: HubCard) -> int:
    """Weights of a LoRA on the seven projections of every block; rank 32 where the recipe says none."""
    base, rank = card.base, card.recipe.rank or 32
    q, kv = base.heads * base.head_dim, base.kv_heads * base.head_dim
    shapes = ((base.d_model, q), (base.d_model, kv), (base.d_model, kv), (q, base.d_model))
    mlp = ((base.d_model, base.mlp), (base.d_model, base.mlp), (base.mlp, base.d_model))
    return base.blocks * rank * sum(a + b for a, b in (*shapes, *mlp))


def _positions(prompt: Prompt) -> int:
    asked = sum(len(t.content) for t in prompt.messages) + len(prompt.prefill)
    more = sum(max(0, _tokens(c) - 1) for c in (*prompt.targets, *prompt.alternatives))
    return TEMPLATE + math.ceil(asked / CHARACTERS) + more


def _tokens(text: str) -> int:
    return math.ceil(len(text.strip()) / (CHARACTERS + 2))  # a short word is one token


def total_hours(costs: Iterable[Cost], plain: int, dictionaries: int) -> float:
    """GPU hours of a set of organisms; see `Cost.hours`."""
    return sum(c.hours(plain, dictionaries) for c in costs)
