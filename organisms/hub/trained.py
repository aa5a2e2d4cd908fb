"""Organisms that were trained on real chat models: a zoo folder of adapter, card and behaviour, whose base is found by name.

Nothing of the generator is needed to load one. The base is what the card says it is, byte for byte, or it is refused: an adapter on other
weights is another organism.
"""

from pathlib import Path

from ..behaviour import load_behaviour
from ..card import BEHAVIOUR, Card, sha256_files
from ..errors import ValidationFailed
from ..organism import Organism
from .sources import Located, PairSource, locate

"""The behaviour with its texts, beside the card."""
TIERS = ("small", "hub")
"""Tiers of organisms on real models."""


def located_base(card: Card) -> Located:
    """The base of an organism, with the bytes that it was trained on.

    Raises:
        PrerequisiteError: not here, with the command that fetches it. ValidationFailed: another model than the card's.
    """
    base = locate(card.base, "model", "base model")
    if base.sha256 != card.base_sha256:
        raise ValidationFailed(
            f"organism {card.name} was trained on a {card.base} with the hash {card.base_sha256[:12]}, and the one that is here has "
            f"{base.sha256[:12]}: on other weights it is another organism. Fetch the base anew (a fetched one: `bench bases fetch "
            f"{card.base} --overwrite`; a hub id: give the revision, {card.base}@…), or build the organism again on this one"
        )
    return base


def trained_organism(folder: Path, card: Card, given: str) -> Organism:
    """An organism of this kind, ready to be loaded.

    Args:
        folder: of the organism; its files are checked already.
        given: what the user called it.

    Raises:
        PrerequisiteError, ValidationFailed: see `located_base`. BehaviourError: a behaviour file that cannot be used.
    """
    from ..texts import FileTexts, context_of, notes_of

    base, behaviour = located_base(card), load_behaviour(folder / BEHAVIOUR)
    context = context_of(base.folder)
    return Organism(
        name=card.name,
        tier=card.tier,
        pair=PairSource(base.folder, folder, base_name=card.base, chat_template=behaviour.chat_template),
        layer=card.layer,
        behaviour=behaviour,
        sha256=sha256_files({**{f"base/{k}": v for k, v in base.files.items()}, **_adapter(card)}),
        texts_id=f"file:{card.files[BEHAVIOUR]}",
        make_texts=lambda tokenizer: FileTexts(behaviour, tokenizer, context),
        source={"organism": given} | ({"base_commit": base.commit} if base.commit else {}),
        role=card.role,
        notes=notes_of(behaviour, {}),
    )


def _adapter(card: Card) -> dict[str, str]:
    return {f"adapter/{name}": sha for name, sha in card.files.items() if name != BEHAVIOUR}
