"""What a sparse coder does on its text, from one visit of its codes: activity, explained variance, the sums of Latent Scaling.

The idea: every diagnostic is a sum over active (token, latent) pairs, so the text may come in parts of any size and none is kept.
`scaling` makes the betas of the sums.

Units: raw residual units; dot products in the coder's precision, sums in float64. Shape letters: T and B tokens, M models,
d residual width, N latents, A active pairs, K kept examples.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...organisms.hub.chat import TemplateError, render
from .sparse_coder import Inputs, SparseCoder
from .sparse_ops import Pairs

CHUNK = 4096
"""Most tokens coded at a time."""
CHUNK_PAIRS = 2**26
"""Most (token, latent) products held at a time: 256 MB in fp32."""
EXAMPLES = 5
"""Top activating tokens kept of each latent."""


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


Part = tuple[Tensor, Tensor | None, Tensor | None]
"""Paired raw residuals [tokens, 2, d_model]; their token ids, for examples and the template share; their positions in their texts, so that
examples come from distinct texts."""


@torch.no_grad()
def survey(coder: SparseCoder, text: Tensor | Iterable[Part], tokenizer: Any = None) -> Survey:
    """Code all residuals once; changes no state of the coder. Of a part nothing is kept but ids and positions.

    Args:
        coder: over both models, one of them or their difference.
        text: residuals [tokens, 2, d_model], or parts of them in the order of the text.
        tokenizer: decodes examples and knows the template tokens.
    """
    raw, n, device = coder.raw(), coder.n_latents, coder.encoder_ND.device
    rows_Nd = raw.decoder_NMd[:, -1].contiguous()
    template = torch.tensor(sorted(template_tokens(tokenizer)), device=device) if tokenizer is not None else None
    fires_N = torch.zeros(n, dtype=torch.int64, device=device)
    sums_NX = torch.zeros(n, 5 + raw.decoder_NMd.shape[1], dtype=torch.float64, device=device)
    best = Best.none(n, rows_Nd)
    left, total = torch.zeros(2, 3, dtype=torch.float64, device=device)
    sum_2d = torch.zeros(2, coder.d_model, dtype=torch.float64, device=device)
    ids, texts = list[Tensor](), list[Tensor]()
    start, template_seen, count = 0, 0, TextCount()

    for h_B2d, ids_B, positions_B in _chunks([(text, None, None)] if isinstance(text, Tensor) else text, n):
        x_BD = coder.normalise(h_B2d)
        codes = coder.encode(x_BD)
        f_A, pairs, error_BD = codes.values_A, codes.pairs, x_BD - coder.decode(codes)
        left += _squares(error_BD, coder.inputs)
        total += _squares(x_BD, coder.inputs)
        sum_2d += h_B2d.sum(0).double()
        tokens_B = start + torch.arange(len(h_B2d), device=device)
        texts_B = tokens_B if positions_B is None else count.of(positions_B.to(device))
        if ids_B is not None:
            ids.append(ids_B)
        if positions_B is not None:
            texts.append(texts_B)

        error_BMd = (error_BD / coder.scale).unflatten(1, raw.decoder_bias_Md.shape)
        targets = [*h_B2d.unbind(1), *error_BMd.unbind(1)]
        factors = [torch.ones_like(f_A), f_A, *(_dots(y_Bd, rows_Nd, pairs) for y_Bd in targets)]
        template_B = torch.zeros_like(tokens_B, dtype=torch.bool)
        if template is not None and ids_B is not None:
            template_B = torch.isin(ids_B.to(device), template)
        template_seen += template_B.sum()
        factors.append(template_B[pairs.tokens].to(f_A.dtype))
        sums_NX.index_add_(0, pairs.latents, torch.stack(factors, 1).double() * f_A[:, None])
        fires_N += torch.bincount(pairs.latents, minlength=n)
        best.add(pairs.latents, tokens_B[pairs.tokens], texts_B[pairs.tokens], f_A)
        start += len(h_B2d)

    s1_N, s2_N, *along, template_N = sums_NX.unbind(1)
    shares = [1 - float(a / b) if b > 0 else None for a, b in zip(left, total, strict=True)]
    known = bool(ids) and template is not None
    return Survey(
        tokens=start,
        inputs=coder.inputs,
        fires_N=fires_N,
        sums_N=s1_N,
        squares_N=s2_N,
        along_2N=torch.stack(along[:2]),
        error_MN=torch.stack(along[2:]),
        mean_2d=sum_2d / max(1, start),
        explained=dict(zip(("base", "ft", "delta"), shares, strict=True)),
        top_values_NK=best.values_NK,
        top_tokens_NK=best.tokens_NK,
        ids_T=torch.cat(ids) if ids else None,
        text_T=torch.cat(texts) if texts else None,
        tokenizer=tokenizer,
        template_N=template_N if known else None,
        template_tokens=int(template_seen) if known else 0,
    )


def _chunks(parts: Iterable[Part], n_latents: int) -> Iterator[Part]:
    """Parts cut to `chunk_tokens`."""
    size = chunk_tokens(n_latents)
    for residuals, ids, positions in parts:
        for start in range(0, len(residuals), size):
            cut = slice(start, start + size)
            yield residuals[cut], None if ids is None else ids[cut], None if positions is None else positions[cut]


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


class TextCount:
    """Which text a token belongs to, part after part: a text begins where positions do not grow (inside it some may be missing)."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None

    def of(self, positions_B: Tensor) -> Tensor:
        """[B] number of the text of each token."""
        position, text = self._last or (positions_B[:1] - 1, positions_B.new_zeros(1))
        texts_B = text + (positions_B.diff(prepend=position) <= 0).cumsum(0)
        self._last = positions_B[-1:], texts_B[-1:]
        return texts_B


class Best(NamedTuple):
    """The K largest activations of each latent on distinct texts, [N, K] each; values 0 and the others −1 where there are fewer."""

    values_NK: Tensor
    tokens_NK: Tensor
    texts_NK: Tensor

    @classmethod
    def none(cls, n: int, like: Tensor) -> "Best":
        """Before anything was seen."""
        empty = torch.full((2, n, EXAMPLES), -1, device=like.device)
        return cls(like.new_zeros(n, EXAMPLES), *empty)

    def add(self, latents_A: Tensor, tokens_A: Tensor, texts_A: Tensor, f_A: Tensor) -> None:
        """Merge active pairs in place and exactly.

        A pair no larger than its latent's K-th best is not looked at: K texts already beat it.
        """
        new = f_A > self.values_NK[latents_A, -1]
        old_N, old_K = (self.tokens_NK >= 0).nonzero(as_tuple=True)
        latents = torch.cat([old_N, latents_A[new]])
        values, tokens, texts = (
            torch.cat([kept[old_N, old_K], seen[new]])
            for kept, seen in zip(self, (f_A, tokens_A, texts_A), strict=True)
        )
        order = values.argsort(descending=True, stable=True)
        order = order[_earlier(latents[order] * (1 + texts.max()) + texts[order]) == 0] if len(order) else order
        nth = _earlier(latents[order])
        order, nth = order[nth < EXAMPLES], nth[nth < EXAMPLES]
        for kept, seen in zip(self, (values, tokens, texts), strict=True):
            kept[latents[order], nth] = seen[order]


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
