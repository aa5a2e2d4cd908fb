"""What a format hands over in either direction, and how one SAE over a vector becomes a coder over models."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ...organisms.errors import UsageError
from ..coder.dictionary import RawCoder
from ..coder.sparse_coder import Inputs


class Layout(NamedTuple):
    """Files of a dictionary in one format."""

    weights: str
    """Name of the safetensors file."""
    tensors: dict[str, Tensor]
    documents: dict[str, Any]
    """JSON files by name."""


class Peer(NamedTuple):
    """What the files of a format say, before the card is consulted."""

    raw: RawCoder
    """M models if the format knows them; otherwise one "model" as wide as the vector it codes."""
    facts: dict[str, Any]
    """Fields of the card that the files state."""


def sae(
    encoder_ND: Tensor, bias_N: Tensor, decoder_ND: Tensor, b_dec_D: Tensor, threshold_N: Tensor, centred: bool
) -> RawCoder:
    """An SAE as a coder over one model of width D: pre = (h − b_dec)·e + b if `centred`, else h·e + b.

    Behind a ReLU a negative threshold keeps what a threshold of 0 keeps, so thresholds are clamped at 0.
    """
    if centred:
        bias_N = (bias_N.double() - encoder_ND.double() @ b_dec_D.double()).to(bias_N.dtype)
    return RawCoder(encoder_ND[:, None], bias_N, decoder_ND[:, None], b_dec_D[None], threshold_N.clamp_min(0))


def over_models(raw: RawCoder, inputs: Inputs, folder: Path) -> RawCoder:
    """Cut the one wide vector of an SAE into the models of `inputs`.

    Raises:
        UsageError: the width does not fit.
    """
    wanted, have = 2 if inputs == "concat" else 1, raw.encoder_NMd.shape[1]
    if wanted == have:
        return raw
    width = raw.encoder_NMd.shape[2]
    if have != 1 or width % 2:
        raise UsageError(
            f"{folder} codes {have} × {width} numbers, which is not {inputs!r} ({wanted} residuals); choose other --inputs"
        )
    cut = (2, width // 2)
    return raw._replace(
        encoder_NMd=raw.encoder_NMd[:, 0].unflatten(1, cut),
        decoder_NMd=raw.decoder_NMd[:, 0].unflatten(1, cut),
        decoder_bias_Md=raw.decoder_bias_Md[0].unflatten(0, cut),
    )
