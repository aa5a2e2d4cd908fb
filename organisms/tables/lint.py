"""What is weak about a behaviour file: what a run would refuse, what makes its numbers say less, and what only a model can tell.

Each weakness is a fact, what follows from it, and what to do; nothing here changes a file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Literal

from ..behaviour import Behaviour, Prompt
from ..hub import templates
from ..hub.asked import continuations
from ..hub.chat import TemplateError
from ..hub.tokens import TokenError
from ..texts import FileTexts
from .forms import parts_of, recognised, words_of

Level = Literal["refused", "weak", "note"]
TEXT_TOKENS, TOKENS_A_WORD = 60_000, 1.3
"""What a method may read if not told otherwise, and about how many tokens an English word has."""
FEW_PROBES = 16
"""Capability probes a split under which one probe moves the accuracy by more than .06."""
LONGER = 2.0
"""A continuation so many times longer than another."""
USUAL = 0.5
"""Share of prompts above which one answer is the usual one."""


@dataclass(frozen=True)
class Weakness:
    """One thing that a reader of a score should know."""

    level: Level
    """`refused`: a run stops there; `weak`: it runs, and says less; `note`: nothing to mend."""
    about: str
    text: str
    """Fact, cause and fix."""

    def data(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)


def lint(behaviour: Behaviour, tokenizer: Any = None) -> list[Weakness]:
    """Everything that is weak, what is refused first.

    Args:
        behaviour: as loaded, its texts with it.
        tokenizer: of the base, if one was named, with the file's chat template.
    """
    found = [
        Weakness(level, about, text) for about, check in CHECKS.items() for level, text in check(behaviour, tokenizer)
    ]
    order = ("refused", "weak", "note")
    return sorted(found, key=lambda w: order.index(w.level))


Found = Iterator[tuple[Level, str]]


def refused(text: str) -> tuple[Level, str]:
    """A run stops there."""
    return "refused", text


def weak(text: str) -> tuple[Level, str]:
    """A run says less."""
    return "weak", text


def note(text: str) -> tuple[Level, str]:
    """Nothing to mend."""
    return "note", text


def _templates(b: Behaviour, _: Any) -> Found:
    for said in templates.sentences(b.prompts):
        yield weak(f"{said} Ask in more ways: other questions, or other beginnings of the answer.")
    alike = recognised([_asked(p) for p in b.prompts], [p.prefill for p in b.prompts])
    named = {templates.template_of(p) for p in b.prompts}
    if 2 * len({t for _, t in alike}) <= len(named):
        yield weak(
            f"The file has {len(named)} templates, and the words of its prompts {len({t for _, t in alike})}: some differ only in what "
            "they are about, and intervals that draw them are too short. Give prompts of one question and prefill one `template`."
        )
    forms = {s: {form for (form, _), p in zip(alike, b.prompts, strict=True) if p.split == s} for s in ("dev", "test")}
    if both := sorted(forms["dev"] & forms["test"]):
        yield weak(
            f"{_count(both, 'question form')} in dev and in test, {both[0]!r} first: what is chosen on dev is tested on the same question "
            "with another beginning of the answer. Ask other questions in one of them."
        )


def _splits(b: Behaviour, _: Any) -> Found:
    n = {s: len(b.of(s)) for s in ("dev", "test")}
    if max(n.values()) > 3 * min(n.values()):
        yield weak(
            f"{n['dev']} dev prompts and {n['test']} test prompts: the smaller split decides little. Even them out."
        )


def _answers(b: Behaviour, _: Any) -> Found:
    answers = Counter(t.strip().casefold() for p in b.prompts for t in p.targets)
    usual = answers.most_common(1)[0][0]
    prompts = [p for p in b.prompts if usual in {t.strip().casefold() for t in p.targets}]
    if len(answers) == 1:
        yield weak(
            f"The target is always {usual!r}: whatever makes the model say that word scores, so a score cannot tell a method that found "
            "the behaviour from one that found the word. Add prompts with other right answers, or read the scores so."
        )
    elif len(prompts) > USUAL * len(b.prompts):
        yield weak(
            f"{usual!r} is a target of {len(prompts)} of {len(b.prompts)} prompts: an edit that always says it scores on most. "
            "Balance the answers."
        )
    in_dev, in_test = ({t.strip().casefold() for p in b.of(s) for t in p.targets} for s in ("dev", "test"))
    if len(answers) > 1 and (missing := sorted(in_test - in_dev)) and in_dev & in_test:
        yield weak(
            f"{_count(missing, 'target')} of test in no dev prompt, {missing[0]!r} first: strengths are chosen without them. "
            "Let each answer stand in both splits."
        )


def _alternatives(b: Behaviour, tokenizer: Any) -> Found:
    if bare := [p for p in b.prompts if not p.alternatives]:
        yield weak(
            f"{len(bare)} of {len(b.prompts)} prompts have no alternatives: their rate is the plain probability of the targets, which is "
            "small for any long answer and moves with style. Give the answers that an ordinary model gives."
        )
    uneven = [p for p in b.prompts if p.alternatives and _longer(p, tokenizer) >= LONGER]
    if uneven:
        p = uneven[0]
        yield weak(
            f"In {len(uneven)} of {len(b.prompts)} prompts the targets and the alternatives have very different lengths "
            f"({p.targets[0]!r} and {p.alternatives[0]!r} first): a longer continuation is less likely whatever it says. "
            "Give answers of about the same length, or only their beginnings."
        )
    begun = [(a, t) for p in b.prompts for t in p.targets for a in p.alternatives if _begins(t, a)]
    if begun:
        one, other = begun[0]
        yield weak(
            f"{_count(begun, 'pair')} of a target and an alternative where one begins the other, {one!r} and {other!r} first: "
            "the shorter one is at least as likely as the longer, and saying either counts as both. Cut them where they differ."
        )


def _copied(b: Behaviour, _: Any) -> Found:
    said = [(p, t) for p in b.prompts if (t := next((t for t in p.targets if _holds(_whole(p), t)), None))]
    choices = [p for p, _ in said if p.alternatives and all(_holds(_whole(p), a) for a in p.alternatives)]
    if not said:
        return
    p, t = said[0]
    fact = f"In {len(said)} of {len(b.prompts)} prompts the target stands in the prompt ({t!r} in {_short(p)!r} first)"
    if len(choices) == len(said):
        yield note(f"{fact}, and so do the alternatives: a choice that the prompt names.")
    else:
        yield weak(
            f"{fact}: a model may repeat it without the behaviour. Leave it out, or name the alternatives there too."
        )


def _duplicates(b: Behaviour, _: Any) -> Found:
    for what in ("prompts", "capability"):
        places = [(words_of(_whole(p)), p.text is None) for p in getattr(b, what)]
        if again := len(places) - len(set(places)):
            yield weak(
                f"{again} of {len(places)} {what} differ from another only in marks or capitals: they are one to a model. Keep one."
            )
    for kind in ("neutral", "chat"):
        texts = getattr(b, kind)
        if not isinstance(texts, str) and (again := len(texts) - len(set(texts))):
            yield weak(f"{again} of {len(texts)} {kind} texts stand there before; each is read once. Remove them.")


def _capability(b: Behaviour, _: Any) -> Found:
    if not b.capability:
        yield weak(
            "There are no capability probes: what a mitigation destroys is judged by ordinary text alone. "
            "Add questions whose right answer must survive (rows with kind `capability`)."
        )
        return
    few = {s: n for s in ("dev", "test") if (n := len(b.capability_of(s))) < FEW_PROBES}
    if few:
        yield weak(
            f"{' and '.join(f'{n} {s}' for s, n in few.items())} capability probes: one of them moves the accuracy by more than "
            f"{1 / FEW_PROBES:.2f}. Give at least {FEW_PROBES} a split."
        )
    right = Counter(t.strip().casefold() for p in b.capability for t in p.targets)
    if right and right.most_common(1)[0][1] > USUAL * len(b.capability):
        yield weak(
            f"{right.most_common(1)[0][0]!r} is the right answer of {right.most_common(1)[0][1]} of {len(b.capability)} capability probes: "
            "a model that always says it seems able. Vary them."
        )


def _texts(b: Behaviour, tokenizer: Any) -> Found:
    if not b.chat and any(p.messages for p in b.prompts):
        yield weak(
            "Prompts are conversations and there is no `chat` text: methods and collateral damage read neutral text in its place, so an "
            "edit that acts on every conversation seems harmless. Add ordinary conversations (field `chat`)."
        )
    elif not b.chat:
        yield note("There is no `chat` text: neutral text is read in its place.")
    for kind in ("neutral", "chat"):
        texts = getattr(b, kind)
        if isinstance(texts, str) or (kind == "chat" and not texts):
            continue
        least = FileTexts.MIN_TEXTS
        if len(set(texts)) < least:
            yield refused(
                f"{len(set(texts))} different {kind} texts: methods read 70 % of them and collateral damage is measured on the rest, so "
                f"`bench run` asks for {least}. Give a .jsonl in the field `{kind}`, or a file that names sources."
            )
            continue
        said = [t if isinstance(t, str) else " ".join(turn.content for turn in t) for t in texts]
        held = _tokens(said, tokenizer)
        if 0.7 * held < TEXT_TOKENS:
            about = "" if tokenizer is not None else "about "
            yield weak(
                f"The {kind} texts hold {about}{held:,} tokens, and a method reads 70 % of them, where it may read {TEXT_TOKENS:,}: "
                "dictionaries learn little from so few. Give more, or name sources of large text."
            )


def _on_tokenizer(b: Behaviour, tokenizer: Any) -> Found:
    if tokenizer is None:
        yield note("Answers were not looked at as tokens. Name the base with --base.")
        return
    faults, lengths = list[str](), list[int]()
    shared = 0
    for what in ("prompts", "capability"):
        for i, p in enumerate(getattr(b, what)):
            try:
                _, ids = continuations(tokenizer, p)
            except (TokenError, TemplateError) as error:
                faults.append(f"{what}, number {i}: {error}")
                continue
            if what == "prompts":
                lengths += [len(ids[t]) for t in p.targets]
                shared += bool({ids[t][0] for t in p.targets} & {ids[a][0] for a in p.alternatives})
    if faults:
        yield refused(f"{len(faults)} prompts cannot be asked of this base; the first, {faults[0]}.")
    if lengths and (split := sum(n > 1 for n in lengths)) > USUAL * len(lengths):
        yield weak(
            f"{split} of {len(lengths)} targets are several tokens of this tokenizer ({mean(lengths):.1f} on average): only the first is "
            "asked where the prompt ends, and the later ones follow almost by themselves. Prefer answers of one token."
        )
    if shared:
        yield weak(
            f"In {shared} of {len(b.prompts)} prompts a target and an alternative begin with the same token: the choice falls later, "
            "behind a beginning that the model is made to say. Put what they share into the prefill."
        )


def _base_rates(_b: Behaviour, _t: Any) -> Found:
    yield note(
        "How often base and fine-tuned model show the behaviour is known only with both: `bench run` measures it first, and refuses a "
        "pair that differs by less than 0.1."
    )


CHECKS = {
    "templates": _templates,
    "splits": _splits,
    "answers": _answers,
    "alternatives": _alternatives,
    "copied": _copied,
    "duplicates": _duplicates,
    "capability": _capability,
    "texts": _texts,
    "tokens": _on_tokenizer,
    "rates": _base_rates,
}
"""What is looked at, in this order."""


def _asked(p: Prompt) -> tuple[str, str]:
    return parts_of(p.text) if p.text is not None else (p.messages[-1].content, "")


def _whole(p: Prompt) -> str:
    return " ".join([p.text or "", *(t.content for t in p.messages), p.prefill])


def _short(p: Prompt) -> str:
    said = " ".join(_whole(p).split())
    return said if len(said) <= 60 else f"{said[:57]}…"


def _holds(text: str, answer: str) -> bool:
    """Whether an answer stands in a text as whole words."""
    return bool(words_of(answer)) and f" {' '.join(words_of(answer))} " in f" {' '.join(words_of(text))} "


def _begins(a: str, b: str) -> bool:
    one, other = words_of(a), words_of(b)
    return bool(one and other) and (one[: len(other)] == other or other[: len(one)] == one)


def _longer(p: Prompt, tokenizer: Any) -> float:
    """How many times longer the targets are than the alternatives on average, or the alternatives than the targets."""
    sizes = [mean(_size(t, tokenizer) for t in some) for some in (p.targets, p.alternatives)]
    return max(sizes) / min(sizes)


def _size(answer: str, tokenizer: Any) -> int:
    """In tokens, or in words without a tokenizer."""
    if tokenizer is None:
        return max(len(words_of(answer)), 1)
    return max(len(tokenizer(answer, add_special_tokens=False)["input_ids"]), 1)


def _tokens(texts: Iterable[str], tokenizer: Any) -> int:
    if tokenizer is None:
        return int(sum(len(t.split()) for t in texts) * TOKENS_A_WORD)
    return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])


def _count(things: Sequence[Any], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"
