"""The built-in methods as a list shows them, so that listing imports no method and no torch; a test holds each row to its class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Facts(NamedTuple):
    """What a list of methods says of one."""

    where: str
    """Module and class."""
    access: str
    paper: str
    cost: str
    stochastic: bool
    """Whether another seed can give other findings."""
    summary: str
    """First line of the class's docstring."""

    def data(self, name: str) -> dict[str, str | bool]:
        """The same as `MethodEntry.facts`."""
        facts = self._asdict()
        del facts["where"]
        return {"name": name, **facts, "origin": "built-in"}


BUILTIN: dict[str, Facts] = {
    "delta": Facts(
        "crosscoders:DeltaCrosscoder",
        "+generations",
        "arXiv 2603.04426",
        "train 900 steps, write answers if text is to be contrastive",
        True,
        "Dual-K BatchTopK with a masked delta loss and, if asked for, contrastive text; non-shared latents are candidates.",
    ),
    "batch_topk": Facts(
        "crosscoders:BatchTopKCrosscoder",
        "activations",
        "arXiv 2504.02922",
        "train 900 steps",
        True,
        "The k·B best scores f_j·N_j of a batch; all latents are candidates.",
    ),
    "l1": Facts(
        "crosscoders:L1Crosscoder",
        "activations",
        "Lindsey et al. 2024",
        "train 900 steps",
        True,
        "ReLU codes with a price on Σ_j f_j·N_j; all latents are candidates.",
    ),
    "dsf": Facts(
        "crosscoders:DSFCrosscoder",
        "activations",
        "Anthropic, Insights on Crosscoder Model Diffing (2025)",
        "train 900 steps",
        True,
        "BatchTopK with a share of the latents tied: one decoder row for both models; the others are candidates.",
    ),
    "dfc": Facts(
        "crosscoders:DFCCrosscoder",
        "activations",
        "arXiv 2602.11729",
        "train 900 steps",
        True,
        "BatchTopK with latents that by construction belong to one model only; those are the candidates.",
    ),
    "sae_diff": Facts(
        "saes:DifferenceSAE",
        "activations",
        "Aranguri, Drori, Nanda 2025",
        "train 900 steps",
        True,
        "SAE on the difference of the residuals; latents by contribution. No gates: no single model has the difference.",
    ),
    "sae_ft": Facts(
        "saes:FineTunedSAE",
        "activations",
        "arXiv 2504.02922",
        "train 900 steps",
        True,
        "SAE on the fine-tuned model; latents the base lacks by Latent Scaling, as far as it lacks them.",
    ),
    "sae_base": Facts(
        "saes:BaseSAE",
        "activations",
        "arXiv 2504.02922",
        "train 900 steps",
        True,
        "SAE on the base; latents whose share in the residual the fine-tune changed most.",
    ),
    "sae_pair": Facts(
        "saes:PairedSAEs",
        "activations",
        "arXiv 2504.02922",
        "train 2 × 450 steps",
        True,
        "An SAE on each model, matched by decoder cosine; the fine-tuned model's latents without a partner.",
    ),
    "sae_stagewise": Facts(
        "saes:StagewiseSAE",
        "activations",
        "Anthropic, Stage-Wise Model Diffing (2024)",
        "train 450 + 3 × 150 steps",
        True,
        "A dictionary of the base fine-tuned to the other model along two paths; latents whose rows turn on both.",
    ),
    "logit_diff": Facts(
        "reading:LogitDiff",
        "activations",
        "diffing-toolkit (diff_mining)",
        "reads 20,000 tokens with both whole models",
        False,
        "Logit mining: which next tokens the fine-tuning raised, and the residual's change where the outputs changed most.",
    ),
    "adl": Facts(
        "reading:ADL",
        "activations",
        "arXiv 2510.13900",
        "reads 20,000 tokens",
        False,
        "Activation difference lens: mean difference at the first positions of unrelated text (arXiv 2510.13900).",
    ),
    "pca": Facts(
        "linear:PCA",
        "activations",
        "diffing-toolkit",
        "reads 40,000 tokens",
        False,
        "Principal components of the differences over ordinary text.",
    ),
    "dw_svd": Facts(
        "linear:WeightSVD",
        "+weights",
        "",
        "reads 4,096 tokens, one eigendecomposition a matrix",
        False,
        "Left singular directions of ΔW of the matrices that write into the residual stream.",
    ),
    "mean_diff": Facts(
        "baselines:MeanDifference",
        "activations",
        "",
        "reads 40,000 tokens",
        False,
        "Mean of fine-tuned minus base residuals over ordinary text: the constant bias a narrow fine-tune leaves behind.",
    ),
    "random_difference": Facts(
        "linear:RandomDifference",
        "activations",
        "arXiv 2510.13900 (control)",
        "reads 20,000 tokens",
        True,
        "Differences at random tokens: shares the covariance of the differences but picks nothing.",
    ),
    "random": Facts(
        "baselines:RandomDirections",
        "activations",
        "",
        "none",
        True,
        "Isotropic random directions: what a method that found nothing would score.",
    ),
    "probe": Facts(
        "linear:Probe",
        "supervised",
        "arXiv 1610.01644",
        "reads dev prompts and neutral text",
        False,
        "Logistic probe on the residuals: where is the behaviour due, whatever the fine-tuning changed there?",
    ),
    "supervised": Facts(
        "anchors:Supervised",
        "supervised",
        "",
        "reads dev prompts and neutral text",
        False,
        "Difference of means on behaviour labels: mean change where the behaviour is due minus mean change elsewhere.",
    ),
    "oracle": Facts(
        "anchors:Oracle",
        "anchor",
        "",
        "none",
        False,
        "The base's residual replaced by the organism's on the same tokens, and the reverse.",
    ),
}
"""In the order they are listed."""
VERBAL: dict[str, Facts] = {
    "token_topics": Facts(
        "verbal.topics:TokenTopics",
        "activations",
        "arXiv 2608.26462 (Diff Mining)",
        "reads 6,000 tokens with both whole models",
        True,
        "Topics of the next tokens that the fine-tuning raised: a non-negative factorisation of places × tokens.",
    ),
    "contrastive": Facts(
        "verbal.contrastive:ContrastiveDecoding",
        "+generations",
        "arXiv 2605.25902 (CDD)",
        "writes 2 × 48 continuations of 32 tokens with both whole models",
        True,
        "What the amplified difference of the two models writes after vague beginnings: its informative words.",
    ),
}
"""Methods that answer in words alone. They have a track of their own (`bench verbal`) and are no rows of the headline."""


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "delta": {
        "rank": "rdn",
        "delta": 0.005,
        "contrastive_share": 0.1,
        "dual_k": True,
        "mask_shared": True,
        "shared_fraction": 0.2,
        "shared_k": 2.0,
        "aux": 1 / 32,
    },
    "batch_topk": {"rank": "rdn", "aux": 1 / 32},
    "l1": {"rank": "rdn", "sparsity": 2.0, "decoder_norm": 0.08},
    "dsf": {"rank": "rdn"},
    "dfc": {"exclusive_fraction": 0.05},
    "logit_diff": {"rank": "rate"},
}
"""Methods of which some default departs from the paper's → every option that the paper decides, at its value (why: docs/tuning.md). What
depends on a model's size (steps, width, L0) is shared by all dictionary methods and no departure."""
AS_PUBLISHED = "@published"
"""How the row of a method ends that ran with its paper's settings, where our defaults are others."""


OF_TIER: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "small": {
        **{m: {"steps": 1800} for m in ("delta", "batch_topk", "l1", "dsf", "dfc", "sae_diff", "sae_ft", "sae_base")},
        **{m: {"steps": 900} for m in ("sae_pair", "sae_stagewise")},
    }
}
"""Tier → method → options that have another default on its organisms: what the rule of docs/tuning.md chose there. The last two spend
their steps twice."""


def row_of(method: str, config: Mapping[str, Any]) -> str:
    """NAME, or NAME@published if every option that its paper decides is the paper's and our defaults are not."""
    published = PUBLISHED.get(method)
    return f"{method}{AS_PUBLISHED}" if published and published.items() <= config.items() else method


def method_file(name: str) -> Path:
    """Where a built-in method's class is written."""
    module = BUILTIN[name].where.partition(":")[0]
    return Path(__file__).parent / f"{module.replace('.', '/')}.py"
