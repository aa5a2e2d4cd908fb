"""From what a sparse coder does on the harvest to findings: a ranking of its latents, their directions, and the facts.

The idea: a latent's claim is the change of the residual when it fires. A crosscoder says it itself, d_ft − d_base; an SAE
on one model does not know the other, so its claim is d_j times what the fine-tune changed of it, β_ft − β_base (Latent
Scaling); an SAE on the difference codes the change. Directions and gates come from `RawCoder`, in residual units.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ...organisms.errors import UsageError
from ..contract import MAX_FINDINGS, Finding, Gate
from .analysis import Survey
from .dictionary import RawCoder
from .scaling import BASE_ONLY, FT_ONLY, SHARED, latent_scaling, ratio, relative_decoder_norm

Rank = Literal["rdn", "latent_scaling", "contribution"]
"""How latents are ranked.
rdn: largest relative decoder norm (crosscoders only).
latent_scaling: crosscoders: smallest rank(|ν^ε|) + rank(|ν^r|) among latents whose decoder leans to the fine-tuned model; SAE
on the fine-tuned model or the difference: smallest |β_base/β_ft|; SAE on the base: largest |β_ft/β_base − 1|.
contribution: length of the direction × frequency."""
RATIOS = (-0.1, 2.0)
"""Published: ratios ν outside are not counted."""
SHRUNKEN, DECOUPLED = 0.2, 0.5
"""Published: a fine-tuned-only latent is Complete Shrinkage where ν^ε, and Latent Decoupling where ν^r, is at least this."""
TEMPLATE_LATENT = 0.5
"""Published: a template latent has more than this share of its activation on template tokens."""
AROUND = 8
"""Tokens of context on either side of an example."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class RankError(UsageError):
    """A ranking that this dictionary does not have."""


class Ranking(NamedTuple):
    """Rankable latents, best first."""

    latents: Tensor
    """[C] int64."""
    scores: Tensor
    """[C] float64, descending."""


def changes(raw: RawCoder, seen: Survey) -> Tensor:
    """[N, d] change of the residual per unit of activation, base → fine-tuned; NaN where an SAE's betas are undefined.

    An SAE on one model: d_j·(β_ft − β_base) with the betas of centred activations, see `analysis`.
    """
    if seen.inputs == "concat":
        return raw.decoder_NMd[:, 1] - raw.decoder_NMd[:, 0]
    if seen.inputs == "difference":
        return raw.decoder_NMd[:, 0]
    base_N, ft_N = latent_scaling(raw, seen).centred_2N
    return raw.decoder_NMd[:, 0] * (ft_N - base_N).to(raw.decoder_NMd.dtype)[:, None]


def candidate_latents(seen: Survey, min_tokens: int, n_shared: int = 0) -> Tensor:
    """Indices of the non-shared latents that are alive on the harvest."""
    alive = seen.fires_N >= max(1, min_tokens)
    alive[:n_shared] = False
    return alive.nonzero()[:, 0]


def ranking(raw: RawCoder, seen: Survey, rank: Rank, min_tokens: int, n_shared: int = 0) -> Ranking:
    """The candidate latents of which the ranking can say something; see `Rank`.

    Ratios ν are ranked by magnitude and none is dropped: a strictly exclusive latent scatters around 0, below −.1 too
    (published: dropped).

    Raises:
        RankError: relative decoder norm of a dictionary with one decoder.
    """
    latents = candidate_latents(seen, min_tokens, n_shared)
    if rank == "rdn":
        if seen.inputs != "concat":
            raise RankError(
                f"a dictionary on {seen.inputs!r} has no relative decoder norm: that compares a latent's rows in two models' "
                "decoders and this dictionary has one; rank by latent_scaling or contribution"
            )
        scores = relative_decoder_norm(raw.decoder_NMd)[latents]
    elif rank == "contribution":
        scores = changes(raw, seen).norm(dim=1)[latents] * seen.sums_N[latents] / seen.tokens
    else:
        scaling = latent_scaling(raw, seen)
        if seen.inputs == "concat":
            nu_2N = torch.stack([scaling.nu_error_N, scaling.nu_decoded_N]).abs()
            # betas are measured along the fine-tuned row: where the base's is longer they miss what the latent is about
            leans_N = relative_decoder_norm(raw.decoder_NMd) > 0.5
            latents = latents[(leans_N & nu_2N.isfinite().all(0))[latents]]
            places_2n = nu_2N[:, latents].argsort(dim=1, stable=True).argsort(dim=1)
            scores = 1 - places_2n.double().mean(0) / max(1, len(latents) - 1)
        elif seen.inputs == "base":
            scores = (ratio(scaling.centred_2N.flip(0)) - 1).abs()[latents]
        else:
            scores = -ratio(scaling.centred_2N).abs()[latents]
    latents, scores = latents[scores.isfinite()], scores[scores.isfinite()].double()
    order = scores.argsort(descending=True, stable=True)
    return Ranking(latents[order], scores[order])


def findings(raw: RawCoder, seen: Survey, rank: Rank, min_tokens: int, n_shared: int = 0) -> list[Finding]:
    """The best 16 latents as directions in raw residual units: `changes` × mean activation when active.

    Gated by the encoder, except for an SAE on the difference: its encoder reads what no single model has. A zero
    direction if no latent can be ranked.

    Args:
        raw: coder in raw units.
        seen: its activity on the harvest.
        rank: how latents are ranked.
        min_tokens: fewer active tokens and a latent counts as dead.
        n_shared: the first latents, designated shared, are not candidates.

    Raises:
        RankError: see `ranking`.
    """
    best, scores = (t[:MAX_FINDINGS].tolist() for t in ranking(raw, seen, rank, min_tokens, n_shared))
    if not best:
        note = f"no latent that is active on {min_tokens} tokens can be ranked by {rank}"
        return [Finding(torch.zeros_like(raw.decoder_NMd[0, 0]), evidence={"note": note})]
    directions_Nd = changes(raw, seen) * seen.means_N.to(raw.decoder_NMd.dtype)[:, None]
    reads_Nd, thresholds_N = raw.gates()
    facts = _evidence(raw, seen)
    return [
        Finding(
            direction=directions_Nd[j],
            gate=None if seen.inputs == "difference" else Gate(reads_Nd[j], float(thresholds_N[j])),
            score=score,
            evidence={
                "latent": j,
                **{name: _number(values_N[j]) for name, values_N in facts.items()},
                **_seen_at(seen, j),
            },
        )
        for j, score in zip(best, scores, strict=True)
    ]


def _evidence(raw: RawCoder, seen: Survey) -> dict[str, Tensor]:
    """Per-latent facts [N] that accompany a finding."""
    scaling = latent_scaling(raw, seen)
    facts = {
        "frequency": seen.fires_N.double() / seen.tokens,
        "mean_activation": seen.means_N,
        "max_activation": seen.top_values_NK[:, 0],
        "beta_base": scaling.centred_2N[0],
        "beta_ft": scaling.centred_2N[1],
    }
    if seen.inputs == "concat":
        base_Nd, ft_Nd = raw.decoder_NMd.unbind(1)
        facts |= {
            "rdn": relative_decoder_norm(raw.decoder_NMd),
            "decoder_cosine": torch.cosine_similarity(base_Nd, ft_Nd, dim=1),
            "nu_error": scaling.nu_error_N,
            "nu_reconstruction": scaling.nu_reconstruction_N,
        }
    if seen.template_N is not None:
        facts["template_share"] = seen.template_N / seen.sums_N
    return facts


def _number(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None


def _seen_at(seen: Survey, latent: int) -> dict[str, Any]:
    """The latent's strongest tokens on distinct texts, with what stands around them; nothing without ids and tokenizer."""
    if seen.ids_T is None or seen.tokenizer is None:
        return {}
    return {
        "examples": [
            {"activation": value, **_context(seen, at)}
            for value, at in zip(seen.top_values_NK[latent].tolist(), seen.top_tokens_NK[latent].tolist(), strict=True)
            if at >= 0
        ]
    }


def _context(seen: Survey, at: int) -> dict[str, str]:
    """A token and up to `AROUND` tokens of its text before and after it, decoded."""
    assert seen.ids_T is not None
    around = torch.arange(max(0, at - AROUND), min(seen.tokens, at + AROUND + 1))
    if seen.text_T is not None:
        around = around[seen.text_T.cpu()[around] == seen.text_T[at].cpu()]
    parts = {"before": around[around < at], "token": around[around == at], "after": around[around > at]}
    return {name: seen.tokenizer.decode(seen.ids_T.cpu()[part].tolist()) for name, part in parts.items()}


def diagnostics(raw: RawCoder, seen: Survey, min_tokens: int, n_shared: int = 0) -> dict[str, Any]:
    """JSON-serialisable facts; quantiles, histogram (20 bins over [0, 1]) and counts are of the candidate latents."""
    candidates = candidate_latents(seen, min_tokens, n_shared)
    facts = {
        "explained_variance": seen.explained,
        "l0": seen.l0,
        "l0_shared": int(seen.fires_N[:n_shared].sum()) / seen.tokens,
        "dead_share": float((seen.fires_N == 0).double().mean()),
        "n_latents": len(seen.fires_N),
        "n_shared": n_shared,
        "n_candidates": len(candidates),
        "frequency_quantiles": _quantiles(seen.fires_N[candidates].double() / seen.tokens),
        "latent_scaling": _scaling_summary(raw, seen, candidates),
    }
    if seen.inputs == "concat":
        rdn = relative_decoder_norm(raw.decoder_NMd)[candidates].cpu()
        base_Cd, ft_Cd = raw.decoder_NMd[candidates].unbind(1)
        low, high = SHARED
        facts |= {
            "rdn_histogram": torch.histc(rdn, 20, 0.0, 1.0).int().tolist(),
            "decoder_norms": {
                "ft_only": int((rdn > FT_ONLY).sum()),
                "base_only": int((rdn < BASE_ONLY).sum()),
                "shared": int(((rdn > low) & (rdn < high)).sum()),
            },
            "decoder_cosine_quantiles": _quantiles(torch.cosine_similarity(base_Cd, ft_Cd, dim=1)),
        }
    if seen.template_N is not None:
        share = seen.template_N[candidates] / seen.sums_N[candidates]
        facts["template"] = {
            "tokens": seen.template_tokens / seen.tokens,
            "latents": float((share > TEMPLATE_LATENT).double().mean()) if len(share) else None,
        }
    return facts


def _quantiles(values: Tensor) -> dict[str, float]:
    """`QUANTILES` of the finite values; empty if there is none."""
    finite = values[values.isfinite()].double().cpu()
    return (
        dict(zip(map(str, QUANTILES), finite.quantile(finite.new_tensor(QUANTILES)).tolist(), strict=True))
        if len(finite)
        else {}
    )


def _scaling_summary(raw: RawCoder, seen: Survey, candidates: Tensor) -> dict[str, Any]:
    """Median betas of the candidates; for crosscoders the rates among those that are fine-tuned only by decoder norm."""
    scaling = latent_scaling(raw, seen)
    named = {
        "activation": scaling.activation_2N,
        "centred": scaling.centred_2N,
        "reconstruction": scaling.reconstruction_2N,
        "error": scaling.error_2N,
    }
    facts: dict[str, Any] = {
        f"median_beta_{name}": [_number(beta_N[candidates].nanmedian()) for beta_N in beta_2N]
        if len(candidates)
        else [None, None]
        for name, beta_2N in named.items()
    }
    if seen.inputs == "concat":
        exclusive = candidates[relative_decoder_norm(raw.decoder_NMd)[candidates] > FT_ONLY]
        facts["ft_only"] = len(exclusive)
        facts["complete_shrinkage"] = _rate(scaling.nu_error_N[exclusive], SHRUNKEN)
        facts["latent_decoupling"] = _rate(scaling.nu_reconstruction_N[exclusive], DECOUPLED)
    return facts


def _rate(nu: Tensor, threshold: float) -> dict[str, Any]:
    """Share of the ratios in the published range that reach the threshold, how many are in range, and all their median."""
    low, high = RATIOS
    kept = nu[(nu >= low) & (nu <= high)]
    return {
        "rate": float((kept >= threshold).double().mean()) if len(kept) else None,
        "n": len(kept),
        "dropped": len(nu) - len(kept),
        "median": _number(nu.nanmedian()) if len(nu) else None,
    }
