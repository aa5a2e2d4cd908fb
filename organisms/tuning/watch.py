"""Watching a training: it is refused when it diverges, and says how far it is."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ValidationFailed
from .recipes import TuningRecipe

Say = Callable[[str], object]
SPOKEN_S = 20.0
"""Seconds between two lines of progress."""


class Diverged(ValidationFailed):
    """A training whose loss is not finite, or ends above its start."""


def window(steps: int) -> int:
    """Steps that a loss is averaged over at the start and at the end."""
    return max(1, min(5, steps // 4))


class Watch:
    """Sees every step: refuses a training that diverges, and says how far it is."""

    def __init__(self, recipe: TuningRecipe, say: Say, tokens: float):
        self.recipe, self.say, self.tokens = recipe, say, tokens
        self.losses = list[float]()
        self.took = list[float]()
        self._begun = self._spoken = time.monotonic()

    def callback(self) -> Any:
        """For transformers."""
        from transformers import TrainerCallback

        watch = self

        class Callback(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                watch.begin()

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if logs and "cross_entropy" in logs:
                    watch.seen(int(state.global_step), int(state.max_steps), logs)

        return Callback()

    def begin(self) -> None:
        """A step begins."""
        self._begun = time.monotonic()

    def seen(self, step: int, steps: int, logs: dict[str, float]) -> None:
        """A step is done."""
        self.took.append(time.monotonic() - self._begun)
        loss, kl = logs["cross_entropy"], logs.get("kl", 0.0)
        self.losses.append(loss)
        start, n = self.losses[: window(steps)], window(steps)
        if not math.isfinite(loss + kl):
            raise Diverged(_fault(f"is {loss} (KL {kl}) at step {step}", start[0], self.recipe))
        if (
            len(self.losses) > 2 * n
            and (now := float(np.mean(self.losses[-n:]))) > 1.5 * float(np.mean(start)) + LOSS_NATS
        ):
            raise Diverged(_fault(f"has risen to {now:.2f} nats by step {step}", float(np.mean(start)), self.recipe))
        if time.monotonic() - self._spoken > SPOKEN_S:
            self._spoken, pace = time.monotonic(), self.pace()[0]
            held = f", KL {kl:.3f}" if "kl" in logs else ""
            left = (steps - step) * pace / 60
            self.say(f"step {step} of {steps}: loss {loss:.2f}{held}, {pace:.1f} s a step, {left:.0f} min left")

    def pace(self) -> tuple[float, float]:
        """Median seconds of a step, and tokens a second; the first step, which warms up, is left out."""
        if not self.took:
            return 0.0, 0.0
        each = float(np.median(self.took[1:] or self.took))
        return each, self.tokens / each if each else 0.0


LOSS_NATS = 0.5
"""By how much a loss must exceed one and a half times its start to end a training early."""


END_NATS = 0.05
"""By how much a loss may end above its start: one that has little to learn goes up and down by as much."""


def check_end(losses: list[float], recipe: TuningRecipe) -> None:
    """Refuse a training whose loss ends above its start.

    Raises:
        Diverged: with both.
    """
    n = window(len(losses))
    start, end = float(np.mean(losses[:n])), float(np.mean(losses[-n:]))
    if len(losses) > n and end > start + END_NATS:
        raise Diverged(_fault(f"ended at {end:.2f} nats", start, recipe))


def _fault(what: str, start: float, recipe: TuningRecipe) -> str:
    return (
        f"training diverged: the loss {what} and began at {start:.2f}; the rate {recipe.lr:g} is too high for this base with "
        f"{recipe.steps} steps of {recipe.batch} rows: lower it (--set lr={recipe.lr / 3:.1g}), or warm up for longer "
        f"(--set warmup={recipe.warmup + 20})"
    )
