"""Whether two names mean one model: ids of the hub, folders of its cache, and bases that packages carry.

Names are compared by their last part, so that a mirror of a model counts as the model. A path of somebody's disk says nothing.
"""

import contextlib
import json
import re
from pathlib import Path

from .pretrained import CARD
from .sources import HUB

ID = re.compile(r"(?:[\w.-]+/)?\w[\w.-]*")
CACHED = re.compile(r"models--([\w.-]+?)(?:--([\w.-]+))?(?=/|$)")
"""A folder of the hub's cache: `…/models--org--repo/snapshots/…`."""


def other_base(declared: str | None, given: str, folder: Path) -> str | None:
    """The base an adapter declares, if that is clearly not the given one; None where they agree or cannot be compared.

    Args:
        declared: `base_model_name_or_path` of the adapter.
        given: what the user wrote for the base.
        folder: of the base, whose files may name it.
    """
    wanted, names = hub_id(declared or ""), base_names(given, folder)
    if wanted is None or not names or wanted == fetched(folder)[0]:
        return None
    return None if _last(wanted) in set(map(_last, names)) else wanted


def base_names(given: str, folder: Path) -> list[str]:
    """Ids that a base goes by: what the user wrote, with its subfolder, and what its own files say.

    The name of a fetched base is none: `smollm2-135m` was made from SmolLM2-135M-Instruct, and SmolLM2-135M is another model.
    """
    name, made_from = fetched(folder)
    names = [hub_id(given) if given != name else None, made_from]
    if (match := HUB.fullmatch(given)) and match["sub"] and not Path(given).exists() and given[0] not in "./~":
        names += [match["repo"], match["sub"]]
    names.append(hub_id(str(_read(folder / "config.json").get("_name_or_path") or "")))
    return [one for one in names if one]


def fetched(folder: Path) -> tuple[str, str]:
    """(name, id of the model it was made from) of a base that `bench bases fetch` wrote; empty for any other."""
    card = _read(folder / CARD)
    return str(card.get("name") or ""), str(card.get("made_from") or "")


def hub_id(name: str) -> str | None:
    """The id `org/repo` or `repo` that a name means; None for a path."""
    if cached := CACHED.search(name):
        return "/".join(filter(None, cached.groups()))
    bare = name.partition("@")[0]
    return bare if ID.fullmatch(bare) and bare[0] != "." and not Path(bare).exists() else None


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _read(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(found, dict):
            return found  # pyright: ignore[reportUnknownVariableType]
    return {}
