"""SAE baselines: one SAE per model, two matched by cosine, on the difference, and fine-tuned from one model to the other.

The idea: an SAE on one model does not know the other, so what changed has to be read off otherwise: by Latent Scaling (which
latents of one model does the other still have), by matching two dictionaries, by coding the difference itself, or by letting
a dictionary of the base learn the fine-tuned model and looking which rows turned. All are configurations of the one sparse coder
over one model's width (M = 1), with the same data and the same number of steps in all as a crosscoder.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from .coder.analysis import Survey, survey
from .coder.dictionary import RawCoder
from .coder.fitting import HALF_AND_HALF, DictionaryMethod, fit, harvest, learn
from .coder.readout import Rank, candidate_latents, changes, diagnostics
from .coder.sparse_coder import Group, Inputs, Objective, SparseCoder
from .coder.stream import Stream
from .coder.training import Held, TrainConfig
from .contract import MAX_FINDINGS, DiffProblem, DiffResult, Finding, Gate
from .crosscoders import BatchTopKConfig


class SAEConfig(BatchTopKConfig):
    """SAE with BatchTopK selection; codes compete by f·‖d‖ (dictionary_learning keeps rows at unit norm instead)."""

    rank: Rank = "latent_scaling"
    """Ranking of findings: latent_scaling (smallest |β_base/β_ft|) or contribution (frequency × length of the direction)."""


class DifferenceConfig(SAEConfig):
    """An SAE whose latents are ranked by what they contribute."""

    rank: Rank = "contribution"
    """Ranking of findings: contribution (frequency × length of the direction) or latent_scaling."""


def _coder(problem: DiffProblem, config: SAEConfig, inputs: Inputs) -> SparseCoder:
    n = round(config.expansion * problem.d_model)
    return SparseCoder(problem.d_model, [Group(n, config.k)], inputs=inputs, seed=problem.seed)


class _SAE(DictionaryMethod[SAEConfig]):
    """One SAE."""

    inputs: Inputs
    Config = SAEConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents."""
        cfg = self.config
        return fit(
            problem, cfg, _coder(problem, cfg, self.inputs), Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule()
        )


class FineTunedSAE(_SAE):
    """SAE on the fine-tuned model; latents the base lacks by Latent Scaling, as far as it lacks them."""

    name: str = "sae_ft"
    inputs: Inputs = "ft"
    paper: str = "arXiv 2504.02922"


class BaseSAE(_SAE):
    """SAE on the base; latents whose share in the residual the fine-tune changed most."""

    name: str = "sae_base"
    inputs: Inputs = "base"
    paper: str = "arXiv 2504.02922"


PEEK = 500
"""Tokens on which the models are compared first."""


class DifferenceSAE(_SAE):
    """SAE on the difference of the residuals; latents by contribution. No gates: no single model has the difference."""

    name: str = "sae_diff"
    inputs: Inputs = "difference"
    paper: str = "Aranguri, Drori, Nanda 2025"
    Config = DifferenceConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents; models without any difference have nothing to code."""
        some = next(iter(problem.activations("neutral", tokens=PEEK)), None)
        if some is not None and torch.equal(*some.residuals.unbind(1)):
            note = f"the residuals of both models are equal on {len(some.ids)} tokens"
            return DiffResult([Finding(torch.zeros(problem.d_model), evidence={"note": note})], {"note": note})
        return super().diff(problem)


class PairConfig(SAEConfig):
    """Options of `sae_pair`."""

    steps: int = Field(default=450, ge=1)
    """Optimiser steps of each of the two SAEs."""


class PairedSAEs(DictionaryMethod[PairConfig]):
    """An SAE on each model, matched by decoder cosine; the fine-tuned model's latents without a partner."""

    name: str = "sae_pair"
    paper: str = "arXiv 2504.02922"
    cost: str = "train 2 × 450 steps"
    Config = PairConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train both from the same initial rows on the same batches; score = 1 − best cosine with a living latent of the base."""
        cfg, read = self.config, harvest(problem, self.config, HALF_AND_HALF)
        coders = [_coder(problem, cfg, m).to(read.device) for m in ("base", "ft")]
        facts = [
            learn(problem, cfg, coder, Objective(aux=cfg.aux), cfg.schedule(), read, share=0.5, stage=coder.inputs)
            for coder in coders
        ]
        base, ft = (survey(c, read.parts(), problem.tokenizer) for c in coders)
        raw_base, raw = (c.raw() for c in coders)
        alive = candidate_latents(base, cfg.min_tokens)
        cosines_NA = _unit(raw) @ _unit(raw_base)[alive].T
        best_N, at_N = cosines_NA.max(1) if len(alive) else (torch.zeros(coders[1].n_latents),) * 2
        mutual_N = torch.zeros_like(best_N, dtype=torch.bool)
        if len(alive):
            back_A = cosines_NA.argmax(0)
            mutual_N = back_A[at_N] == torch.arange(len(at_N), device=at_N.device)
        evidence = [{"best_cosine": float(b), "mutual": bool(m)} for b, m in zip(best_N, mutual_N, strict=True)]
        found = _findings(raw, ft, changes(raw, ft), 1 - best_N, cfg.min_tokens, evidence)
        own = (
            read.facts()
            | diagnostics(raw, ft, cfg.min_tokens)
            | {
                "base": facts[0] | diagnostics(raw_base, base, cfg.min_tokens),
                "unmatched": {
                    str(tau): int((best_N[candidate_latents(ft, cfg.min_tokens)] < tau).sum()) for tau in TAUS
                },
            }
        )
        return DiffResult(found, facts[1] | own, {name: t.cpu() for name, t in raw._asdict().items()})


TAUS = (0.5, 0.7, 0.9)
"""Cosines below which a latent counts as unmatched, reported side by side: no published value."""


class StagewiseConfig(SAEConfig):
    """Options of `sae_stagewise`."""

    steps: int = Field(default=450, ge=4)
    """Optimiser steps of the starting SAE; each of the three fine-tuning stages takes a third of them."""


class StagewiseSAE(DictionaryMethod[StagewiseConfig]):
    """A dictionary of the base fine-tuned to the other model along two paths; latents whose rows turn on both."""

    name: str = "sae_stagewise"
    paper: str = "Anthropic, Stage-Wise Model Diffing (2024)"
    cost: str = "train 450 + 3 × 150 steps"
    Config = StagewiseConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """S (base, neutral) → M (fine-tuned, neutral), and S → D (base, chat) → F (fine-tuned, chat); score = the smaller of the
        rotations S→M and D→F, so that what only the data turn does not count.

        Direction: row of F minus row of D times the mean activation on chat.
        """
        cfg = self.config
        neutral, chat = (harvest(problem, cfg, {text: 0.5}) for text in ("neutral", "chat"))
        start = _coder(problem, cfg, "base").to(neutral.device)
        facts = learn(problem, cfg, start, Objective(aux=cfg.aux), cfg.schedule(), neutral, share=0.5, stage="S")
        model = self._moved(problem, start, "ft", neutral, "M")
        data = self._moved(problem, start, "base", chat, "D")
        both = self._moved(problem, data, "ft", chat, "F")
        raws = {name: c.raw() for name, c in {"S": start, "M": model, "D": data, "F": both}.items()}
        turned = {f"{a}{b}": 1 - (_unit(raws[a]) * _unit(raws[b])).sum(1) for a, b in ("SM", "DF", "SD")}
        seen = survey(both, chat.parts(), problem.tokenizer)
        change_Nd = raws["F"].decoder_NMd[:, 0] - raws["D"].decoder_NMd[:, 0]
        evidence = [{f"rotation_{k}": float(v[j]) for k, v in turned.items()} for j in range(len(seen.fires_N))]
        score_N = torch.minimum(turned["SM"], turned["DF"])
        found = _findings(raws["F"], seen, change_Nd, score_N, cfg.min_tokens, evidence)
        facts = facts | chat.facts() | diagnostics(raws["F"], seen, cfg.min_tokens)
        facts["harvest_tokens"] = neutral.facts()["harvest_tokens"] | chat.facts()["harvest_tokens"]
        facts["median_rotation"] = {k: float(v.median()) for k, v in turned.items()}
        return DiffResult(found, facts, {name: t.cpu() for name, t in raws["F"]._asdict().items()})

    def _moved(
        self, problem: DiffProblem, coder: SparseCoder, to: Inputs, read: Held | Stream, stage: str
    ) -> SparseCoder:
        """A copy of a trained coder, trained on what another model does on a text.

        The mean is that of the new activations: a shift between the models would otherwise be all that so few steps learn.
        """
        moved, cfg = copy.deepcopy(coder), self.config
        moved.inputs = to
        moved.mean_D.copy_(moved.select_input(read.sample()).mean(0))
        settings = TrainConfig(
            **{name: getattr(cfg, name) for name in TrainConfig.model_fields} | {"steps": cfg.steps // 3}
        )
        schedule = replace(cfg.schedule(), k_anneal_steps=0)
        learn(problem, settings, moved, Objective(aux=cfg.aux), schedule, read, share=1 / 6, stage=stage, warm=True)
        return moved


def _unit(raw: RawCoder) -> Tensor:
    """[N, d] decoder rows of an SAE at unit length; a zero row stays zero."""
    return normalize(raw.decoder_NMd[:, 0], dim=1)


def _findings(
    raw: RawCoder, seen: Survey, change_Nd: Tensor, score_N: Tensor, min_tokens: int, evidence: list[dict[str, Any]]
) -> list[Finding]:
    """The living latents with the largest scores: change × mean activation, gated by the encoder."""
    living = candidate_latents(seen, min_tokens)
    living = living[change_Nd[living].isfinite().all(1)]
    best = living[score_N[living].argsort(descending=True, stable=True)][:MAX_FINDINGS].tolist()
    reads_Nd, thresholds_N = raw.gates()
    directions_Nd = change_Nd * seen.means_N.to(change_Nd.dtype)[:, None]
    return [
        Finding(
            directions_Nd[j],
            Gate(reads_Nd[j], float(thresholds_N[j])),
            float(score_N[j]),
            {"latent": j, "frequency": int(seen.fires_N[j]) / seen.tokens, **evidence[j]},
        )
        for j in best
    ] or [Finding(torch.zeros_like(change_Nd[0]), evidence={"note": f"no latent is active on {min_tokens} tokens"})]
