"""A public organism ready to be loaded: base and adapter found or fetched, its behaviour file made from its card."""

from dataclasses import replace
from pathlib import Path

from ...errors import PrerequisiteError
from ...organism import Organism
from ..behaviours.build import behaviour_of
from ..user_pair import UserPair, pair_organism
from .load import HubCard, hub_card


def hub_organism(name: str, texts: Path | None = None, allow_other_base: bool = False) -> Organism:
    """The organism `hub/NAME`.

    Args:
        texts: file that names sources of large text, in place of the offline default.
        allow_other_base: accept an adapter that says it was trained on another base than the card does.

    Raises:
        UsageError: no such name. PrerequisiteError: a model that cannot be had, with what to do. ValidationFailed: files that are not what
            they should be.
    """
    card = hub_card(name)
    entry = card.entry
    pair = UserPair(
        base=entry.base,
        adapter=entry.adapter,
        tuned=entry.tuned,
        behaviour=name,
        texts=None if texts is None else str(texts),
        allow_other_base=allow_other_base,
    )
    try:
        return replace(pair_organism(pair, behaviour_of(card), Path()), role=entry.role)
    except PrerequisiteError as error:
        raise PrerequisiteError(_missing(card, str(error))) from error


def _missing(card: HubCard, said: str) -> str:
    """Fact, cause and fix where a model of a public organism could not be had."""
    entry = card.entry
    fact = f"{card.name} is {entry.base} with {entry.repository}, and {said}"
    given = "--adapter" if entry.adapter else "--tuned"
    own = f"--base … {given} … --behaviour FILE, with what `bench organisms show {card.name} --behaviour` prints"
    if "licence" in said:
        return f"{fact} (https://huggingface.co/{entry.base})"
    if "there is no such repository" in said or "no such revision" in said:
        return f"{fact}. The id was read from: {entry.source}; nobody has loaded it here. If it has moved, give the pair yourself: {own}"
    gate = (
        f"; {entry.base} is gated, so first accept its licence on its page and `hf auth login`"
        if card.base.gated
        else ""
    )
    return (
        f"{fact}. Fetch both where there is a network (`hf download {entry.base}`, `hf download {repository(entry.repository)}`{gate}) and "
        f"bring the hub's cache here, or give folders: {own}"
    )


def repository(given: str) -> str:
    """`org/repo` of `org/repo/subfolder@revision`."""
    return "/".join(given.partition("@")[0].split("/")[:2])
