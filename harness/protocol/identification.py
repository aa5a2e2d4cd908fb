"""Identification without a judge: which of a family's candidates the findings speak of, by three mechanical readings.

The one idea: a reader who does not know the truth takes the strongest evidence that any of the first k findings gives for each
candidate, in units of what random directions give for the same candidate by the same reading; the score is where the truth
stands in that order by the best reading. Random directions, granted the same choice of a reading, are the zero of the scale.
Formulas: docs/protocol.md.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ...methods.contract import Finding
from ...organisms.card import Readout, read_base_card
from ...organisms.errors import ValidationFailed
from ...organisms.family import Candidates
from ...organisms.hub.tokens import TokenError, word
from ...organisms.organism import Organism
from ...organisms.registry import family_and_spec
from ...organisms.texts import Texts
from ...organisms.world.facts import World
from ..cache import Kept
from ..pairs.engine import SIDES
from ..pairs.interventions import unit
from ..pairs.pair import Pair
from ..pairs.sinks import Count
from ..records.result import Identification, Identified
from .prompts import Passage, passage

READINGS = ("lens", "patchscope", "tokens")
REFERENCE, POOL = 128, 1920
"""Random directions that put a scale on the evidence, and others that findings are compared with, as many sets."""
TEXT_TOKENS = 4000
"""Chat tokens on which it is measured which tokens a finding is active on."""


class Reader:
    """Reads findings of one pair; holds what all findings are compared with.

    Args:
        kept: where the readings of random directions are kept between runs; None: nowhere.

    Raises:
        ValidationFailed: fewer than two candidates, or a candidate that the vocabulary lacks.
    """

    KIND, VERSION = "readings", "1"

    def __init__(
        self,
        pair: Pair,
        texts: Texts,
        candidates: Candidates,
        readout: Readout | None = None,
        kept: Kept | None = None,
    ):
        self.pair, self.texts, self.candidates, self.readout, self._kept = pair, texts, candidates, readout, kept
        self.labels = list(candidates.words)
        if len(self.labels) < 2 or candidates.truth not in self.labels:
            raise ValidationFailed(
                f"the truth {candidates.truth!r} must be one of two or more candidates, not of {self.labels}"
            )
        self._member = torch.stack([self._tokens(words) for words in candidates.words.values()], 1).to(pair.device)

    @classmethod
    def of(cls, organism: Organism, pair: Pair, texts: Texts, kept: Kept | None = None) -> "Reader | None":
        """The reader of an embedded organism whose family has candidates; None for any other."""
        if not organism.in_zoo or organism.tier != "tiny":
            return None
        family, spec, card = family_and_spec(organism.source["organism"])
        world = World(int(read_base_card(organism.base).recipe["world_seed"]))
        candidates = family.candidates(world, spec)
        return cls(pair, texts, candidates, card.readout, kept) if candidates else None

    def identify(self, findings: Sequence[Finding], ks: Sequence[int]) -> Identification:
        """Where the truth stands by the first k findings, for every k, beside the controls."""
        directions = torch.stack([f.direction for f in findings])
        reads = torch.stack([f.gate.read if f.gate else f.direction for f in findings])
        z_RNC = self.evidence(directions, reads)
        at: list[Identified] = []
        for k in ks:
            by, controls = self._raw(z_RNC[:, :k].amax(1)), self._controls(min(k, len(findings)))
            raw, control = float(by.max()), float(controls.mean())
            at.append(
                Identified(
                    k=k,
                    rank=(len(self.labels) + 1 - raw * (len(self.labels) - 1)) / 2,
                    raw=raw,
                    control=control,
                    value=(raw - control) / (1 - control) if control < 1 else None,
                    p=(1 + int((controls >= raw).sum())) / (1 + len(controls)),
                    by=dict(zip(READINGS, by.tolist(), strict=True)),
                )
            )
        mean = self._text[1][None]
        return Identification(
            truth=self.candidates.truth,
            candidates=len(self.labels),
            at=at,
            base=float(self._raw(self.evidence(mean, mean)[:, 0]).max()),
            outputs_only=self._guess(),
        )

    def evidence(self, directions: Tensor, reads: Tensor) -> Tensor:
        """z [readings, n, candidates] of directions [n, d_model] and what gates them; 0 for a zero direction."""
        mean, sd, _ = self._random
        z = torch.where(sd > 1e-6, (self._read(directions, reads) - mean) / sd.clamp_min(1e-6), 0.0)
        return z * (directions.norm(dim=1) > 0).to(z)[:, None]

    def _read(self, directions: Tensor, reads: Tensor) -> Tensor:
        """[readings, n, candidates] mean over a candidate's tokens of each read-out, standardised over the vocabulary."""
        d = unit(directions.to(self.pair.device, torch.float32))
        seen, _, means_Vd = self._text
        active = unit(reads.to(d)) @ means_Vd.T
        lens, scope = (_standard(x) @ self._member for x in (self.pair.lens(d), self.pair.patchscope(d)))
        return torch.stack([lens, scope, _standard(active) @ self._member[seen]])

    @cached_property
    def _random(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and sd [readings, 1, candidates] over reference directions, and the evidence of the pool."""
        key = hashlib.sha256(b"random readings").digest()[:7]  # no method's seed can meet it
        generator = torch.Generator().manual_seed(int.from_bytes(key))
        directions = torch.randn(REFERENCE + POOL, self.pair.d_model, generator=generator)
        words = {label: list(of) for label, of in self.candidates.words.items()}
        at = {"words": words, "read": self._passage.sha256}
        entry = self._kept.get(self.KIND, self.VERSION, **at) if self._kept else None
        x = entry.tensors["random"].to(self.pair.device) if entry else self._read(directions, directions)
        if self._kept and entry is None:
            self._kept.put(self.KIND, self.VERSION, {"random": x.cpu()}, **at)
        mean, sd = x[:, :REFERENCE].mean(1, keepdim=True), x[:, :REFERENCE].std(1, keepdim=True)
        return mean, sd, torch.where(sd > 1e-6, (x[:, REFERENCE:] - mean) / sd.clamp_min(1e-6), 0.0)

    @cached_property
    def _passage(self) -> Passage:
        """Chat on which findings are seen to be active."""
        return passage(self.pair, self.texts.rows("chat", "test"), TEXT_TOKENS)

    @cached_property
    def _text(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens seen [seen], the base's mean residual [d_model], the organism's mean residual on each token [seen, d_model]."""
        text = self._passage
        ids, real = text.ids, torch.nn.functional.pad(text.scored, (1, 0))  # the attention sink is left out
        sides = {side: self.pair.residuals(ids, side) for side in SIDES}
        if sinks := self.pair.sinks:
            real = sinks.ordinary(torch.stack([sides[side] for side in SIDES], 2), ids, real, Count())
        tokens, index = ids[real].unique(return_inverse=True)
        tuned, base = sides["tuned"][real], sides["base"][real]
        sums = tuned.new_zeros(len(tokens), self.pair.d_model).index_add_(0, index, tuned)
        return tokens, base.mean(0), sums / index.bincount()[:, None]

    def _controls(self, k: int) -> Tensor:
        """[sets] best raw values of sets of k random directions; every direction is used equally often."""
        generator = torch.Generator().manual_seed(k)
        chosen = [torch.randperm(POOL, generator=generator)[: POOL // k * k].view(-1, k) for _ in range(k)]
        return self._raw(self._random[2][:, torch.cat(chosen)].amax(2)).amax(0)

    def _raw(self, strength: Tensor) -> Tensor:
        """(m + 1 − 2 rank) / (m − 1) by the strength of the m candidates [..., m], ties averaged: 1 = first, −1 = last."""
        strength = strength.cpu()  # an Apple GPU has no float64
        truth = strength[..., [self.labels.index(self.candidates.truth)]]
        rank = (strength > truth).sum(-1) + ((strength == truth).sum(-1) + 1) / 2
        return (len(self.labels) + 1 - 2 * rank.double()) / (len(self.labels) - 1)

    def _guess(self) -> float | None:
        """Raw value of the outputs-only guesser, from the card."""
        if self.readout is None:
            return None
        lift = [self.readout.organism[label] - self.readout.base[label] for label in self.labels]
        return float(self._raw(torch.tensor(lift)))

    def _tokens(self, words: Sequence[str]) -> Tensor:
        """[vocab] 1/n on the n tokens of the words."""
        try:
            ids = [t for w in words for t in word(self.pair.tokenizer, w)]
        except TokenError as error:
            raise ValidationFailed(f"the candidate {' '.join(words)!r} cannot be read: {error}") from error
        return torch.zeros(self.pair.vocab_size).index_add_(0, torch.tensor(ids), torch.ones(len(ids))) / len(ids)


def _standard(x: Tensor) -> Tensor:
    """Rows with mean 0 and standard deviation 1; a constant row is 0."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / centred.std(-1, keepdim=True).clamp_min(1e-9)
