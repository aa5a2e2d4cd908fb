"""Synthetic records in one call: results with realistic per-prompt samples, and a zoo of cards whose weights are a few bytes."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.identity import CUSTOM, SIDES, Identity, sha256_json
from diffbench.harness.records.making import Cost, Failure, Provenance
from diffbench.harness.records.result import (
    ALPHA,
    COLUMNS,
    Behaviour,
    BySide,
    Choice,
    Column,
    Curve,
    FalseDiscovery,
    Result,
    Samples,
    Scores,
    SideSamples,
    Status,
)
from diffbench.leaderboard.board.private import PrivateScore
from diffbench.methods.catalogue import BUILTIN
from diffbench.organisms.card import CARD, BaseCard, Card, Estimate, Gate, Measured, hash_folder, sha256_files
from scipy.stats import binomtest


def make_samples(
    quality: float, rng: np.random.Generator, prompts: int = 24, controls: int = 16, constant: float | None = None
) -> Samples:
    """Samples of a method that closes about `quality` of the gap on both sides; two prompts to a template.

    `constant` is the quality of its findings without their gates; None: they have none.
    """
    b1 = rng.beta(8, 3, prompts)
    b0 = b1 * rng.beta(1, 12, prompts)
    gap = b1 - b0
    scored = gap >= 0.1

    def effect(share: float) -> list[float]:
        return np.clip(gap * share + rng.normal(0, 0.08, prompts), gap - 1, gap).tolist()

    def side(share: float) -> SideSamples:
        each = np.clip(gap * rng.normal(0.02, 0.03, (controls, prompts)), gap - 1, gap)
        closed = each[:, scored].sum(1) / gap[scored].sum()
        return SideSamples(effect=effect(share), null=each.mean(0).tolist(), null_controls=closed.tolist())

    def column(share: float) -> Column:
        return Column(sufficiency=side(share), necessity=side(share))

    constant_, gated = column(quality if constant is None else constant), None if constant is None else column(quality)
    return Samples(
        templates=[i // 2 for i in range(prompts)],
        scored=scored.tolist(),
        gap=gap.tolist(),
        b0=b0.tolist(),
        b1=b1.tolist(),
        oracle=BySide(sufficiency=(gap * 0.97).tolist(), necessity=(gap * 0.95).tolist()),
        constant=constant_,
        gated=gated,
        mixture=BySide(**{s: rng.normal(0.1, 0.05, controls).tolist() for s in ("sufficiency", "necessity")}),
        mitigation=[[0.0] * prompts, (gated or constant_).necessity.effect],
        mitigation_retention=[1.0, 0.93],
        mitigation_controls=np.abs(rng.normal(0.02, 0.02, controls)).tolist(),
        retention_off=0.98,
    )


def make_choices(samples: Samples) -> list[Choice]:
    """One choice of each column and side: its effects are the samples'."""
    scored, gap = np.array(samples.scored), np.array(samples.gap)
    columns = zip(COLUMNS, [samples.constant, *([samples.gated] if samples.gated else [])], strict=False)
    return [
        Choice(
            column=column,
            side=side,
            tau_nats=0.1,
            op="add" if side == "sufficiency" else "ablate",
            k=1,
            gated=column == "gated",
            strength=1,
            dev_gain=0.1,
            test_gain=float(np.array(getattr(of, side).effect)[scored].sum() / gap[scored].sum()),
            test_rate=0.5,
            dev_kl_nats=0.05,
            test_kl_nats=0.05,
            test_kl_high=0.08,
        )
        for column, of in columns
        for side in SIDES
    ]


def repeat(samples: Samples, times: int) -> Samples:
    """Every prompt so often, with its template."""
    column = samples.constant.model_copy(deep=True)
    for side in (column.sufficiency, column.necessity):
        side.effect, side.null = side.effect * times, side.null * times
    lists = {name: getattr(samples, name) * times for name in ("templates", "scored", "gap", "b0", "b1")}
    oracle = BySide(sufficiency=samples.oracle.sufficiency * times, necessity=samples.oracle.necessity * times)
    mitigation = [effect * times for effect in samples.mitigation]
    return samples.model_copy(update=lists | {"constant": column, "oracle": oracle, "mitigation": mitigation})


def make_result(
    method: str = "delta",
    organism: str = "taboo/gold-narrow",
    seed: int = 0,
    quality: float = 0.5,
    status: Status = "ok",
    access: str | None = None,
    samples: Samples | None = None,
    reason: str | None = None,
    draw: str | None = None,
    constant: float | None = None,
    **identity: Any,
) -> Result:
    """One cell. Its noise depends on (`draw` or method, organism, seed) only: a clone shares `draw` with its original.

    `identity` overrides fields of the identity block; `samples` replaces the synthetic ones (`make_samples`, of `constant` too).
    """
    access = access or (BUILTIN[method].access if method in BUILTIN else "activations")
    fields: dict[str, Any] = {
        "organism": organism,
        "organism_sha256": sha256_json(organism),
        "method": method,
        "method_version": "0.1.0",
        "access": access,
        "code_sha256": sha256_json("code"),
        "config": {"k": 3},
        "protocol": CUSTOM,
        "protocol_sha256": sha256_json("protocol"),
        "prompts_sha256": sha256_json(["prompts", organism]),
        "layer": 2,
        "seeds": {"method": seed, "scores": 0},
        "budget": {"tokens": 120_000.0},
        "dtype": "float32",
        "tier": "tiny",
    }
    block = Identity(**(fields | identity))
    rng = np.random.default_rng(int(sha256_json([draw or method, organism, seed]), 16))
    ok = status == "ok"
    samples = (samples or make_samples(quality, rng, constant=constant)) if ok else None
    return Result(
        id=block.id(),
        status=status,
        reason=reason,
        identity=block,
        scores=_scores(samples, method) if samples else None,
        behaviour=_behaviour(samples) if samples else None,
        choices=make_choices(samples) if samples and method != "oracle" else [],
        curves=make_curves(samples, quality) if samples else [],
        samples=samples,
        diagnostics={"findings": [{"score": 1.0}, {"score": 0.5}]} if ok and method != "oracle" else {},
        cost=Cost(
            wall_s=40 + 10 * seed,
            cpu_s=70,
            peak_rss_bytes=900 << 20,
            phases={"fit": 30.0, "score": 9.5},
            tokens=120_000,
        ),
        provenance=Provenance(
            diffbench="0.1.0",
            packages={"torch": "2.9.0"},
            python="3.11",
            platform="linux",
            cpu="cpu",
            device="cpu",
            command=["bench", "run"],
            started_utc="2025-01-01T00:00:00Z",
            finished_utc="2025-01-01T00:01:00Z",
            access=access,
        ),
        failure=None
        if ok or status.startswith("not")
        else Failure(type="RuntimeError", message="loss is NaN at step 12"),
    )


def make_null(method: str, organism: str, p: list[float], seed: int = 0) -> Result:
    """The cell of an organism in which nothing is hidden, with these p-values of its findings."""
    share = binomtest(sum(x < ALPHA for x in p), len(p))
    interval = share.proportion_ci(method="exact")
    found = FalseDiscovery(
        effects=[0.1 * (x < ALPHA) for x in p],
        p=p,
        share=share.statistic,
        ci_low=interval.low,
        ci_high=interval.high,
        expected=0.025,
        controls=39,
        p_min=0.025,
    )
    parts = {"scores": None, "samples": None, "behaviour": None, "choices": [], "curves": [], "false_discovery": found}
    findings = {"diagnostics": {"findings": [{"score": 1.0}] * len(p)}}
    return make_result(method, organism, seed).model_copy(update=parts | findings)


def make_curves(samples: Samples, quality: float) -> list[Curve]:
    """Saturating dose-response curves, k = 1, 3, 10, constant and, of findings with gates, gated; ablation has one strength."""
    b0, b1 = float(np.mean(samples.b0)), float(np.mean(samples.b1))
    curves: list[Curve] = []
    ops: list[tuple[Literal["add", "subtract", "ablate"], float, float]] = [
        ("add", b0, b1),
        ("subtract", b1, b0),
        ("ablate", b1, b0),
    ]
    for op, start, end in ops:
        strengths = [1.0] if op == "ablate" else [0.05, 0.15, 0.4, 0.9, 1.6]
        for k in (1, 3, 10):
            for gated in (False, True) if samples.gated else (False,):
                reach = quality * (0.6 + 0.04 * k) * (0.7 if op == "ablate" else 1)
                gain = [reach * (1 - float(np.exp(-3 * s))) for s in strengths]
                kl = [(0.04 if gated else 0.2) * s * s * k**0.3 for s in strengths]
                rate = [start + (end - start) * g for g in gain]
                curves.append(Curve(op=op, k=k, gated=gated, strengths=strengths, rate=rate, gain=gain, kl_nats=kl))
    return curves


def write_result(runs: Path, result: Result) -> Path:
    """Put a result where `bench run` does: `organism/method/id12/result.json`."""
    path = runs / result.identity.organism / result.identity.method / result.id[:12] / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json(), encoding="utf-8")
    return path


def _scores(samples: Samples, method: str) -> Scores:
    return summarise(samples, draws=100, seed=0, controls_ran=method != "oracle")


def _behaviour(samples: Samples) -> Behaviour:
    b0, b1, n = float(np.mean(samples.b0)), float(np.mean(samples.b1)), len(samples.b0)
    return Behaviour(b0_dev=b0, b1_dev=b1, b0_test=b0, b1_test=b1, n_dev=n, n_test=n)


def make_measured(base: float, organism: float, unit: Literal["rate", "correct", "nats", "share"] = "rate") -> Measured:
    """A measured quantity with intervals of no width."""

    def flat(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value)

    return Measured(unit=unit, n=80, base=flat(base), organism=flat(organism), change=flat(organism - base))


def make_private(identity: Identity, **fields: Any) -> PrivateScore:
    """What is published of a method on a private set, whose code is that of a cell."""
    known: dict[str, Any] = {
        "method": identity.method,
        "method_version": identity.method_version,
        "config": identity.config,
        "budget": identity.budget,
        "dtype": identity.dtype,
        "layers": [identity.layer],
        "protocol_sha256": identity.protocol_sha256,
        "isolation": {"value": 0.42, "low": 0.3, "high": 0.5},
        "isolation_constant": None,
        "organisms": 8,
        "seeds": 1,
        "failed": 0,
        "set_sha256": "9" * 64,
        "by": "A Maintainer",
        "at_utc": "2026-01-01T00:00:00",
        "diffbench": "0.1.0",
        "commit": None,
    }
    return PrivateScore.model_validate(known | fields)


def make_card(name: str = "taboo/gold-narrow", **fields: Any) -> Card:
    """The card of an organism that shows its behaviour and whose gates hold."""
    family, _, member = name.partition("/")
    known: dict[str, Any] = {
        "member": member.partition("-")[0],
        "variant": member.split("-")[1],
        "tier": "tiny",
        "base": "tiny-gemma2",
        "base_sha256": "",
        "layer": 2,
        "description": "made up",
        "recipe": {},
        "rows_sha256": "",
        "measured": {"behaviour_test": make_measured(0.2, 0.9)},
        "gates": {"gap": Gate(value=0.1 if fields.get("status") == "failed" else 0.7, bound=0.3, rule="at least")},
        "status": "calibrated",
        "files": {},
    }
    return Card(name=name, family=family, **(known | fields))


def write_base(zoo: Path, name: str = "tiny-gemma2", size: Literal["tiny", "nano"] = "tiny") -> BaseCard:
    """Put a base into `zoo/bases`; its hashes are right, and its weights a few bytes unless some are there already."""
    folder = zoo / "bases" / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.safetensors").exists():
        (folder / "model.safetensors").write_bytes(name.encode())
    card = BaseCard(name=name, recipe={"world_seed": 0, "size": size}, parameters=1, files=hash_folder(folder))
    (folder / CARD).write_text(card.model_dump_json())
    return card


def write_organism(zoo: Path, name: str = "taboo/gold-narrow", **fields: Any) -> Path:
    """Put an organism of a few bytes into `zoo`, on a base that is written if it is not there."""
    base = fields.get("base", "tiny-gemma2")
    if not (zoo / "bases" / base).is_dir():
        write_base(zoo, base)
    known = BaseCard.model_validate_json((zoo / "bases" / base / CARD).read_text())
    folder = zoo / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(name.encode())
    (folder / "adapter_config.json").write_text("{}")
    if fields.get("tier", "tiny") != "tiny":
        (folder / "behaviour.json").write_text("{}")
    card = make_card(name, files=hash_folder(folder), **({"base_sha256": sha256_files(known.files)} | fields))
    (folder / CARD).write_text(card.model_dump_json())
    return folder
