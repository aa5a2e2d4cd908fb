"""What a sparse coder does on the harvest, from one visit of its codes: activity, explained variance, Latent Scaling.

The idea: every diagnostic is a sum over active (token, latent) pairs. Latent Scaling (Minder et al. 2025) asks with which
factor β the contribution f_j·d_j of a latent is found in a target Y, β = Σ_t f_tj⟨Y_tj, d_j⟩ / (Σ_t f_tj²·‖d_j‖²); with
q(Y) = Σ f⟨Y, d⟩ of the activation x^m and of the error e^m = x^m − x̂^m, S₁ = Σ f and S₂ = Σ f² all targets follow:
    activation          q(x^m) / den                      den = S₂‖d‖²
    minus decoder bias  (q(x^m) − S₁⟨b^m, d⟩) / den
    reconstruction      (q(x^m) − q(e^m)) / den
    error + own latent  (q(e^m) + S₂⟨d^m, d⟩) / den       Y = e^m + f·d^m, that model's own row
along the fine-tuned row d for both models of a crosscoder, along the one row there is for an SAE. A fine-tune shifts the mean of
the residual, and a shift gives every latent along it a β of its own; `centred` removes each model's mean, so that what is left
comes and goes with the latent. What ranks an SAE's latents is that: on planted data the raw ratio missed what it finds first.

Units: raw residual units; dot products in the coder's precision, sums in float64. Shape letters: T and B tokens, M models,
d residual width, N latents, A active pairs, K kept examples.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...organisms.hub.chat import TemplateError, render
from .dictionary import RawCoder
from .sparse_coder import Inputs, SparseCoder
from .sparse_ops import Pairs

CHUNK = 4096
"""Most tokens coded at a time."""
CHUNK_PAIRS = 2**26
"""Most (token, latent) products held at a time: 256 MB in fp32."""
EXAMPLES = 5
"""Top activating tokens kept of each latent."""
FT_ONLY = 5 / 6
"""Published "fine-tuned only": Δnorm = ½((‖d_ft‖ − ‖d_base‖)/max + 1) > .9 ⇔ ‖d_base‖ < ‖d_ft‖/5 ⇔ rdn > 5/6."""
BASE_ONLY = 1 / 6
"""Published "base only": Δnorm < .1 ⇔ rdn < 1/6."""
SHARED = (4 / 9, 5 / 9)
"""Published "shared": |Δnorm − ½| < .1 ⇔ one norm is more than .8 of the other ⇔ 4/9 < rdn < 5/9."""
MODELS: dict[Inputs, tuple[int, ...]] = {"concat": (0, 1), "base": (0,), "ft": (1,), "difference": ()}
"""Which of base (0) and fine-tuned (1) a coder reconstructs."""


class Survey(NamedTuple):
    """What the latents do on the harvest, at the inference thresholds."""

    tokens: int
    inputs: Inputs
    """Which vector the coder codes."""
    fires_N: Tensor
    """[N] tokens on which each latent is active."""
    sums_N: Tensor
    """[N] S₁ = Σ f."""
    squares_N: Tensor
    """[N] S₂ = Σ f²."""
    along_2N: Tensor
    """[2, N] q(x^m) of base and fine-tuned."""
    error_MN: Tensor
    """[M, N] q(e^m) of what is coded."""
    mean_2d: Tensor
    """[2, d_model] mean residual of base and fine-tuned, float64."""
    explained: dict[str, float | None]
    """Fraction of variance explained of base, ft and delta; None where it is not coded or has no variance."""
    top_values_NK: Tensor
    """[N, K] largest activations on distinct texts, descending; 0 where there are fewer."""
    top_tokens_NK: Tensor
    """[N, K] their tokens; −1 where there are fewer."""
    ids_T: Tensor | None = None
    text_T: Tensor | None = None
    """[T] which text a token belongs to; None if positions are not known (then every token counts as a text)."""
    tokenizer: Any = None
    template_N: Tensor | None = None
    """[N] Σ f on template tokens; None if ids or tokenizer are not known."""
    template_tokens: int = 0
    """Template tokens of the harvest."""

    @property
    def l0(self) -> float:
        """Mean active latents per token."""
        return int(self.fires_N.sum()) / self.tokens

    @property
    def means_N(self) -> Tensor:
        """[N] mean activation when active, float64; 0 for a latent that never is."""
        return self.sums_N / self.fires_N.clamp_min(1)


@torch.no_grad()
def survey(
    coder: SparseCoder,
    residuals_T2d: Tensor,
    ids_T: Tensor | None = None,
    positions_T: Tensor | None = None,
    tokenizer: Any = None,
) -> Survey:
    """Code all residuals [tokens, 2, d_model] once; changes no state of the coder.

    Args:
        coder: over both models, one of them or their difference.
        residuals_T2d: paired raw residuals, text by text.
        ids_T: their token ids, for examples and the template share.
        positions_T: position of each token in its text, so that examples come from distinct texts.
        tokenizer: decodes examples and knows the template tokens.
    """
    raw, n, device = coder.raw(), coder.n_latents, residuals_T2d.device
    rows_Nd = raw.decoder_NMd[:, -1].contiguous()
    text_T = None if positions_T is None else _texts(positions_T.to(device))
    template_T = None
    if ids_T is not None and tokenizer is not None:
        template_T = torch.isin(ids_T.to(device), torch.tensor(sorted(template_tokens(tokenizer)), device=device))
    fires_N = torch.zeros(n, dtype=torch.int64, device=device)
    sums_NX = torch.zeros(
        n, 4 + raw.decoder_NMd.shape[1] + (template_T is not None), dtype=torch.float64, device=device
    )
    top_values_NK = torch.zeros(n, EXAMPLES, dtype=rows_Nd.dtype, device=device)
    top_tokens_NK = torch.full((n, EXAMPLES), -1, device=device)
    left, total = torch.zeros(2, 3, dtype=torch.float64, device=device)
    mean_2d = torch.zeros(residuals_T2d.shape[1:], dtype=torch.float64, device=device)

    start, size = 0, chunk_tokens(n)
    for chunk in residuals_T2d.split(size):
        x_BD = coder.normalise(chunk)
        codes = coder.encode(x_BD)
        f_A, pairs, error_BD = codes.values_A, codes.pairs, x_BD - coder.decode(codes)
        left += _squares(error_BD, coder.inputs)
        total += _squares(x_BD, coder.inputs)
        mean_2d += chunk.sum(0).double() / len(residuals_T2d)

        error_BMd = (error_BD / coder.scale).unflatten(1, raw.decoder_bias_Md.shape)
        targets = [*chunk.unbind(1), *error_BMd.unbind(1)]
        factors = [torch.ones_like(f_A), f_A, *(_dots(y_Bd, rows_Nd, pairs) for y_Bd in targets)]
        if template_T is not None:
            factors.append(template_T[start : start + size][pairs.tokens].to(f_A.dtype))
        sums_NX.index_add_(0, pairs.latents, torch.stack(factors, 1).double() * f_A[:, None])
        fires_N += torch.bincount(pairs.latents, minlength=n)
        _keep_top(top_values_NK, top_tokens_NK, pairs.latents, pairs.tokens + start, f_A, text_T, len(residuals_T2d))
        start += size

    s1_N, s2_N, *along = sums_NX.unbind(1)
    template_N = along.pop() if template_T is not None else None
    shares = [1 - float(a / b) if b > 0 else None for a, b in zip(left, total, strict=True)]
    return Survey(
        tokens=len(residuals_T2d),
        inputs=coder.inputs,
        fires_N=fires_N,
        sums_N=s1_N,
        squares_N=s2_N,
        along_2N=torch.stack(along[:2]),
        error_MN=torch.stack(along[2:]),
        mean_2d=mean_2d,
        explained=dict(zip(("base", "ft", "delta"), shares, strict=True)),
        top_values_NK=top_values_NK,
        top_tokens_NK=top_tokens_NK,
        ids_T=ids_T,
        text_T=text_T,
        tokenizer=tokenizer,
        template_N=template_N,
        template_tokens=0 if template_T is None else int(template_T.sum()),
    )


def chunk_tokens(n_latents: int) -> int:
    """How many tokens are coded at a time."""
    return max(1, min(CHUNK, CHUNK_PAIRS // n_latents))


def _dots(y_Bd: Tensor, rows_Nd: Tensor, pairs: Pairs) -> Tensor:
    """[A] ⟨y_t, row_j⟩ of the active pairs without an [A, d] temporary: what embedding_bag's backward calls (0 = sum)."""
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward
    out: Tensor = dots(y_Bd.contiguous(), rows_Nd, pairs.latents, pairs.token_offsets, pairs.tokens, 0)
    return out


def _squares(x_BD: Tensor, inputs: Inputs) -> Tensor:
    """[3] sums of squares of base, fine-tuned and difference (variances of a centred x); 0 for what is not coded."""
    out = torch.zeros(3, dtype=torch.float64, device=x_BD.device)
    if inputs == "concat":
        base, ft = x_BD.chunk(2, dim=1)
        return out + torch.stack([part.square().sum() for part in (base, ft, ft - base)])
    out[{"base": 0, "ft": 1, "difference": 2}[inputs]] = x_BD.square().sum()
    return out


def _texts(positions_T: Tensor) -> Tensor:
    """[T] number of the text each token belongs to: a text begins where positions do not grow (inside it some may be missing)."""
    return torch.cat([positions_T.new_zeros(1), (positions_T.diff() <= 0).cumsum(0)])


def _keep_top(
    values_NK: Tensor,
    tokens_NK: Tensor,
    latents_A: Tensor,
    tokens_A: Tensor,
    f_A: Tensor,
    text_T: Tensor | None,
    n_tokens: int,
) -> None:
    """Merge active pairs into the K largest activations of each latent on distinct texts, in place and exactly.

    A pair no larger than its latent's K-th best is not looked at: K texts already beat it.
    """
    new = f_A > values_NK[latents_A, -1]
    old_N, old_K = (tokens_NK >= 0).nonzero(as_tuple=True)
    latents = torch.cat([old_N, latents_A[new]])
    tokens = torch.cat([tokens_NK[old_N, old_K], tokens_A[new]])
    values = torch.cat([values_NK[old_N, old_K], f_A[new]])
    order = values.argsort(descending=True, stable=True)
    texts = tokens if text_T is None else text_T[tokens]
    order = order[_earlier(latents[order] * n_tokens + texts[order]) == 0]
    nth = _earlier(latents[order])
    order, nth = order[nth < EXAMPLES], nth[nth < EXAMPLES]
    values_NK[latents[order], nth] = values[order]
    tokens_NK[latents[order], nth] = tokens[order]


def _earlier(keys: Tensor) -> Tensor:
    """For each element the number of equal elements before it."""
    ordered, order = keys.sort(stable=True)
    count = torch.empty_like(order)
    count[order] = torch.arange(len(keys), device=keys.device) - torch.searchsorted(ordered, ordered)
    return count


def template_tokens(tokenizer: Any) -> set[int]:
    """Ids that the chat template writes: the special ones, and all that one more empty exchange adds to a conversation.

    Role names and line breaks that a template writes as ordinary tokens count wherever they stand. Without a template, or with one
    that refuses empty turns, the special ones are all that is known.
    """
    ids = set[int](tokenizer.all_special_ids)
    exchange = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]

    def read(messages: Sequence[dict[str, str]]) -> list[int]:
        return list(tokenizer(render(tokenizer, messages), add_special_tokens=False)["input_ids"])

    try:
        return ids | set(read(exchange * 2)[len(read(exchange)) :])
    except TemplateError:
        return ids


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
