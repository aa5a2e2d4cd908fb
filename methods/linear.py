"""Linear methods: directions that come out of one decomposition, draw or fit, without a dictionary.

What they are for is to be beaten: if a principal component, a singular vector of ΔW or the difference at a random token
isolates a behaviour as well as a trained dictionary does, then the dictionary added nothing.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from .contract import MAX_FINDINGS, Access, DiffProblem, DiffResult, Finding, Gate
from .differences import ActivationError, Pass, check_finite, delta, nothing, oriented

FLOOR = 1e-10
"""Variance below this share of the mean squared difference is fp32 rounding, not a component."""
WRITERS = ("o_proj", "down_proj")
"""Last part of the name of the matrices that write into the residual stream (Gemma, Llama, Qwen)."""


def discriminant(residuals: Tensor, chosen: Tensor, shrinkage: float) -> Gate:
    """Fisher's linear discriminant between chosen and other tokens, threshold half-way between their means.

    Args:
        residuals: [tokens, 2, d_model]; both models' residuals count, because a gate reads whichever is intervened on.
        chosen: [tokens] bool.
        shrinkage: ridge of the within-class covariance, as a share of its mean variance.
    """
    x, y = residuals.flatten(0, 1), chosen.repeat_interleave(2)
    one, zero = x[y].mean(0), x[~y].mean(0)
    centred = torch.cat([x[y] - one, x[~y] - zero])
    return between(one, zero, centred.T @ centred / len(x), shrinkage)


def between(one_d: Tensor, zero_d: Tensor, covariance_dd: Tensor, shrinkage: float) -> Gate:
    """The discriminant of two means and a within-class covariance; see `discriminant`."""
    variance = float(covariance_dd.diagonal().mean()) or 1.0
    ridge_dd = shrinkage * variance * torch.eye(len(covariance_dd), dtype=one_d.dtype, device=one_d.device)
    read = torch.linalg.solve(covariance_dd + ridge_dd, one_d - zero_d)
    return Gate(read.cpu().float(), float(read @ (one_d + zero_d) / 2))


class RandomDifferenceConfig(BaseModel):
    """Options of `random_difference`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=20_000, ge=1)
    """Tokens to draw from, half neutral and half chat."""
    mix: int = Field(default=1, ge=1)
    """Tokens whose differences are averaged into one finding (the published control takes single differences: 1)."""


class RandomDifference:
    """Differences at random tokens: shares the covariance of the differences but picks nothing.

    A stronger null than isotropic directions: the published causal evaluation of activation differences draws 64 of them
    (arXiv 2510.13900).
    """

    name: str = "random_difference"
    access: Access = "activations"
    paper: str = "arXiv 2510.13900 (control)"
    cost: str = "reads 20,000 tokens"
    Config: type[BaseModel] = RandomDifferenceConfig

    def __init__(self, config: RandomDifferenceConfig | None = None) -> None:
        self.config = config or RandomDifferenceConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Sixteen uniform draws without replacement: the tokens with the largest of seeded random keys."""
        generator = torch.Generator().manual_seed(problem.seed)
        reading = Pass(problem, self.config.tokens)
        keys_T = torch.zeros(0, dtype=torch.float64)
        held_Td = torch.zeros(0, problem.d_model, dtype=torch.float64)
        for _, batch in reading.activations():
            new_T = torch.rand(len(batch.ids), generator=generator, dtype=torch.float64)
            keys_T, held_Td = torch.cat([keys_T, new_T]), torch.cat([held_Td, delta(batch).cpu()])
            best = keys_T.topk(min(len(keys_T), MAX_FINDINGS * self.config.mix)).indices
            keys_T, held_Td = keys_T[best], held_Td[best]
        mixed = [part.mean(0).float() for part in held_Td.split(self.config.mix)]
        return DiffResult([Finding(d, score=float(d.norm())) for d in mixed], reading.facts())


class PCAConfig(BaseModel):
    """Options of `pca`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=40_000, ge=1)
    """Tokens read, half neutral and half chat (published: 50M of each data set; a covariance of a few hundred dimensions
    is settled long before)."""
    components: int = Field(default=10, ge=1, le=MAX_FINDINGS)
    """Components returned (published: the first 10 are steered with)."""
    centred: bool = True
    """Subtract the mean difference first, as incremental PCA does; off: the second moment, whose first component is then
    mostly the mean difference itself."""


class PCA:
    """Principal components of the differences over ordinary text.

    The covariance is accumulated in fp64 in one pass and decomposed exactly, where the published toolkit updates an
    incremental PCA. A component has no sign of its own: it is turned to point along the mean difference, base → fine-tuned.
    """

    name: str = "pca"
    access: Access = "activations"
    paper: str = "diffing-toolkit"
    cost: str = "reads 40,000 tokens"
    stochastic: bool = False
    Config: type[BaseModel] = PCAConfig

    def __init__(self, config: PCAConfig | None = None) -> None:
        self.config = config or PCAConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Components scaled to one standard deviation; the score is the share of variance they explain."""
        reading = Pass(problem, self.config.tokens)
        sum_d = torch.zeros(problem.d_model, dtype=torch.float64, device=problem.device)
        sum_dd = torch.zeros(problem.d_model, problem.d_model, dtype=torch.float64, device=problem.device)
        for _, batch in reading.activations():
            delta_Td = delta(batch)
            sum_d += delta_Td.sum(0)
            sum_dd.addmm_(delta_Td.T, delta_Td)
        mean_d = sum_d / reading.total
        moment_dd = sum_dd / reading.total
        floor = FLOOR * float(moment_dd.trace())
        if self.config.centred:
            moment_dd -= torch.outer(mean_d, mean_d)
        variances_d, vectors_dd = torch.linalg.eigh(moment_dd)
        variances_d = variances_d.flip(0).clamp_min(0)
        vectors_dd = oriented(vectors_dd.T.flip(0), mean_d)
        shares_d = (
            variances_d / variances_d.sum() if float(variances_d.sum()) > floor else torch.zeros_like(variances_d)
        )
        found = [
            Finding((vectors_dd[i] * variances_d[i].sqrt()).cpu().float(), score=float(shares_d[i]))
            for i in range(min(self.config.components, problem.d_model))
            if float(variances_d[i]) > floor
        ]
        facts = reading.facts() | {
            "spectrum": shares_d[:64].tolist(),
            "variance": float(variances_d.sum()),
            "mean_difference_norm": float(mean_d.norm()),
            "effective_dimension": float(1 / shares_d.square().sum()) if found else 0.0,
        }
        return DiffResult(found or nothing(problem.d_model, "the difference is the same at every token"), facts)


class WeightSVDConfig(BaseModel):
    """Options of `dw_svd`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    findings: int = Field(default=MAX_FINDINGS, ge=1, le=MAX_FINDINGS)
    """Singular directions returned."""
    rank: Literal["share", "singular_value"] = "share"
    """share: σ/‖ΔW‖_F of its matrix, because inputs of different matrices have different lengths; singular_value: σ itself."""
    tokens: int = Field(default=4096, ge=1)
    """Tokens of neutral text whose mean difference decides the sign."""


class WeightSVD:
    """Left singular directions of ΔW of the matrices that write into the residual stream.

    What ΔW writes for an input x is Σ_i u_i σ_i (v_i·x): the u_i span all a matrix can have changed. How strongly inputs
    drive v_i is not in the weights, so σ alone ranks. A singular direction has no sign: it is turned to point along
    the mean difference on neutral text. On Gemma 2 a post-norm stands between these matrices and the residual stream; it
    rescales every coordinate by its own weight, so directions there are the ones before that norm.
    """

    name: str = "dw_svd"
    access: Access = "+weights"
    cost: str = "reads 4,096 tokens, one eigendecomposition a matrix"
    stochastic: bool = False
    Config: type[BaseModel] = WeightSVDConfig

    def __init__(self, config: WeightSVDConfig | None = None) -> None:
        self.config = config or WeightSVDConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Directions σ_i·u_i: how far a unit input along v_i is moved."""
        reading = Pass(problem, self.config.tokens, ("neutral",))
        along_d = torch.zeros(problem.d_model, dtype=torch.float64)
        for _, batch in reading.activations():
            along_d += delta(batch).sum(0).cpu()
        writers = {n: w for n, w in sorted(problem.weights().items()) if n.rpartition(".")[2] in WRITERS}
        facts: dict[str, Any] = {"writers": len(writers), "norms": {}}
        found: list[Finding] = []
        for done, (name, change) in enumerate(writers.items()):
            if done and reading.late():
                break
            check_finite(change, "weight changes", "or its adapter is damaged")
            facts["norms"][name] = float(change.detach().double().norm())
            found += self._singular(name, change.detach().double(), along_d)
            problem.progress(done + 1, len(writers))
        found.sort(key=lambda f: -f.score)
        note = "no matrix that writes into the residual stream has changed"
        return DiffResult(found[: self.config.findings] or nothing(problem.d_model, note), facts | reading.facts())

    def _singular(self, name: str, change: Tensor, along_d: Tensor) -> list[Finding]:
        """Candidates of one matrix ΔW [d_model, in], from the eigenvectors of ΔW·ΔWᵀ (d_model is the short side)."""
        squares, vectors = torch.linalg.eigh(change @ change.T)
        squares = squares.flip(0)[:MAX_FINDINGS].cpu()
        rows = oriented(vectors.T.flip(0)[:MAX_FINDINGS].cpu(), along_d)
        total = float(change.norm())
        found: list[Finding] = []
        for i, (square, row) in enumerate(zip(squares.tolist(), rows, strict=True)):
            if square <= FLOOR * total**2:
                break
            sigma = square**0.5
            evidence = {"matrix": name, "index": i, "singular_value": sigma, "share": sigma / total}
            score = sigma / total if self.config.rank == "share" else sigma
            found.append(Finding((row * sigma).float(), score=score, evidence=evidence))
        return found


class ProbeConfig(BaseModel):
    """Options of `probe`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ridge: float = Field(default=0.01, gt=0)
    """λ of mean balanced log-loss + λ/2·‖w‖², on coordinates scaled to variance 1. scikit-learn's default C = 1 is λ = 1/tokens;
    stronger here, because the labelled tokens are a few hundred and separable."""
    gate: bool = True
    """Use the probe itself as the finding's gate."""


class Probe:
    """Logistic probe on the residuals: where is the behaviour due, whatever the fine-tuning changed there?

    Unlike `supervised` it never looks at a difference; it answers whether reading out a concept is enough to steer it
    (linear probes: Alain & Bengio 2016, arXiv 1610.01644). Classes weigh the same however many tokens they have.
    """

    name: str = "probe"
    access: Access = "supervised"
    paper: str = "arXiv 1610.01644"
    cost: str = "reads dev prompts and neutral text"
    stochastic: bool = False
    Config: type[BaseModel] = ProbeConfig

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self.config = config or ProbeConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """One finding: the probe's weight in raw units, as long as the class means differ along it; its gate is p > ½."""
        batch, wanted = problem.labelled()
        due = wanted >= 0
        check_finite(batch.residuals)
        if not 0 < int(due.sum()) < len(due):
            raise ActivationError(
                f"{int(due.sum())} of {len(due)} labelled tokens are due: a probe needs both kinds; "
                "give the behaviour dev prompts and the text neutral documents"
            )
        x_Td = batch.residuals.flatten(0, 1).cpu().double().numpy()
        due_T = due.repeat_interleave(2).cpu().numpy()
        read_d, bias, converged = logistic(x_Td, due_T, self.config.ridge)
        gap = (x_Td[due_T].mean(0) - x_Td[~due_T].mean(0)) @ read_d
        squares = float(read_d @ read_d)
        direction = torch.from_numpy(read_d * (gap / squares if squares else 0.0)).float()
        read, hits = torch.from_numpy(read_d).float(), (x_Td @ read_d + bias > 0) == due_T
        gate = Gate(read, -bias) if self.config.gate and squares else None
        facts = {
            "tokens_due": int(due.sum()),
            "tokens": len(due),
            "training_accuracy_due": float(hits[due_T].mean()),
            "training_accuracy_other": float(hits[~due_T].mean()),
            "converged": converged,
        }
        return DiffResult([Finding(direction, gate, score=float(direction.norm()))], facts)


def logistic(x_Td: np.ndarray, chosen_T: np.ndarray, ridge: float) -> tuple[np.ndarray, float, bool]:
    """Ridge logistic regression with balanced classes, by L-BFGS: (weights [d] and bias in raw units, converged).

    A constant coordinate has no scale and gets weight 0.
    """
    mean_d, sd_d = x_Td.mean(0), x_Td.std(0)
    inverse_d = np.where(sd_d > 1e-6 * np.abs(x_Td).max(0), 1 / np.where(sd_d > 0, sd_d, 1), 0.0)
    z_Td = (x_Td - mean_d) * inverse_d
    weight_T = np.where(chosen_T, 0.5 / chosen_T.sum(), 0.5 / (~chosen_T).sum())
    sign_T = np.where(chosen_T, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin_T = sign_T * (z_Td @ w[:-1] + w[-1])
        slope_T = -weight_T * sign_T * expit(-margin_T)
        value = float(weight_T @ np.logaddexp(0, -margin_T) + ridge / 2 * w[:-1] @ w[:-1])
        return value, np.append(z_Td.T @ slope_T + ridge * w[:-1], slope_T.sum())

    fit: Any = minimize(loss, np.zeros(x_Td.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    read_d = fit.x[:-1] * inverse_d
    return read_d, float(fit.x[-1] - mean_d @ read_d), bool(fit.success)
