"""The scores of one explanation: what was asked, of how many windows of the scored half, and what came of it.

Each is beside its chance level and beside the same score of other findings' explanations on the same windows (`shuffled`): what does not
depend on whose explanation it is says nothing about this one.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from ..inspection.report import Scorer, WordScore
from .contexts import Half, Window, rng_of, wrong_marks
from .judges import Answers, Judge
from .local import MOST_UNKNOWN, BaseReader, as_tokens
from .measures import Estimate, accuracy, auroc, balanced_accuracy, correlation
from .ngrams import Explanation

Metric = Literal["balanced accuracy", "AUROC", "Pearson r", "accuracy"]
CHANCE: dict[Metric, float] = {"balanced accuracy": 0.5, "AUROC": 0.5, "Pearson r": 0.0, "accuracy": 0.2}
GROUP = 5
"""Windows among which an intruder is looked for."""
MOST_FAILED = 0.5
"""Share of answers that may be missing before there is no score."""


def detection(judge: Judge, explanation: Explanation, half: Half, scorer: Scorer = "detection") -> WordScore:
    """Whether the explanation holds of a window: active ones against others, mixed."""
    windows = [*half.active, *half.other]
    said = _mixed(windows, lambda order: judge.detect(explanation, [windows[i] for i in order]))
    return _judged(judge, scorer, said[: len(half.active)], said[len(half.active) :])


def fuzzing(judge: Judge, explanation: Explanation, half: Half, seed: int) -> WordScore:
    """Whether marks are right: each active window twice, with its own marks and with as many wrong ones."""
    wrong = {w: wrong_marks(w, seed) for w in half.active}
    used = [w for w in half.active if wrong[w]]
    asked = [(w, m) for w in used for m in (w.marks[: len(wrong[w])], wrong[w])]
    said = _mixed([w for w, _ in asked], lambda order: judge.fuzz(explanation, [asked[i] for i in order]))
    return _judged(judge, "fuzzing", said[::2], said[1::2])


def simulation(judge: Judge, explanation: Explanation, half: Half) -> WordScore:
    """Activations said of the tokens against the true ones, over all windows of both sorts."""
    windows = [*_spread(half.active, judge.most_simulated), *half.other[: judge.most_simulated]]
    said = judge.simulate(explanation, windows)
    if windows and all(s == [] for s in said):
        return _score("simulation", "Pearson r", judge.name, None, 0, 0, 0, "the endpoint gives no log-probabilities")
    both = [(s, [max(0.0, v) for v in w.values], w) for s, w in zip(said, windows, strict=True) if s]
    failed = len(said) - len(both)
    active = sum(w.slice is not None for _, _, w in both)
    found = None if failed > MOST_FAILED * len(said) else correlation([b[0] for b in both], [b[1] for b in both])
    why = None
    if found is None:
        why = "the simulated activations never vary" if len(both) > len(said) / 2 else _unread(failed, len(said))
    return _score("simulation", "Pearson r", judge.name, found, active, len(both) - active, failed, why)


def intruder(judge: Judge, half: Half) -> WordScore:
    """Whether active windows of like strength have something in common that another lacks.

    It is about the finding: no explanation is read.
    """
    n = min(len(half.active) // (GROUP - 1), len(half.other))
    groups, right = list[list[Window]](), list[int]()
    for g in range(n):
        group = half.active[g * (GROUP - 1) : (g + 1) * (GROUP - 1)]
        at = int(rng_of("intruder", half.other[g].ids, group[0].ids).integers(GROUP))
        groups.append([*group[:at], half.other[g], *group[at:]])
        right.append(at)
    said = judge.intrude(groups)
    answered = [s == r for s, r in zip(said, right, strict=True) if s is not None]
    failed = n - len(answered)
    found = accuracy(answered) if failed <= MOST_FAILED * n else None
    by = "the base's residuals" if judge.graded else judge.name
    counts = ((GROUP - 1) * len(answered), len(answered), failed)
    return _score("intruder", "accuracy", by, found, *counts, None if found else _unread(failed, n))


def surprisal(reader: BaseReader, explanation: Explanation, half: Half) -> WordScore:
    """Whether the base predicts active windows better after the explanation than after generic text, more so than other windows."""
    return _by_base(reader, "surprisal", explanation, half)


def embedding(reader: BaseReader, explanation: Explanation, half: Half) -> WordScore:
    """Whether active windows lie nearer to the explanation than others do, as the base's mean residuals."""
    return _by_base(reader, "embedding", explanation, half)


def _by_base(
    reader: BaseReader, scorer: Literal["surprisal", "embedding"], explanation: Explanation, half: Half
) -> WordScore:
    ids, unknown = as_tokens(explanation, reader.pair.tokenizer)
    why = None
    if unknown > MOST_UNKNOWN:
        why = f"the base lacks {unknown:.0%} of the explanation's tokens, so it cannot read it"
    elif not ids:
        why = "the explanation names no token"
    if why:
        return _score(scorer, "AUROC", "the base", None, 0, 0, 0, why)
    read = reader.surprisal if scorer == "surprisal" else reader.nearness
    said = read(ids, [*half.active, *half.other])
    n = len(half.active)
    return _score(scorer, "AUROC", "the base", auroc(said[:n], said[n:]), n, len(half.other), 0, None)


def _judged(judge: Judge, scorer: Scorer, active: Answers, other: Answers) -> WordScore:
    """Yes or no of two sorts of windows."""
    a, o = [x for x in active if x is not None], [x for x in other if x is not None]
    asked, failed = len(active) + len(other), len(active) + len(other) - len(a) - len(o)
    enough = asked > 0 and failed <= MOST_FAILED * asked
    found = balanced_accuracy(a, o) if enough else None
    graded = auroc(a, o) if enough and judge.graded else None
    score = _score(
        scorer,
        "balanced accuracy",
        judge.name,
        found,
        len(a),
        len(o),
        failed,
        None if found else _unread(failed, asked),
    )
    return score.model_copy(update={"auroc": graded.value if graded else None})


def _score(
    scorer: Scorer,
    metric: Metric,
    by: str,
    found: Estimate | None,
    active: int,
    other: int,
    failed: int,
    why: str | None,
) -> WordScore:
    value, low, high = found or (None, None, None)
    said = {"value": value, "low": low, "high": high, "chance": CHANCE[metric]}
    counts = {"active": active, "other": other, "failed": failed}
    return WordScore.model_validate({"scorer": scorer, "metric": metric, "by": by, "why": why, **said, **counts})


def unscored(scorer: Scorer, by: str, why: str) -> WordScore:
    """A yes-or-no score that there is not, and why."""
    return _score(scorer, "balanced accuracy", by, None, 0, 0, 0, why)


def _unread(failed: int, asked: int) -> str:
    return f"{failed} of {asked} answers could not be read" if asked else "there was nothing to ask about"


def _mixed(windows: Sequence[Window], ask: Callable[[list[int]], Answers]) -> Answers:
    """Answers about windows that are asked about in an order which says nothing about them.

    Args:
        ask: answers to a list of indices.
    """
    order = rng_of("order", [w.ids for w in windows]).permutation(len(windows)).tolist()
    said: Answers = [None] * len(windows)
    for i, answer in zip(order, ask(order), strict=True):
        said[i] = answer
    return said


def _spread(windows: Sequence[Window], n: int) -> list[Window]:
    """At most n, evenly over the slices."""
    step = max(1, -(-len(windows) // n))
    return list(windows[::step])
