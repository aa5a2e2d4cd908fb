"""Latent Scaling: what of a latent each model has, from the sums of a survey.

With which factor β is the contribution f_j·d_j of a latent found in a target Y (Minder et al. 2025)? It is
β = Σ_t f_tj⟨Y_tj, d_j⟩ / (Σ_t f_tj²·‖d_j‖²); with q(Y) = Σ f⟨Y, d⟩ of the activation x^m and of the error e^m = x^m − x̂^m,
S₁ = Σ f and S₂ = Σ f² all targets follow:
    activation          q(x^m) / den                      den = S₂‖d‖²
    minus decoder bias  (q(x^m) − S₁⟨b^m, d⟩) / den
    reconstruction      (q(x^m) − q(e^m)) / den
    error + own latent  (q(e^m) + S₂⟨d^m, d⟩) / den       Y = e^m + f·d^m, that model's own row
along the fine-tuned row d for both models of a crosscoder, along the one row there is for an SAE. A fine-tune shifts the mean of
the residual, and a shift gives every latent along it a β of its own; `centred` removes each model's mean, so that what is left
comes and goes with the latent. What ranks an SAE's latents is that: on planted data the raw ratio missed what it finds first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .analysis import Survey
from .dictionary import RawCoder
from .sparse_coder import Inputs

FT_ONLY = 5 / 6
"""Published "fine-tuned only": Δnorm = ½((‖d_ft‖ − ‖d_base‖)/max + 1) > .9 ⇔ ‖d_base‖ < ‖d_ft‖/5 ⇔ rdn > 5/6."""
BASE_ONLY = 1 / 6
"""Published "base only": Δnorm < .1 ⇔ rdn < 1/6."""
SHARED = (4 / 9, 5 / 9)
"""Published "shared": |Δnorm − ½| < .1 ⇔ one norm is more than .8 of the other ⇔ 4/9 < rdn < 5/9."""
MODELS: dict[Inputs, tuple[int, ...]] = {"concat": (0, 1), "base": (0,), "ft": (1,), "difference": ()}
"""Which of base (0) and fine-tuned (1) a coder reconstructs."""


def relative_decoder_norm(decoder_NMd: Tensor) -> Tensor:
    """[N] rdn_j = ‖d_ft‖ / (‖d_base‖ + ‖d_ft‖): 0 base only, ½ shared, 1 fine-tune only; ½ where both are zero."""
    base, ft = decoder_NMd.norm(dim=2).unbind(1)
    return torch.where(base + ft > 0, ft / (base + ft), 0.5)


class LatentScaling(NamedTuple):
    """β of base (0) and fine-tuned (1) for each target, and the ratios base/fine-tuned; NaN where undefined. All float64.

    Undefined are: a latent that never fires or writes nothing; what needs the bias, reconstruction or error of a model that
    the coder does not reconstruct.
    """

    activation_2N: Tensor
    unbiased_2N: Tensor
    """Activation minus decoder bias."""
    reconstruction_2N: Tensor
    error_2N: Tensor
    centred_2N: Tensor
    """Activation minus the model's mean over the harvest (not published)."""
    nu_error_N: Tensor
    """ν^ε of the errors: high where the base has what the latent writes and the code missed it there (Complete Shrinkage)."""
    nu_reconstruction_N: Tensor
    """ν^r of the reconstructions: high where other latents write the same in the base (Latent Decoupling)."""
    nu_decoded_N: Tensor
    """ν^r of the reconstructions minus decoder bias (not published): a bias is no latent's work."""


def latent_scaling(raw: RawCoder, seen: Survey) -> LatentScaling:
    """All betas of all latents from the sums of the survey."""
    decoder_NMd, bias_Md = raw.decoder_NMd.double(), raw.decoder_bias_Md.double()
    d_Nd, s1_N, s2_N, along_2N = decoder_NMd[:, -1], seen.sums_N, seen.squares_N, seen.along_2N
    den_N = s2_N * d_Nd.square().sum(1)
    den_N = torch.where(den_N > 0, den_N, torch.nan)
    bias_2N, decoded_2N, error_2N = torch.full(
        (3, *along_2N.shape), torch.nan, dtype=along_2N.dtype, device=den_N.device
    )
    for i, m in enumerate(MODELS[seen.inputs]):
        bias_2N[m] = s1_N * (d_Nd @ bias_Md[i])
        decoded_2N[m] = along_2N[m] - seen.error_MN[i] - bias_2N[m]
        error_2N[m] = seen.error_MN[i] + s2_N * (decoder_NMd[:, i] * d_Nd).sum(1)
    reconstruction_2N = decoded_2N + bias_2N
    return LatentScaling(
        along_2N / den_N,
        (along_2N - bias_2N) / den_N,
        reconstruction_2N / den_N,
        error_2N / den_N,
        (along_2N - s1_N * (seen.mean_2d @ d_Nd.T)) / den_N,
        *(ratio(q_2N / den_N) for q_2N in (error_2N, reconstruction_2N, decoded_2N)),
    )


def ratio(beta_2N: Tensor) -> Tensor:
    """[N] first over second row, base over fine-tuned; NaN where the latter is 0."""
    first_N, second_N = beta_2N
    return first_N / torch.where(second_N == 0, torch.nan, second_N)
