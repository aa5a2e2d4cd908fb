"""Trained dictionaries as folders: read from a run or from any known format, written whole in another.

A run folder holds the coder's tensors beside `result.json`; what the tensors cannot say (what is coded, groups, layer,
organism) is taken from the result. A written folder appears at once: it is made beside its place and renamed into it.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from rich.table import Table
from safetensors import SafetensorError

from ...methods.formats import (
    Dictionary,
    DictionaryCard,
    detect,
    raw_coder,
    read_dictionary,
    read_tensors,
    write_dictionary,
)
from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from ...organisms.registry import load_card
from ..records.loading import load_result
from .folder import DICTIONARY, RESULT
from .packs import reason

KNOWN_BY_CARD = ("inputs", "selection", "groups", "n_shared")
"""Diagnostics of a method that are fields of the card."""


def load(folder: Path, form: str | None = None, inputs: str | None = None, layer: int | None = None) -> Dictionary:
    """The dictionary of a run folder or of a folder in any known format.

    Raises:
        UsageError, PrerequisiteError, ValidationFailed: see `read_dictionary` and `of_run`.
    """
    form = form or format_of(folder)
    return of_run(folder) if form == "run" else read_dictionary(folder, form, inputs, layer)


def format_of(folder: Path) -> str:
    """ "run" for a run folder, otherwise the name of the format.

    Raises:
        UsageError, PrerequisiteError: see `detect`.
    """
    return "run" if (folder / RESULT).is_file() else detect(folder)


def of_run(folder: Path) -> Dictionary:
    """The dictionary that a run trained, with what its result says of it.

    Raises:
        PrerequisiteError: the run's method trains no dictionary.
        ValidationFailed: damaged files, or tensors that are not one coder.
    """
    try:
        result = load_result(folder / RESULT)
    except (OSError, ValueError) as error:
        raise ValidationFailed(f"{folder / RESULT} cannot be read ({reason(error)}); run the cell again") from error
    path = folder / DICTIONARY
    if not path.is_file():
        raise PrerequisiteError(
            f"{folder} has no {DICTIONARY}: {result.identity.method} trained none; run a dictionary method, e.g. -m batch_topk"
        )
    raw = raw_coder(path, read_tensors(path))
    n, m, d = raw.encoder_NMd.shape
    who = result.identity
    said = {"inputs": "concat"} if m == 2 else {}
    said |= {key: result.diagnostics[key] for key in KNOWN_BY_CARD if key in result.diagnostics}
    if "inputs" not in said:
        raise ValidationFailed(
            f"{path} is over one residual and {RESULT} does not say which; the method must put `inputs` into its diagnostics"
        )
    try:
        card = DictionaryCard.model_validate(
            said
            | {
                "d_model": d,
                "n_latents": n,
                "layer": who.layer,
                "hook": f"blocks.{who.layer}.hook_resid_post",
                "base": base_of(result.provenance.source, who.organism),
                "organism": who.organism,
                "organism_sha256": who.organism_sha256,
                "method": who.row,
                "result": result.id,
                "metrics": {key: value for key, value in result.diagnostics.items() if key not in KNOWN_BY_CARD},
            }
        )
    except ValidationError as error:
        raise ValidationFailed(f"the diagnostics in {folder / RESULT} do not describe {DICTIONARY}: {error}") from error
    if card.n_models != m:
        raise ValidationFailed(f"{path} is over {m} residuals, but {RESULT} says it codes {card.inputs!r}")
    return Dictionary(raw, card)


def base_of(source: Mapping[str, str], organism: str) -> str | None:
    """Name of the base model: as given for a user's pair, from the card for an organism of the zoo; None: not known.

    Args:
        source: of the organism, as a record has it too.
    """
    given = source.get("base")
    if given is None:
        with contextlib.suppress(DiffbenchError):
            return load_card(organism).base
    return given


def save(dictionary: Dictionary, form: str, out: Path, overwrite: bool = False) -> None:
    """Write a dictionary as a new folder in some format; on any error nothing is left and an old folder stays.

    Raises:
        UsageError: the folder is there already, the format is unknown or read only, or cannot express the dictionary.
        PrerequisiteError: the disk refuses.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already; choose another --out or replace it with --overwrite")
    if out.is_file():
        raise UsageError(f"{out} is a file; choose another --out")
    scratch: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        new = scratch / "new"
        new.mkdir()
        write_dictionary(dictionary, form, new)
        if out.exists():
            out.rename(scratch / "old")
        try:
            new.rename(out)
        except BaseException:
            if (scratch / "old").exists():
                (scratch / "old").rename(out)
            raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrerequisiteError(f"cannot write to {out}: {reason}; free space or choose another --out") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def facts(dictionary: Dictionary, form: str) -> dict[str, str]:
    """What `bench dictionary show` says of a dictionary read from a folder of format `form`, in words."""
    card, raw = dictionary.card, dictionary.raw
    spans = {
        "threshold": raw.threshold_N,
        "encoder norm": raw.encoder_NMd.flatten(1).norm(dim=1),
        "bias": raw.bias_N,
    }
    names = ("base", "ft") if card.inputs == "concat" else (card.inputs,)
    spans |= {f"decoder norm, {name}": raw.decoder_NMd[:, m].norm(dim=1) for m, name in enumerate(names)}
    return {
        "format": form if card.origin in (form, "native") else f"{form}, first read from {card.origin}",
        "codes": {"concat": "base and ft side by side", "difference": "ft − base"}.get(card.inputs, card.inputs),
        "layer": f"{'–' if card.layer is None else card.layer} ({card.hook or 'hook unknown'})",
        "models": f"base {card.base or '–'}, organism {card.organism or '–'}, method {card.method or '–'}",
        "d_model": str(card.d_model),
        "latents": f"{card.n_latents} ({card.n_shared} shared)",
        "groups": ", ".join(f"{g.size} (k {'–' if g.k is None else f'{g.k:g}'})" for g in card.groups) or "–",
        "active": f"the {card.topk} largest codes of a token" if card.topk else "pre-activation > threshold",
        **{
            f"{name} min / median / max": " / ".join(f"{float(v):.4g}" for v in (t.min(), t.median(), t.max()))
            for name, t in spans.items()
        },
    }


def table(dictionary: Dictionary, form: str) -> Table:
    """`facts` as one table."""
    shown = Table(show_header=False, box=None, pad_edge=False)
    for row in facts(dictionary, form).items():
        shown.add_row(*row)
    return shown
