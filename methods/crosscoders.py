"""Crosscoders: L1, BatchTopK, Delta, DSF and DFC are configurations of the one sparse coder.

The idea of a crosscoder: code both models' residuals of a token with one sparse code; a latent whose decoder row is
long in the fine-tuned model and short in the base model is something only the fine-tuned model does. They differ in how
codes are selected, in Delta's four ingredients (Dual-K, masked delta loss, its weight, contrastive text), each with its own
switch, and in what the rows of a latent may be (DSF ties some, DFC makes some exclusive).

Defaults are published values where these are free of scale and the tuning set (docs/tuning.md) shows no better one; deviations are said
in the field that carries them.
"""

from pydantic import Field

from .coder.fitting import HALF_AND_HALF, DictionaryConfig, DictionaryMethod, fit
from .coder.kinds import Kind
from .coder.sparse_coder import Group, Objective, SparseCoder
from .coder.training import Schedule
from .contract import Access, DiffProblem, DiffResult, Text


class L1Config(DictionaryConfig):
    """Crosscoder with an L1 price (Lindsey et al. 2024), in CK's parametrisation."""

    sparsity: float = Field(default=1.0, ge=0)
    """Price λ of Σ_j f_j·N_j in CK's units, where each model's residual has norm √d: λ/√(2d) in ours. CK: 2."""
    decoder_norm: float = Field(default=0.08, gt=0)
    """Initial decoder norm per model (CK: .08; small, so that the price does not kill latents at once)."""


class BatchTopKConfig(DictionaryConfig):
    """Crosscoder with BatchTopK selection (Minder et al. 2025)."""

    k: float = Field(default=16, gt=0)
    """Mean active latents per token (published: 100 at d = 2304; 16 is the tiny tier's scale)."""
    k_start: float = Field(default=1.0, ge=1)
    """With k_anneal_steps: k starts at this multiple of itself (DT: 10 over 2,000 steps; off here)."""
    k_anneal_steps: int = Field(default=0, ge=0)
    """Steps over which k falls from its start to itself; 0 trains at k from the first step."""
    aux: float = Field(default=1 / 32, ge=0)
    """Weight of AuxK, by which dead latents learn the residual; 0 switches it off."""
    dead_after: float = Field(default=0.05, gt=0)
    """Share of the training tokens without firing after which a latent is dead (JK: 10M of 200M)."""

    def schedule(self) -> Schedule:
        """Annealing and dead-latent rule."""
        return Schedule(self.k_start, self.k_anneal_steps, self.dead_after)


class DeltaConfig(BatchTopKConfig):
    """Delta-Crosscoder (arXiv 2603.04426). Base sparsity k (published: 200): K_Δ = k, K_shared = shared_k·k."""

    shared_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the latents designated shared."""
    dual_k: bool = True
    """Separate budgets for shared and non-shared latents; off: one budget of the same total for all."""
    shared_k: float = Field(default=2.0, gt=0)
    """K_shared as a multiple of k."""
    delta: float = Field(default=0.05, ge=0)
    """Weight λ_Δ of the delta loss, in normalised units (published: .005, in unknown ones); 0 switches it off."""
    mask_shared: bool = True
    """Zero shared latents in the delta loss; off: all latents take part."""
    contrastive_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of tokens from contrastive text (published: a tenth, 20M of 200M); 0 switches it off. The rest is neutral and chat."""

    def layout(self, n_latents: int) -> tuple[list[Group], int]:
        """(BatchTopK groups, number of designated shared latents); without Dual-K and masking nothing is designated."""
        n_shared = round(self.shared_fraction * n_latents)
        k_shared = self.shared_k * self.k
        groups = (
            [Group(n_shared, k_shared), Group(n_latents - n_shared, self.k)]
            if self.dual_k
            else [Group(n_latents, k_shared + self.k)]
        )
        return groups, n_shared if self.dual_k or self.mask_shared else 0


class DSFConfig(BatchTopKConfig):
    """Designated shared features (Anthropic, February 2025), with BatchTopK instead of a discounted sparsity price."""

    shared_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the latents with one decoder row for both models (as many as Delta designates, so that the two compare)."""


class DFCConfig(BatchTopKConfig):
    """Dedicated feature crosscoder (arXiv 2602.11729)."""

    exclusive_fraction: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the latents exclusive to the base, and as many to the fine-tuned model (published: 5 %)."""


class L1Crosscoder(DictionaryMethod[L1Config]):
    """ReLU codes with a price on Σ_j f_j·N_j; all latents are candidates."""

    name: str = "l1"
    paper: str = "Lindsey et al. 2024"
    Config = L1Config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        coder = SparseCoder(problem.d_model, [Group(n)], "l1", decoder_norm=cfg.decoder_norm, seed=problem.seed)
        price = cfg.sparsity / (2 * problem.d_model) ** 0.5
        return fit(problem, cfg, coder, Objective(l1=price), HALF_AND_HALF)


class BatchTopKCrosscoder(DictionaryMethod[BatchTopKConfig]):
    """The k·B best scores f_j·N_j of a batch; all latents are candidates."""

    name: str = "batch_topk"
    paper: str = "arXiv 2504.02922"
    Config = BatchTopKConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        coder = SparseCoder(problem.d_model, [Group(n, cfg.k)], seed=problem.seed)
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())


class DeltaCrosscoder(DictionaryMethod[DeltaConfig]):
    """Dual-K BatchTopK with a masked delta loss and, if asked for, contrastive text; non-shared latents are candidates."""

    name: str = "delta"
    access: Access = "+generations"
    paper: str = "arXiv 2603.04426"
    cost: str = "train 900 steps, write answers if text is to be contrastive"
    Config = DeltaConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral, chat and contrastive text and rank the non-shared latents."""
        cfg = self.config
        groups, n_shared = cfg.layout(round(cfg.expansion * problem.d_model))
        coder = SparseCoder(problem.d_model, groups, n_shared=n_shared, seed=problem.seed)
        objective = Objective(delta=cfg.delta, aux=cfg.aux, mask_shared=cfg.mask_shared)
        rest = (1 - cfg.contrastive_share) / 2
        shares: dict[Text, float] = {"neutral": rest, "chat": rest, "contrastive": cfg.contrastive_share}
        return fit(problem, cfg, coder, objective, shares, cfg.schedule())


class DSFCrosscoder(DictionaryMethod[DSFConfig]):
    """BatchTopK with a share of the latents tied: one decoder row for both models; the others are candidates."""

    name: str = "dsf"
    paper: str = "Anthropic, Insights on Crosscoder Model Diffing (2025)"
    Config = DSFConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank the free latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        n_shared = round(cfg.shared_fraction * n)
        coder = SparseCoder(
            problem.d_model, [Group(n, cfg.k)], n_shared=n_shared, seed=problem.seed, kinds=[("tied", n_shared)]
        )
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())


class DFCCrosscoder(DictionaryMethod[DFCConfig]):
    """BatchTopK with latents that by construction belong to one model only; those are the candidates."""

    name: str = "dfc"
    paper: str = "arXiv 2602.11729"
    Config = DFCConfig

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank the exclusive latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        exclusive = round(cfg.exclusive_fraction * n)
        n_shared = n - 2 * exclusive
        kinds: list[tuple[Kind, int]] = [("free", n_shared), ("ft", exclusive), ("base", exclusive)]
        coder = SparseCoder(problem.d_model, [Group(n, cfg.k)], n_shared=n_shared, seed=problem.seed, kinds=kinds)
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())
