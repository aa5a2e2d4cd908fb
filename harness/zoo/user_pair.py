"""A user's own pair as a YAML card: measured like the organisms of the zoo, its card beside the file."""

from collections.abc import Callable
from pathlib import Path

from ...organisms.card import OWN, Card, sha256_files, sha256_text
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.user_pair import yaml_organism
from ...organisms.organism import Organism
from ..files import atomic_write_text
from ..pairs.loading import load_pair
from .comparison import Checked, compare
from .measure import Measurable, measure


def card_path(path: Path) -> Path:
    """Where the card of `my.yaml` is: `my.card.json`."""
    return path.with_suffix(".card.json")


def build_user_pair(path: Path, tell: Callable[[str], None] = lambda line: None) -> Card:
    """Measure a user's pair and write its card beside the YAML file; nothing is trained.

    Args:
        tell: is told what its prompts and texts leave to be said.

    Raises:
        DiffbenchError: whatever is wrong with the file, the folders or the pair.
    """
    own = yaml_organism(path)
    for sentence in own.sentences:
        tell(sentence)
    card = _measured(path, own)
    atomic_write_text(card_path(path), card.model_dump_json(indent=1) + "\n")
    return card


def verify_user_pair(path: Path) -> Checked:
    """Hash and measure a user's pair again, and compare with its card."""
    where = card_path(path)
    if not where.is_file():
        raise PrerequisiteError(f"{path} has no card yet; run `bench organisms build {path}`")
    try:
        card = Card.model_validate_json(where.read_bytes())
    except ValueError as error:
        raise ValidationFailed(f"{where} is not a card: {error}; build it again") from error
    fresh = _measured(path, yaml_organism(path))
    problems = (
        [] if fresh.files == card.files else ["the base, the adapter or the behaviour is not the one of the card"]
    )
    return Checked(card.name, fresh, problems + compare(card, fresh))


def _measured(path: Path, own: Organism) -> Card:
    pair = load_pair(own.pair, layer=own.layer)
    behaviour = own.behaviour
    card = Card(
        name=own.name,
        family=OWN,
        member=path.stem,
        variant="own",
        tier=own.tier,
        base=own.source["base"],
        base_sha256=own.sha256,
        layer=pair.layer,
        description=behaviour.description,
        recipe={},
        rows_sha256="",
        files={"pair": own.sha256, "behaviour": sha256_files({"behaviour": sha256_text(behaviour.model_dump_json())})},
    )
    return measure(card, Measurable(behaviour, {}, {}, None, {}), pair, own.make_texts(pair.tokenizer))
