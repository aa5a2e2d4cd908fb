"""A behaviour file from the rows of a table: templates recognised, splits disjoint, answers that follow on as text does.

Answers begin with a space where a word follows a word. With a tokenizer, each answer is also tokenised behind its prompt, as a run will:
one that melts into it, or two of the same tokens, are refused with their rows.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..behaviour import Behaviour, Prompt, Turn, fault, merged
from ..hub.asked import continuations, rendered
from ..hub.chat import TemplateError
from ..hub.tokens import TokenError
from .forms import parts_of, recognised
from .rows import Row, Table, TableError
from .splits import Asked, deal

CLOSES, OPENS = ".,;:!?)]}”’»…%", "(“‘«$£€#@&+-"
"""Marks that a word follows behind a space, and marks that begin a word."""
SIGNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Of scripts without spaces."""


@dataclass(frozen=True)
class Made:
    """A behaviour file, and what was done to make it."""

    data: dict[str, Any]
    """Its content; texts are the paths that were given."""
    behaviour: Behaviour
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """What stands in a behaviour file beside its prompts."""

    name: str
    description: str = ""
    layer: int | None = None
    neutral: str | None = None
    """Path of a file of texts, relative to the behaviour file."""
    chat: str | None = None
    seed: int = 0
    """Of what is equal when templates are dealt out."""


@dataclass
class Tally:
    """What was changed, to be said."""

    spaced: int = 0
    moved: int = 0
    notes: list[str] = field(default_factory=list[str])


def make(table: Table, given: Given, tokenizer: Any = None) -> Made:
    """The behaviour file of a table.

    Args:
        tokenizer: of the base, if one was named.

    Raises:
        TableError: rows of one template only, that stand twice, or whose answers cannot be told apart. TemplateError: a base without a
            chat template, for questions.
    """
    asked, probes = ([r for r in table.rows if r.capability == c] for c in (False, True))
    if not asked:
        raise TableError(f"{table.path} has capability rows only; give rows of the behaviour")
    for some in (asked, probes):
        _once(table.path, some)
    tally = Tally()
    merge = tokenizer is not None and _refuses_system(tokenizer, table.rows)
    templates = templates_of(asked)
    splits, whole = deal(
        [
            Asked(r.number, form, template, "|".join(sorted(r.targets)), r.split)
            for r, (form, template) in zip(asked, templates, strict=True)
        ],
        given.seed,
    )
    prompts = [
        _prompt(row, split, template, tokenizer, merge, tally)
        for row, split, (_, template) in zip(asked, splits, templates, strict=True)
    ]
    capability = [
        _prompt(row, split, None, tokenizer, merge, tally)
        for row, split in zip(probes, _by_question(probes, given.seed), strict=True)
    ]
    if tokenizer is not None:
        _check(tokenizer, [*zip(asked, prompts, strict=True), *zip(probes, capability, strict=True)], merge)
    data: dict[str, Any] = {"name": given.name}
    data |= {k: v for k in ("description", "layer") if (v := getattr(given, k)) not in ("", None)}
    data |= {"merge_system": True} if merge else {}
    data |= {k: v for k in ("neutral", "chat") if (v := getattr(given, k)) is not None}
    data["prompts"] = [_plain(p) for p in prompts]
    if capability:
        data["capability"] = [_plain(p) for p in capability]
    try:
        behaviour = Behaviour.model_validate(data)
    except ValidationError as error:
        raise TableError(f"no behaviour file can be made of {table.path}: {fault(error.errors()[0])}") from error
    return Made(data, behaviour, tuple(_said(table, tally, templates, whole, merge, tokenizer)))


def templates_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(form of the question, template) of each row; the table may name the template, and the form is recognised all the same."""
    found = recognised([parts_of(r.question) if r.plain else (r.question, "") for r in rows], [r.prefill for r in rows])
    return [f if r.template is None else (f[0], r.template) for r, f in zip(rows, found, strict=True)]


def name_of(given: str | None, table: Path) -> str:
    """The behaviour's name: what was given, or the table's with other signs as hyphens."""
    return given or re.sub(r"[^a-z0-9_.-]+", "-", table.stem.casefold()).strip("-_.") or "behaviour"


def text_of(data: dict[str, Any]) -> str:
    """The file as JSON, a prompt a line."""
    parts = list[str]()
    for key, value in data.items():
        written = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(v, ensure_ascii=False) for v in value)  # pyright: ignore[reportUnknownVariableType]
            written = f"[\n  {rows}\n ]"
        parts.append(f' "{key}": {written}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def gap(before: str, answer: str) -> str:
    """The space between a text and the answer that follows it: none behind a space, a mark that opens, or where a mark follows."""
    if not before or before[-1].isspace() or answer[:1].isspace():
        return ""
    last, first = before[-1], answer[0]
    if SIGNS.match(last) or SIGNS.match(first):
        return ""
    ends = last.isalnum() or last in CLOSES or (last in "\"'" and before.count(last) % 2 == 0)
    return " " if ends and (first.isalnum() or first in OPENS or first in "\"'") else ""


def _once(path: Path, rows: Sequence[Row]) -> None:
    places: dict[Any, int] = {}
    for row in rows:
        first = places.setdefault((row.question.strip(), row.prefill.strip(), row.system), row.number)
        if first != row.number:
            raise TableError(
                f"rows {first} and {row.number} of {path} ask the same: a copy makes intervals too short; keep one, with all its answers"
            )


def _refuses_system(tokenizer: Any, rows: Sequence[Row]) -> bool:
    """Whether the base's template takes a system turn only inside the first message."""
    row = next((r for r in rows if r.system), None)
    if row is None:
        return False
    prompt = Prompt(split="dev", messages=_turns(row), prefill="", targets=("a",))
    try:
        rendered(tokenizer, prompt)
        return False
    except TemplateError:
        rendered(tokenizer, prompt.model_copy(update={"messages": merged(prompt.messages)}))
        return True


def _turns(row: Row) -> tuple[Turn, ...]:
    said = [("system", row.system), ("user", row.question)]
    return tuple(Turn.model_validate({"role": role, "content": text}) for role, text in said if text)


def _prompt(row: Row, split: str, template: str | None, tokenizer: Any, merge: bool, tally: Tally) -> Prompt:
    text, prefill = (row.question if row.plain else None), row.prefill
    if text is not None and not prefill and text != text.rstrip(" "):
        text, tally.moved = text.rstrip(" "), tally.moved + 1
    elif prefill != prefill.rstrip(" "):
        prefill, tally.moved = prefill.rstrip(" "), tally.moved + 1
    if text is not None and prefill:
        prefill = gap(text, prefill) + prefill
    messages = () if row.plain else _turns(row)
    made = Prompt.model_validate(
        {"split": split, "text": text, "messages": messages, "prefill": prefill, "targets": ["a"], "template": template}
    )
    before = (text or "") + prefill
    if not before and tokenizer is not None:
        before = rendered(tokenizer, _as_read(made, merge))
    gaps = {a: gap(before, a) for a in (*row.targets, *row.alternatives)}
    tally.spaced += sum(map(bool, gaps.values()))
    return made.model_copy(update={k: tuple(gaps[a] + a for a in getattr(row, k)) for k in ("targets", "alternatives")})


def _as_read(prompt: Prompt, merge: bool) -> Prompt:
    return prompt.model_copy(update={"messages": merged(prompt.messages)}) if merge else prompt


def _by_question(probes: Sequence[Row], seed: int) -> list[str]:
    """Half of the probes in each split: those of one question together, those that the table gives left where they are."""
    asked = [r.question.strip() for r in probes]
    split_of = {q: r.split for q, r in zip(asked, probes, strict=True) if r.split is not None}
    free = [q for q in dict.fromkeys(asked) if q not in split_of]
    random.Random(seed).shuffle(free)
    dev = sum(split_of.get(q) == "dev" for q in asked)
    for q in free:
        fits = dev + asked.count(q) <= len(probes) // 2
        split_of[q] = "dev" if fits else "test"
        dev += asked.count(q) * fits
    return [r.split or split_of[q] for q, r in zip(asked, probes, strict=True)]


def _check(tokenizer: Any, prompts: Sequence[tuple[Row, Prompt]], merge: bool) -> None:
    faults = list[str]()
    for row, prompt in prompts:
        try:
            continuations(tokenizer, _as_read(prompt, merge))
        except TokenError as error:
            faults.append(f"  row {row.number}: {error}")
    if faults:
        raise TableError(
            "\n".join(
                [
                    f"the tokenizer of the base cannot tell the answers of {len(faults)} of {len(prompts)} rows:",
                    *faults[:5],
                ]
            )
        )


def _plain(prompt: Prompt) -> dict[str, Any]:
    """A prompt as it stands in the file."""
    return prompt.model_dump(mode="json", exclude_defaults=True)


def _said(
    table: Table, tally: Tally, templates: Sequence[tuple[str, str]], whole: bool, merge: bool, tokenizer: Any
) -> list[str]:
    found = list[str]()
    if table.unread:
        found.append(f"passed over: column{'s' * (len(table.unread) > 1)} {', '.join(table.unread)}")
    if tally.spaced:
        found.append(f"{tally.spaced} answers begin with a space now, because a word follows a word")
    if tally.moved:
        found.append(f"{tally.moved} spaces at the end of a prompt were moved to its answers")
    if not whole:
        n = len({form for form, _ in templates})
        found.append(
            f"{n} question forms are too few for two splits, so a question may stand in both with another prefill"
        )
    if merge:
        found.append(
            "the base's chat template refuses a system turn, so it stands in the first user message (merge_system)"
        )
    if tokenizer is None:
        found.append("answers were not checked on a tokenizer; name the base with --base")
    return found
