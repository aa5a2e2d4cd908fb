"""The project's own layout: the tensors of `RawCoder` in `dictionary.safetensors`, everything else in the card."""

from pathlib import Path

from ...organisms.errors import ValidationFailed
from ..coder.dictionary import RawCoder
from .card import CARD, Dictionary
from .reading import Tensors, dimensions, read_tensors
from .shape import Layout, Peer

WEIGHTS = "dictionary.safetensors"
SHAPES = {
    "encoder_NMd": "NMd",
    "bias_N": "N",
    "decoder_NMd": "NMd",
    "decoder_bias_Md": "Md",
    "threshold_N": "N",
}


def layout(dictionary: Dictionary) -> Layout:
    """Files of a dictionary."""
    return Layout(WEIGHTS, dict(dictionary.raw._asdict()), {})


def raw_coder(path: Path, found: Tensors) -> RawCoder:
    """The coder in these tensors.

    Raises:
        ValidationFailed: names or shapes are not those of one coder.
    """
    dimensions(found, SHAPES, path)
    return RawCoder(**found)


def read(folder: Path) -> Peer:
    """The coder of a native folder; which vector it codes is said by the card alone.

    Raises:
        ValidationFailed: damaged files, or no card.
    """
    path = folder / WEIGHTS
    if not (folder / CARD).is_file():
        raise ValidationFailed(f"{folder} has {WEIGHTS} but no {CARD}; copy it there from where the weights came from")
    return Peer(raw_coder(path, read_tensors(path)), {})
