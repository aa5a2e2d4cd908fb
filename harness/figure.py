"""A chart as a PNG of 256 colours at most, a third of the bytes: in a heat map a colour is off by a twentieth of its range at most."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from .files import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(figure: "Figure", path: Path, dpi: int = 130) -> None:
    """Write a figure to `path`; the old file stays where that fails."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, format="png", metadata={"Software": None})
    atomic_write_bytes(path, reduced(drawn.getvalue()))


def reduced(png: bytes) -> bytes:
    """The same picture with a palette, without transparency."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        few.save(small, "PNG", optimize=True)
    return small.getvalue()
