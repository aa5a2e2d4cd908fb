"""Records of made strategies on lineup-test."""

from pathlib import Path

import numpy as np
from diffbench.harness.lineup.record import Identity, LineupRecord, Verdict, a_first
from diffbench.organisms.lineup.pairs import lineup_sets, pair_spec

NAMES = lineup_sets()["lineup-test"].organisms
KEY = "0" * 64


def record(
    strategy: str, right: float, names: tuple[str, ...] = NAMES, seed: int = 0, access: str = "activations"
) -> LineupRecord:
    """A strategy that is right with a probability."""
    drawn = np.random.default_rng([seed, len(strategy)]).random(len(names)) < right
    identity = Identity(
        strategy=strategy, strategy_version="1", access=access, config={}, seed=seed, code_sha256="0" * 64
    )
    verdicts = [
        Verdict(
            lineup=n,
            models_sha256="0" * 64,
            domain=pair_spec(n).domain,
            base=pair_spec(n).base,
            identical=False,
            a_is_faker=(first := a_first(n, seed, KEY)),
            probability=0.9 if ok == first else 0.1,
        )
        for n, ok in zip(names, drawn, strict=True)
    ]
    return LineupRecord(id=identity.id(), identity=identity, sets=[], key=KEY, verdicts=verdicts)


def write(made: LineupRecord, folder: Path) -> None:
    """Where a run into a folder of records writes it."""
    out = folder / "lineup" / made.identity.strategy / made.id[:12]
    out.mkdir(parents=True)
    made.write(out)
