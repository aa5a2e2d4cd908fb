"""Measures whole models beside an organism and its base, nothing intervening: same prompts, same text, same bootstrap draws."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from ...organisms.card import Estimate
from ...organisms.lora import tokenise
from ...organisms.organism import Organism
from ..pairs.engine import SIDES, Side
from ..pairs.loading import load_pair
from ..pairs.pair import Pair
from ..protocol.clean_runs import CleanRun
from ..protocol.controls import SCORE_SEED
from ..protocol.intervals import hypervolume, interval, template_weights
from ..protocol.prompts import ordinary
from ..records.settings import PROTOCOL_V2
from .retraining import Origin

Array = NDArray[np.float64]
TAUGHT = 128
"""Fine-tuning rows on which it is measured what was learned."""


class Retrained(BaseModel):
    """A model on test prompts and text; intervals over templates and test prompts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rank: int
    """Dimensions that were out of reach during training."""
    rate: Estimate
    reduction: Estimate
    """Share of the gap to the base that is closed, over scored prompts: 0 = the organism, 1 = the base."""
    retention: float
    """Mean of capability accuracy, relative to the organism and at most 1, and exp(-`kl_nats`)."""
    area: Estimate | None
    """Area that this one point dominates, as a share of the base's; None if the base itself retains too little."""
    accuracy: float | None
    """On capability probes; None without probes."""
    kl_nats: float
    """Collateral a token of ordinary text: from the nearer of organism and base."""
    taught_nll: float | None
    """On answers of the fine-tuning rows, in nats a token; None if a teacher gives the answers."""
    seconds: float | None = None
    """Wall seconds of training; None for what was not trained here."""


class WholeModels:
    """What retrained models are measured with; loads the organism."""

    def __init__(self, origin: Origin, organism: Organism):
        self.pair = load_pair(organism.pair, layer=organism.layer)
        self._behaviour = organism.behaviour
        texts = organism.make_texts(self.pair.tokenizer)
        self._text = ordinary(self.pair, texts, self._behaviour.prompts, "test", PROTOCOL_V2.test_tokens)
        self._log_p = {side: self._predicted(self.pair, side) for side in SIDES}
        rows = origin.family.rows(origin.world, origin.spec)
        said = [r for r in rows if r.text is not None or any(m["role"] == "assistant" for m in r.messages)]
        self._taught = [tokenise(self.pair.tokenizer, row) for row in said[:TAUGHT]]
        base, self._own = self._clean_run(self.pair, "base"), self._clean_run(self.pair, "tuned")
        self._b0, self._b1 = (a.rates.double().numpy() for a in (base, self._own))
        self.n = len(self._b1)
        """Test prompts."""
        self._gap = np.abs(self._b1 - self._b0)
        self._scored = self._gap >= PROTOCOL_V2.scored_gap
        templates, draws = self._behaviour.clusters("test"), PROTOCOL_V2.draws
        self._draws = template_weights(templates, draws, np.random.default_rng(SCORE_SEED))
        self._area_off = float(hypervolume(np.ones(1), np.array([base.retention(self._own)])))
        self.off = self._read(self.pair, "base", base)
        """The adapter off: the base."""
        self.organism = self._read(self.pair, "tuned", self._own)
        """The organism as it is."""

    def read(self, pair: Pair, rank: int, seconds: float) -> Retrained:
        """The fine-tuned side of a pair on the same base, trained with `rank` dimensions out of reach."""
        found = self._read(pair, "tuned", self._clean_run(pair, "tuned"))
        return found.model_copy(update={"rank": rank, "seconds": round(seconds, 1)})

    def _clean_run(self, pair: Pair, side: Side) -> CleanRun:
        return CleanRun(pair, side, self._behaviour.of("test"), self._behaviour.capability_of("test"), self._text)

    def _read(self, pair: Pair, side: Side, clean_run: CleanRun) -> Retrained:
        rates, kl_nats = clean_run.rates.double().numpy(), self._collateral(pair, side)
        retention = float(np.exp(-kl_nats))
        if clean_run.capability and self._own.capability:
            retention = (retention + min(1.0, clean_run.capability[1] / max(self._own.capability[1], 1e-9))) / 2

        def reduction(w: Array) -> Array:
            w = w * self._scored
            return 1 - (w @ np.abs(rates - self._b0)) / (w @ self._gap)

        def area(w: Array) -> Array:
            x = reduction(w)[:, None]
            return np.minimum(hypervolume(x, np.full_like(x, retention)) / self._area_off, 1.0)

        return Retrained(
            rank=0,
            rate=self._estimate(lambda w: w @ rates),
            reduction=self._estimate(reduction),
            retention=retention,
            area=self._estimate(area) if self._area_off else None,
            accuracy=clean_run.capability[1] if clean_run.capability else None,
            kl_nats=kl_nats,
            taught_nll=self._taught_nll(pair, side),
        )

    def _estimate(self, of: Callable[[Array], Array]) -> Estimate:
        """A function of prompt weights [draws, prompts], with its 95 % bootstrap interval."""
        low, high = interval(of(self._draws))
        return Estimate(value=float(of(np.full((1, self.n), 1 / self.n))[0]), low=low, high=high)

    def _predicted(self, pair: Pair, side: Side) -> Tensor:
        """Log-probabilities [tokens, vocab] of what follows in ordinary text."""
        return pair.logits(self._text.ids, side)[:, :-1][self._text.scored].log_softmax(-1)

    def _collateral(self, pair: Pair, side: Side) -> float:
        log_p = self._predicted(pair, side)
        kl = [(own.exp() * (own - log_p)).sum(-1).clamp_min(0) for own in self._log_p.values()]
        return float(torch.minimum(*kl).mean())

    def _taught_nll(self, pair: Pair, side: Side) -> float | None:
        if not self._taught:
            return None
        ids, _ = pair.pad([row["input_ids"] for row in self._taught])
        labels: Tensor = pad_sequence([torch.tensor(r["labels"]) for r in self._taught], True, -100).to(ids.device)
        return float(cross_entropy(pair.logits(ids, side)[:, :-1].transpose(1, 2), labels[:, 1:]))
