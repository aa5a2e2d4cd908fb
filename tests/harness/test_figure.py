"""A chart with few colours is the same picture, and one with a heat map nearly."""

import io
from pathlib import Path

import numpy as np
import pytest
from diffbench.harness.figure import reduced, save_png
from matplotlib.figure import Figure
from PIL import Image


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize(("heat", "most"), [(False, 3), (True, 13)])
def test_it_looks_the_same_and_takes_less(heat: bool, most: int, tmp_path: Path) -> None:
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    if heat:
        figure.colorbar(axes.imshow(np.random.default_rng(0).random((12, 12)), cmap="RdBu"))
    else:
        axes.plot([0, 1, 0.5], label="a line")
        axes.legend()
    whole = io.BytesIO()
    figure.savefig(whole, dpi=130)
    save_png(figure, tmp_path / "new" / "chart.png")
    small = (tmp_path / "new" / "chart.png").read_bytes()
    assert small == reduced(whole.getvalue()) and len(small) < 0.6 * len(whole.getvalue())
    assert np.abs(pixels(small) - pixels(whole.getvalue())).max() <= most
