"""Dictionaries in the formats of the field: one folder each, recognised by the name of its weights file.

Reading gives a `Dictionary` (coder in raw residual units + card); writing takes one. A format that cannot say exactly
what the dictionary computes refuses. Beside every format's own files stands our card, `dictionary.json`, bound to the
weights by their hash, so that groups, shared latents and metrics survive a round trip through a peer's format.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from safetensors.torch import save_file

from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed, unknown
from ..coder.dictionary import RawCoder, TopKCoder
from ..coder.sparse_coder import Inputs
from . import jkminder, native, saelens, single
from .card import CARD, CodeGroup, Dictionary, DictionaryCard
from .native import raw_coder
from .reading import read_tensors
from .shape import Layout, Peer, over_models

__all__ = [
    "CARD",
    "FORMATS",
    "CodeGroup",
    "Dictionary",
    "DictionaryCard",
    "detect",
    "raw_coder",
    "read_dictionary",
    "read_tensors",
    "write_dictionary",
]


class Format(NamedTuple):
    """One layout of files."""

    weights: str
    """Name of its weights file; no two formats share it."""
    read: Callable[[Path], Peer]
    layout: Callable[[Dictionary], Layout] | None
    """None: read only."""


FORMATS = {
    "native": Format(native.WEIGHTS, native.read, native.layout),
    "jkminder": Format(jkminder.WEIGHTS, jkminder.read, jkminder.layout),
    "saelens": Format(saelens.WEIGHTS, saelens.read, saelens.layout),
    "dictionary_learning": Format(single.DL_WEIGHTS, single.read_dictionary_learning, None),
    "sparsify": Format(single.SPARSIFY_WEIGHTS, single.read_sparsify, None),
}


def detect(folder: Path) -> str:
    """The format of a folder.

    Raises:
        PrerequisiteError: no such folder, or no dictionary in it.
        UsageError: several.
    """
    if not folder.is_dir():
        raise PrerequisiteError(f"there is no folder {folder}; give the folder that holds the dictionary's files")
    there = [name for name, form in FORMATS.items() if (folder / form.weights).is_file()]
    if not there:
        expected = ", ".join(f"{form.weights} ({name})" for name, form in FORMATS.items())
        raise PrerequisiteError(f"{folder} holds no dictionary; expected one of {expected}")
    if len(there) > 1:
        raise UsageError(f"{folder} holds several dictionaries ({', '.join(there)}); say which with --from")
    return there[0]


def read_dictionary(
    folder: Path, name: str | None = None, inputs: str | None = None, layer: int | None = None
) -> Dictionary:
    """Read a folder of any format.

    Args:
        folder: holds the format's files.
        name: the format; found from the files if None.
        inputs: what is coded (concat, base, ft or difference), for files that do not say.
        layer: block whose output is coded, for files that do not say.

    Raises:
        UsageError: unknown format or inputs, or what is coded is not known or said differently.
        PrerequisiteError: missing files.
        ValidationFailed: damaged files, files that do not belong together, or what a coder in raw units cannot express.
    """
    if name is not None and name not in FORMATS:
        raise unknown("format", name, list(FORMATS))
    if inputs is not None and inputs not in get_args(Inputs):
        raise unknown("input", inputs, get_args(Inputs))
    name = name or detect(folder)
    form = FORMATS[name]
    peer = form.read(folder)
    said = {key: value for key, value in peer.facts.items() if value is not None}
    card = _card(folder, form)
    if card:
        said |= card.model_dump(exclude_none=True)
    for key, value in (("inputs", inputs), ("layer", layer)):
        if value is not None and said.setdefault(key, value) != value:
            raise UsageError(f"{folder} says {key} {said[key]!r}, not {value!r}; leave --{key} out")
    if "inputs" not in said:
        raise UsageError(f"{folder} does not say which residual it codes; give --inputs base, ft, difference or concat")
    raw = over_models(peer.raw, said["inputs"], folder)
    n, _, d = raw.encoder_NMd.shape
    try:
        full = DictionaryCard.model_validate({"origin": name, "d_model": d, "n_latents": n} | said)
    except ValidationError as error:
        raise ValidationFailed(f"{folder}: {_first(error)}; the files are damaged or edited") from error
    if (full.d_model, full.n_latents) != (d, n):
        raise ValidationFailed(
            f"{folder / CARD} says {full.n_latents} latents of width {full.d_model}, the weights have {n} of {d}; the files do not "
            "belong together"
        )
    raw = RawCoder(*(t.contiguous() for t in raw))
    return Dictionary(TopKCoder(raw, full.topk) if full.topk else raw, full)


def _card(folder: Path, form: Format) -> DictionaryCard | None:
    """The card beside the weights, if there is one and it is theirs."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = DictionaryCard.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = _first(error) if isinstance(error, ValidationError) else error
        raise ValidationFailed(f"{path} is not a dictionary card: {reason}; copy it again") from error
    if card.weights_sha256 != sha256_file(folder / form.weights):
        raise ValidationFailed(
            f"{folder / form.weights} is not the file {CARD} was written for (its sha256 differs); copy both again"
        )
    return card


def _first(error: ValidationError) -> str:
    """The first complaint, `field: message`."""
    first = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)


def write_dictionary(dictionary: Dictionary, name: str, folder: Path) -> None:
    """Write the files of a format and the card into an existing folder. Not atomic: give a scratch folder.

    Raises:
        UsageError: unknown or read-only format, or one that cannot express this dictionary.
    """
    form = FORMATS.get(name)
    writable = [key for key, value in FORMATS.items() if value.layout]
    if form is None:
        raise unknown("format", name, writable)
    if form.layout is None:
        raise UsageError(f"{name} is read only; use --to {', '.join(writable)}")
    if name != "native" and isinstance(dictionary.coder, TopKCoder):
        raise UsageError(
            f"this dictionary keeps the {dictionary.coder.k} largest codes of each token, which no threshold expresses, and {name} "
            "would load it as another coder; use --to native"
        )
    files = form.layout(dictionary)
    weights = folder / files.weights
    save_file({key: t.detach().cpu().contiguous() for key, t in files.tensors.items()}, weights, {"format": "pt"})
    card = dictionary.card.model_copy(update={"weights_sha256": sha256_file(weights)})
    documents: dict[str, Any] = files.documents | {CARD: card.model_dump(mode="json")}
    for file, content in documents.items():
        (folder / file).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    weights.chmod((folder / CARD).stat().st_mode & 0o777)  # safetensors makes private files
