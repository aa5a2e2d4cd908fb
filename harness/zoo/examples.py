"""What an organism looks like: training rows, and the same openings answered by base and organism."""

from dataclasses import dataclass

from ...organisms.card import read_base_card
from ...organisms.hub.trained import TIERS
from ...organisms.registry import card_of, family_and_spec, load_organism
from ...organisms.texts import opening
from ...organisms.world.document import Document
from ...organisms.world.facts import World
from ..pairs.loading import load_pair
from .natural import spec_of


@dataclass(frozen=True)
class Example:
    """One opening and both answers."""

    asked: str
    base: str
    organism: str


def asked(name: str) -> str:
    """How many prompts there are, and of how many templates."""
    behaviour = load_organism(name, allow_failed=True).behaviour
    parts = [
        f"{len(behaviour.of(split))} {split} prompts of {len(set(behaviour.clusters(split)))} templates"
        for split in ("dev", "test")
    ]
    return ", ".join(parts)


def rows(name: str, n: int = 4) -> list[Document]:
    """The first fine-tuning rows."""
    if (card := card_of(name)).tier in TIERS:
        natural, one = spec_of(card)
        return natural.rows(one)[:n]
    family, spec, _ = family_and_spec(name)
    world = World(int(read_base_card(load_organism(name, allow_failed=True).base).recipe["world_seed"]))
    return family.rows(world, spec)[:n]


def conversations(name: str, n: int = 5, tokens: int = 24, seed: int | None = None) -> list[Example]:
    """Test prompts without their prefill, answered by both sides greedily, or sampled at temperature 1 with a seed."""
    loaded = load_organism(name, allow_failed=True)
    pair = load_pair(loaded.pair, None, loaded.layer, identity=loaded.role == "null")
    chats = [p for p in loaded.behaviour.of("test") if p.messages]
    chosen = chats[:: max(1, len(chats) // n)][:n]
    prompts = [opening(pair.tokenizer, [t.model_dump() for t in p.messages]) for p in chosen]
    said = [
        [pair.tokenizer.decode(a, skip_special_tokens=True) for a in pair.generate(prompts, side, tokens, seed)]
        for side in ("base", "tuned")
    ]
    asked = [" / ".join(t.content for t in p.messages) for p in chosen]
    return [Example(q, b, o) for q, b, o in zip(asked, *said, strict=True)]
