"""Findings explained and the explanations scored: everything is explained first, so that each score can be taken of another's as well."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from ..files import atomic_write_text
from ..inspection.explained import Beside, Explanations, explanations_of
from ..inspection.report import Explained, Scorer, WordScore
from ..inspection.subject import Subject
from . import scores
from .contexts import rng_of
from .endpoint import Endpoint
from .judges import Judge, Model, Rules
from .material import Material
from .ngrams import Explanation
from .prompts import VERSION
from .steering import Steered

SCORERS: tuple[Scorer, ...] = get_args(Scorer)
BY_BASE: tuple[Scorer, ...] = ("surprisal", "embedding")
"""Scorers that ask nobody."""
SHUFFLES = 2
"""Other findings' explanations that each score is taken of."""
OFFLINE = "n-grams"
"""The explainer without a language model."""
ALONE = "One finding alone is explained, so there is no other explanation to compare with: --finding 1-3"


class Words(NamedTuple):
    """One finding in words."""

    text: Explanation | None
    outputs: Explanation | None
    coverage: str


def explain(
    material: Material,
    endpoint: Endpoint | None,
    scorers: Sequence[Scorer] = SCORERS,
    shuffles: int = SHUFFLES,
    progress: Callable[[str], None] = lambda what: None,
) -> Explanations:
    """Explanations of all findings of a material, and their scores.

    Args:
        endpoint: whose model explains and judges; None: n-grams do.
        shuffles: others' explanations that each score is taken of as well.
    """
    words = explain_all(material, endpoint, "intervention" in scorers, progress)
    found = dict[int, Explained]()
    for number, own in words.items():
        progress(f"scoring the explanation of finding {number}")
        some = _others(number, words, shuffles, material.seed)
        scored = [_scored(material, number, s, own, some, endpoint) for s in scorers] if own.text else []
        found[number] = Explained(
            explainer=endpoint.model if endpoint else OFFLINE,
            text=own.text.text if own.text else None,
            outputs=own.outputs.text if own.outputs else None,
            coverage=own.coverage,
            scores=scored,
        )
    notes = ["Activations are of the organism, on harvest text; the organism's own prompts are not read."]
    if len(words) == 1:
        notes.append(ALONE)
    return Explanations(
        explainer=endpoint.model if endpoint else OFFLINE,
        prompts=VERSION if endpoint else None,
        seed=material.seed,
        tokens=material.tokens,
        notes=notes,
        findings=found,
    )


def explain_all(
    material: Material,
    endpoint: Endpoint | None,
    with_outputs: bool = True,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[int, Words]:
    """All findings of a material in words, by number.

    Args:
        with_outputs: whether also what they make the base say.
    """
    words = dict[int, Words]()
    for number in material.contexts:
        progress(f"explaining finding {number}")
        words[number] = _words(material, number, endpoint, with_outputs)
    return words


def keep(path: Path, subject: Subject, new: Explanations) -> None:
    """Write explanations beside what is there of other explainers, and of the same one under the same settings.

    Of the same one other findings stay, and of a finding that is said in the same words what was not asked for again.
    """
    old = explanations_of(subject)
    by = dict(old.by) if old else {}
    known = by.get(new.explainer)
    if known and (known.prompts, known.seed, known.tokens) == (new.prompts, new.seed, new.tokens):
        new = _together(known, new)
    by[new.explainer] = new
    file = Beside(findings_sha256=subject.sha256, organism_sha256=subject.organism.sha256, layer=subject.layer, by=by)
    atomic_write_text(path, file.model_dump_json(indent=1) + "\n")


def _together(old: Explanations, new: Explanations) -> Explanations:
    """Explanations of one explainer under one setting, from two calls."""
    again = {n: _again(old.findings[n], e) if n in old.findings else e for n, e in new.findings.items()}
    findings = dict(sorted((old.findings | again).items()))
    compared = any(s.shuffled for e in findings.values() for s in e.scores)
    notes = [n for n in dict.fromkeys([*old.notes, *new.notes]) if not (n == ALONE and compared)]
    return new.model_copy(update={"findings": findings, "notes": notes})


def _again(old: Explained, new: Explained) -> Explained:
    """A finding explained again: in other words nothing of the old stays; in the same, all that this call did not ask for."""
    if old.text != new.text:
        return new
    known = {s.scorer: s for s in old.scores}
    scores = known | {s.scorer: _compared(known.get(s.scorer), s) for s in new.scores}
    kept = [scores[name] for name in SCORERS if name in scores]
    return new.model_copy(update={"outputs": new.outputs or old.outputs, "scores": kept})


def _compared(old: WordScore | None, new: WordScore) -> WordScore:
    """A score taken again, with others' explanations beside it if it was compared with them before and is not now."""
    same = old is not None and old.shuffled and not new.shuffled and (old.by, old.value) == (new.by, new.value)
    return new.model_copy(update={"shuffled": old.shuffled}) if old and same else new


def _judge(material: Material, number: int, endpoint: Endpoint | None) -> Judge:
    tokenizer = material.stage.pair.tokenizer
    return Model(tokenizer, endpoint) if endpoint else Rules(tokenizer, material.reader(number), material.seed)


def _words(material: Material, number: int, endpoint: Endpoint | None, with_outputs: bool) -> Words:
    around = material.contexts[number]
    if around.why_not:
        return Words(None, None, around.why_not)
    judge = _judge(material, number, endpoint)  # reads windows that are not active, of which there are some only now
    text = judge.explain(around.explain)
    if text is None:
        return Words(None, None, f"no explanation could be read from the answers of {judge.name}")
    outputs = None
    if with_outputs and isinstance(steered := material.steered(number), Steered):
        outputs = judge.explain_outputs(steered.explain)
    e, s = around.explain, around.score
    coverage = (
        f"active in {around.active:,} of {around.documents:,} documents; explained by {len(e.active)} windows and {len(e.other)} others, "
        f"scored on {len(s.active)} and {len(s.other)} of other documents"
    )
    return Words(text, outputs, coverage)


def _others(number: int, words: dict[int, Words], most: int, seed: int) -> list[Words]:
    """Explanations of other findings, drawn."""
    rest = [n for n, w in words.items() if n != number and w.text]
    drawn = rng_of("shuffled", seed, number).permutation(len(rest))[:most].tolist()
    return [words[rest[i]] for i in drawn]


def _scored(
    material: Material, number: int, scorer: Scorer, own: Words, others: Sequence[Words], endpoint: Endpoint | None
) -> WordScore:
    """One score of a finding's explanation, and the same of others' on the same windows."""
    if scorer == "intruder":
        return score(material, number, scorer, own, endpoint)
    found = score(material, number, scorer, own, endpoint)
    said = [score(material, number, scorer, w, endpoint).value for w in others] if found.value is not None else []
    return found.model_copy(update={"shuffled": [v for v in said if v is not None]})


def score(material: Material, number: int, scorer: Scorer, words: Words, endpoint: Endpoint | None = None) -> WordScore:
    """One score of any words on one finding's scored windows."""
    half, text = material.contexts[number].score, words.text
    judge = _judge(material, number, endpoint)
    if scorer == "intervention":
        return _intervention(material, number, words, judge)
    assert text is not None
    match scorer:
        case "detection":
            return scores.detection(judge, text, half)
        case "fuzzing":
            return scores.fuzzing(judge, text, half, material.seed)
        case "simulation":
            return scores.simulation(judge, text, half)
        case "intruder":
            return scores.intruder(judge, half)
        case "surprisal":
            return scores.surprisal(material.reader(number), text, half)
        case "embedding":
            return scores.embedding(material.reader(number), text, half)


def _intervention(material: Material, number: int, words: Words, judge: Judge) -> WordScore:
    """Whether what a finding makes the base say is told from what random directions of equal KL make it say."""
    steered = material.steered(number)
    if isinstance(steered, str):
        return scores.unscored("intervention", judge.name, steered)
    if words.outputs is None:
        return scores.unscored("intervention", judge.name, "what it makes the base say was not explained")
    return scores.detection(judge, words.outputs, steered.score, "intervention")
