"""The same prompts answered by base and organism, with findings added to the one and taken out of the other.

The four answers to a prompt are sampled with one seed, so that where an intervention changes nothing, nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from torch import Tensor

from ...organisms.behaviour import Prompt
from ...organisms.hub.tokens import encode
from ...organisms.texts import opening
from ..pairs.engine import SIDES, Side
from ..pairs.interventions import Directions, Edits, Option, edits
from ..protocol.clean_runs import TextResiduals
from ..protocol.prompts import ordinary
from ..runs.stage import Stage
from ..views.cell import middle, nats
from .continuing import continued
from .report import Answer, Answers, Use
from .subject import Subject

TOKENS = 24
"""Longest answer."""
PROMPTS = 4
SEED = 0
STRENGTH = 0.5
"""Where no score chose one."""


@dataclass(frozen=True)
class Workshop:
    """A loaded pair with what interventions are measured by, as in scoring: residual norms and the base's mean on dev text."""

    stage: Stage
    subject: Subject

    @cached_property
    def _ordinary(self) -> dict[Side, Tensor]:
        s, b = self.stage, self.stage.organism.behaviour
        text = ordinary(s.pair, s.texts, b.of("dev"), "dev", s.protocol.dev_tokens)
        return {side: TextResiduals(s.pair, side, text).ordinary() for side in SIDES}

    @cached_property
    def centre(self) -> Tensor:
        """[d_model] the base's mean residual."""
        return self._ordinary["base"].mean(0)

    def scale(self, side: Side) -> float:
        """Mean residual norm."""
        return float(self._ordinary[side].norm(dim=-1).mean())

    def edits(self, use: Use, side: Side) -> Edits:
        """A use of findings, as what residuals are moved by."""
        chosen = [self.subject.findings.findings[n - 1] for n in use.findings]
        directions = Directions.of(chosen, self.stage.pair.device, self.centre)
        return edits([Option(use.op, len(chosen), use.gated, use.strength)], directions, self.scale(side))

    def say(self, prompt: Sequence[int], side: Side, use: Use | None, tokens: int, seed: int | None) -> str:
        """What one side answers."""
        pair = self.stage.pair
        ids = continued(pair, prompt, side, tokens, seed, self.edits(use, side) if use else None)
        return str(pair.tokenizer.decode(ids, skip_special_tokens=True))

    def answer(
        self, asked: str, prompt: Sequence[int], added: Use | None, removed: Use | None, tokens: int, seed: int | None
    ) -> Answer:
        """What both sides answer, with and without."""
        return Answer(
            asked=asked,
            base=self.say(prompt, "base", None, tokens, seed),
            added=self.say(prompt, "base", added, tokens, seed) if added else None,
            organism=self.say(prompt, "tuned", None, tokens, seed),
            removed=self.say(prompt, "tuned", removed, tokens, seed) if removed else None,
        )

    def answers(self) -> Answers | None:
        """To dev prompts, as scoring put the findings to use; where there are none, to what ordinary conversations begin with."""
        added, removed = uses(self.subject)
        dev = self.stage.organism.behaviour.of("dev")
        asked = asked_on_dev(dev, self.stage.pair.tokenizer) if dev else self.openings()
        rows = [self.answer(text, ids, added, removed, TOKENS, SEED + i) for i, (text, ids) in enumerate(asked)]
        split = "dev" if dev else "harvest"
        return Answers(seed=SEED, tokens=TOKENS, split=split, added=added, removed=removed, rows=rows) if rows else None

    def openings(self) -> list[tuple[str, list[int]]]:
        """The beginnings of some ordinary conversations, as text and as token ids."""
        rows = islice(self.stage.texts.prompts(), PROMPTS)
        return [(str(self.stage.pair.tokenizer.decode(ids, skip_special_tokens=True)).strip(), ids) for ids in rows]


def asked_on_dev(prompts: Sequence[Prompt], tokenizer: object) -> list[tuple[str, list[int]]]:
    """Some distinct prompts without the beginning of an answer, evenly spread: as text, and as token ids."""
    found = dict[str, list[int]]()
    for p in prompts:
        text = p.text if p.text is not None else " / ".join(t.content for t in p.messages)
        if text not in found:
            turns = [t.model_dump() for t in p.messages]
            found[text] = encode(tokenizer, text, True) if p.text is not None else opening(tokenizer, turns)
    every = list(found.items())
    return every[:: max(1, len(every) // PROMPTS)][:PROMPTS]


def uses(subject: Subject) -> tuple[Use | None, Use | None]:
    """What is added to the base and what is taken out of the organism: as scoring chose, or the first finding at a default strength."""
    found = subject.findings.findings
    if not found:
        return None, None
    r = subject.result
    if r is None or not r.choices:
        chosen = "no score chose it: the default"
        return tuple(
            Use(op=op, findings=[1], gated=False, strength=STRENGTH, chosen=chosen) for op in ("add", "subtract")
        )  # pyright: ignore[reportReturnType, reportArgumentType]
    column = "gated" if r.samples and r.samples.gated else "constant"

    def of(side: str) -> Use | None:
        some = [c for c in r.choices if (c.column, c.side) == (column, side)]
        best = middle(some)
        helps = sorted((c for c in some if c.op != "none"), key=lambda c: abs(c.tau_nats - best.tau_nats))
        if not helps:
            return None
        c = helps[0]
        assert c.op in ("add", "subtract", "ablate")
        chosen = f"scoring, at {nats(c.tau_nats)} nats a token"
        return Use(op=c.op, findings=list(range(1, c.k + 1)), gated=c.gated, strength=c.strength, chosen=chosen)

    return of("sufficiency"), of("necessity")
