"""A prompt of one's own: what both models answer with and without findings, and on which of its tokens these are active."""

from collections.abc import Sequence
from typing import Any, Literal

from ...organisms.errors import UsageError
from ...organisms.hub.shown import shown
from ...organisms.hub.tokens import encode
from ...organisms.texts import opening
from ..pairs.sinks import special_ids
from ..records.identity import Said
from ..runs.stage import Stage
from .activations import ReadOut, seen, spelled
from .answers import STRENGTH, Workshop, uses
from .faces.words import which
from .report import Answer, Part, Token, Use, shade
from .subject import Subject

Where = Literal["both", "base", "organism"]
STRONGEST = 1000
"""Most strength: far beyond it a residual overflows, and an answer is empty whatever was found."""


class Read(Part):
    """One finding along the prompt."""

    number: int
    gated: bool
    scale: float
    """Largest activation in either model."""
    tokens: list[Token]


class Trial(Part):
    """One prompt tried."""

    method: Said
    organism: Said
    layer: int
    prompt: Said
    raw: bool
    seed: int | None
    """None: greedy."""
    notes: list[Said]
    given: list[Literal["base", "organism"]]
    """Sides on which findings were to be put to use."""
    added: Use | None
    removed: Use | None
    answer: Answer
    read: list[Read]


def trial(
    subject: Subject,
    prompt: str,
    findings: Sequence[int] | None,
    strength: float | None,
    where: Where,
    gated: bool,
    raw: bool,
    tokens: int,
    seed: int | None,
    device: str = "cpu",
    work: Workshop | None = None,
) -> Trial:
    """Ask both models.

    Args:
        findings: numbers of those that are put to use together; None: as scoring did.
        strength: multiples of the mean residual norm; None: what scoring chose, or `STRENGTH`.
        where: to which side something is done.
        gated: whether only where gates are open.
        raw: plain text to be continued; else a user's turn in chat.
        tokens: longest answer.
        seed: of the sampling; None: greedy.
        device: where the models run.
        work: the subject's pair, if it is loaded.

    Raises:
        UsageError: an empty prompt, a finding that is not there, a strength that is none, gates that these findings do not have.
        PrerequisiteError: no findings at all. PairError: a prompt that the model was not made to read.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty; give a text: --prompt '…'")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the prompt is not UTF-8; give it in that encoding") from error
    if strength is not None and not 0 <= strength <= STRONGEST:
        raise UsageError(f"--strength {strength:g} is no strength; give a number from 0 to {STRONGEST:,}, e.g. .5")
    added, removed = planned(subject, findings, strength, gated)
    added, removed = (added if where != "organism" else None), (removed if where != "base" else None)
    if work is None:
        work = Workshop(Stage.load(subject.organism, device, drops=subject.drops), subject)
    tokenizer = work.stage.pair.tokenizer
    ids = encode(tokenizer, prompt, True) if raw else opening(tokenizer, [{"role": "user", "content": prompt}])
    answer = work.answer(prompt, ids, added, removed, tokens, seed)
    used = sorted({n for use in (added, removed) if use for n in use.findings})
    return Trial(
        method=subject.name,
        organism=subject.organism.name,
        layer=work.stage.pair.layer,
        prompt=prompt,
        raw=raw,
        seed=seed,
        notes=_notes(tokenizer, prompt),
        given=["base", "organism"] if where == "both" else [where],
        added=added,
        removed=removed,
        answer=answer,
        read=_read(work, ids, used),
    )


def a_prompt(subject: Subject) -> str:
    """A dev prompt of the organism that is one question.

    Raises:
        UsageError: it has none.
    """
    asked = (p for p in subject.organism.behaviour.of("dev") if p.text is None and len(p.messages) == 1)
    if (first := next(asked, None)) is None:
        raise UsageError(f"{subject.organism.name} has no prompt that is one question; give one: --prompt '…'")
    return first.messages[0].content


def planned(
    subject: Subject, findings: Sequence[int] | None, strength: float | None, gated: bool
) -> tuple[Use | None, Use | None]:
    """What is added to the base and what is taken out of the organism."""
    subject.chosen(list(findings or [1]))
    by_scoring = uses(subject)
    if findings is None and strength is None and not gated:
        return by_scoring
    numbers = list(findings) if findings is not None else (by_scoring[0] or by_scoring[1] or _default()).findings
    if gated and not any(subject.findings.findings[n - 1].gate for n in numbers):
        raise UsageError(
            f"no gate belongs to --finding {','.join(map(str, numbers))} of {subject.name}, so it is open nowhere; leave --gated out"
        )

    def of(op: Literal["add", "subtract"], use: Use | None) -> Use:
        at = strength if strength is not None else use.strength if use and use.op == op else STRENGTH
        chosen = "you"
        if strength is None:
            chosen = f"the strength of {which(use)}, {use.chosen}" if use and use.op == op else "the default"
        return Use(op=op, findings=numbers, gated=gated, strength=at, chosen=chosen)

    return of("add", by_scoring[0]), of("subtract", by_scoring[1])


def _default() -> Use:
    return Use(op="add", findings=[1], gated=False, strength=STRENGTH, chosen="the default")


def _read(work: Workshop, ids: list[int], numbers: Sequence[int]) -> list[Read]:
    """Activations of findings along the prompt."""
    found = [work.subject.findings.findings[n - 1] for n in numbers]
    values = seen(work.stage.pair, [ids], ReadOut.of(found, work.centre)).values
    texts, out = spelled(work.stage.pair.tokenizer, ids), list[Read]()
    for j, (n, f) in enumerate(zip(numbers, found, strict=True)):
        scale = float(values[:, :, j].max())
        rows = zip(texts, *values[:, :, j].tolist(), strict=True)
        tokens = [
            Token(text=t, base=b, organism=o, shade_base=shade(b, scale), shade_organism=shade(o, scale))
            for t, b, o in rows
        ]
        out.append(Read(number=n, gated=f.gate is not None, scale=scale, tokens=tokens))
    return out


def _notes(tokenizer: Any, prompt: str) -> list[str]:
    """Words that the model cannot read, and those that it reads as its template's."""
    ids, notes = tokenizer(prompt, add_special_tokens=False)["input_ids"], list[str]()
    unk = tokenizer.unk_token_id
    if unk is not None and unk in ids:
        words = [w for w in dict.fromkeys(prompt.split()) if unk in tokenizer(w, add_special_tokens=False)["input_ids"]]
        some = ", ".join(map(repr, words[:5])) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
        notes.append(
            f"The model has a closed vocabulary without {some or 'a part of this'}: read as {tokenizer.unk_token}."
        )
    if control := sorted({shown(tokenizer, i) for i in ids if i != unk and i in special_ids(tokenizer)}):
        notes.append(f"{', '.join(control)} in the prompt is read as a control token, not as text.")
    return notes
