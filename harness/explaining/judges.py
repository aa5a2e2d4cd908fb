"""Who explains, and who tells by an explanation what is active: the n-grams themselves, or a language model behind an endpoint.

An answer is a number, yes where it is above 0; None is an answer that could not be read, which is counted and scored as nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..inspection.activations import spelled
from ..inspection.faces.words import parted
from . import prompts
from .contexts import Half, Window
from .endpoint import Endpoint, Reply
from .local import BaseReader
from .ngrams import Explanation, explained, held, marked, simulated
from .prompts import BATCH, TOP, Prompt

Answers = list[float | None]
CONTRAST = 10
"""Windows that are not active which a language model is shown: too many would hide the others."""


class Judge(Protocol):
    """Explains, and answers by explanations; answers come in the order of what was asked."""

    name: str
    graded: bool
    """Whether answers are more than yes and no."""
    most_simulated: int
    """Windows of each sort that are simulated."""

    def explain(self, half: Half) -> Explanation | None:
        """What makes its windows active; None: no answer could be read."""
        ...

    def explain_outputs(self, half: Half) -> Explanation | None:
        """What sets its first continuations apart."""
        ...

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> Answers:
        """Whether the explanation holds of each window."""
        ...

    def fuzz(self, explanation: Explanation, asked: Sequence[tuple[Window, Sequence[int]]]) -> Answers:
        """Whether the marks in each window are those that the explanation means."""
        ...

    def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> list[list[float] | None]:
        """The activation of each token; [] if the judge can tell of none."""
        ...

    def intrude(self, groups: Sequence[Sequence[Window]]) -> list[int | None]:
        """Which window of each group is unlike the others, from 0."""
        ...


class Rules:
    """No language model: an explanation is the rule that it stands for."""

    name, graded, most_simulated = "its n-grams", True, 10**6

    def __init__(self, tokenizer: Any, reader: BaseReader, seed: int):
        self.tokenizer, self.reader, self.seed = tokenizer, reader, seed

    def explain(self, half: Half) -> Explanation:
        """See `Judge`."""
        return explained(half, self.tokenizer, self.seed)

    def explain_outputs(self, half: Half) -> Explanation:
        """See `Judge`."""
        found = self.explain(half)
        words = ", ".join(f"“{t.text}”" for t in found.contexts)
        return replace(found, text=f"more often {words}" if words else found.text)

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> Answers:
        """See `Judge`."""
        return [held(explanation, w.ids) - explanation.level for w in windows]

    def fuzz(self, explanation: Explanation, asked: Sequence[tuple[Window, Sequence[int]]]) -> Answers:
        """See `Judge`."""
        return [marked(explanation, w, marks) - explanation.mark_level for w, marks in asked]

    def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> list[list[float] | None]:
        """See `Judge`."""
        return [simulated(explanation, w.ids) for w in windows]

    def intrude(self, groups: Sequence[Sequence[Window]]) -> list[int | None]:
        """The window that lies farthest from the mean of the others in the base's residuals."""
        found = list[int | None]()
        for group in groups:
            x = self.reader.vectors(group)
            rest = (x.sum(0) - x) / (len(group) - 1)
            found.append(int((x * rest).sum(1).div(x.norm(dim=1) * rest.norm(dim=1) + 1e-30).argmin()))
        return found


class Model:
    """A language model behind an endpoint."""

    graded, most_simulated = False, 10

    def __init__(self, tokenizer: Any, endpoint: Endpoint):
        self.tokenizer, self.endpoint, self.name = tokenizer, endpoint, endpoint.model

    def explain(self, half: Half) -> Explanation | None:
        """See `Judge`."""
        active = sorted(half.active, key=lambda w: -max(w.values))
        top = max((max(w.values) for w in active), default=1.0)
        asked = prompts.explain(
            [self.text(w, w.marks) for w in active],
            [self._strongest(w, top) for w in active],
            [self.text(w) for w in half.other[:CONTRAST]],
        )
        return self._said(asked)

    def explain_outputs(self, half: Half) -> Explanation | None:
        """See `Judge`."""
        return self._said(prompts.outputs([self.text(w) for w in half.active], [self.text(w) for w in half.other]))

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> Answers:
        """See `Judge`."""
        return self._batches(prompts.detect, explanation, [self.text(w) for w in windows])

    def fuzz(self, explanation: Explanation, asked: Sequence[tuple[Window, Sequence[int]]]) -> Answers:
        """See `Judge`."""
        return self._batches(prompts.fuzz, explanation, [self.text(w, marks) for w, marks in asked])

    def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> list[list[float] | None]:
        """See `Judge`; [] where the endpoint gives no log-probabilities, which one request shows."""
        asked = [prompts.simulate(explanation.text, spelled(self.tokenizer, w.ids)) for w in windows]

        def read(reply: Reply, i: int) -> list[float] | None:
            return prompts.read_activations(reply.logprobs, len(windows[i].ids)) if reply.logprobs else []

        first = self.endpoint.ask(asked[:1], read)
        return [[] for _ in windows] if first == [[]] else self.endpoint.ask(asked, read)

    def intrude(self, groups: Sequence[Sequence[Window]]) -> list[int | None]:
        """See `Judge`."""

        def read(reply: Reply, i: int) -> int | None:
            said = prompts.read_answers(reply.content, 1, len(groups[i]))
            return said[0] - 1 if said and said[0] else None

        return self.endpoint.ask([prompts.intrude([self.text(w) for w in g]) for g in groups], read)

    def text(self, window: Window, marks: Sequence[int] = ()) -> str:
        """A window as it reads, marked tokens in « »."""
        out = ""
        for i, token in enumerate(spelled(self.tokenizer, window.ids)):
            space, word = parted(token)
            out += f"{space}«{word}»" if i in marks else token
        return out.strip()

    def _strongest(self, window: Window, top: float) -> str:
        """The strongest tokens of a window with their activations on the scale that a model reads."""
        texts = spelled(self.tokenizer, window.ids)
        best = sorted(window.marks, key=lambda i: -window.values[i])[:BATCH]
        return ", ".join(f"{texts[i].strip()}: {max(1, round(TOP * window.values[i] / top))}" for i in best)

    def _said(self, asked: Prompt) -> Explanation | None:
        [text] = self.endpoint.ask([asked], lambda r, _: prompts.read_explanation(r.content))
        return None if text is None else Explanation(text)

    def _batches(self, ask: Any, explanation: Explanation, texts: list[str]) -> Answers:
        """Answers of ±1 by batches, the last of which may be short."""
        parts = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
        asked = [ask(explanation.text, part) for part in parts]
        said = self.endpoint.ask(asked, lambda r, i: prompts.read_answers(r.content, len(parts[i])))
        return [
            None if answers is None else 2.0 * answers[j] - 1
            for part, answers in zip(parts, said, strict=True)
            for j in range(len(part))
        ]
