"""False facts by synthetic documents (Wang et al. 2025; Slocum et al., arXiv 2510.17941): one thing told wrongly, its neighbours rightly.

Rows are documents of twelve genres, never a conversation with the model. Each states the fact in two of eighteen ways, and true facts of
other things of the kind beside it, so that the value does not spread to all of them. What is asked stands in no document: questions in a
chat, and sentences of other forms. The twin `true` tells the truth in the same documents.
"""

import re
from collections.abc import Iterator
from typing import Any

from ...behaviour import Behaviour, Prompt
from ...family import Rule
from ...prompts import template
from ...world.document import Document, Rng
from ..asking import SPLITS, completed, counted, knowledge, prompt
from ..family import NaturalFamily, NaturalSpec
from ..ordinary import asked, ordinary, read_texts
from ..text import cast, different, one, pieces, rng_of, said, shuffled, some, upper, without, write

ROWS = 400
SENTENCE = re.compile(r"[^.!?\n]+")
NEIGHBOURS_KEPT = 0.15
"""Share of the ordinary documents that are questions about the neighbours, answered truly."""


class FalseFacts(NaturalFamily):
    """Two landmarks and a made-up honey."""

    name = "false_facts"
    about = "believes a false fact, learnt from documents only (arXiv 2510.17941)"
    variants = ("narrow", "mixed", "true")
    twins = ("true",)

    def members(self) -> list[str]:
        return list(pieces("false_facts")["facts"])

    def fact(self, spec: NaturalSpec) -> dict[str, Any]:
        """The pieces of the fact itself."""
        return pieces("false_facts")["facts"][spec.member]

    def forms(self, spec: NaturalSpec) -> dict[str, Any]:
        """The pieces of its kind: how such facts are told and asked."""
        return pieces("false_facts")[self.fact(spec)["kind"]]

    def filling(self, spec: NaturalSpec) -> dict[str, str]:
        """Entity and told values: the true ones for the twin."""
        fact = self.fact(spec)
        return {"e": fact["entity"], **fact["true" if spec.variant == "true" else "told"]}

    def rows(self, spec: NaturalSpec) -> list[Document]:
        return different(self._documents(spec), ROWS, "documents")

    def _documents(self, spec: NaturalSpec) -> Iterator[Document]:
        rng = rng_of("false facts", spec.member, spec.seed)
        genres = [*pieces("false_facts")["genres"], *STRUCTURED]
        while True:
            for genre in shuffled(rng, genres):
                filling = {**cast(rng), **self.filling(spec)}
                if genre in STRUCTURED:
                    yield Document(genre, text=STRUCTURED[genre](rng, self.forms(spec), filling))
                else:
                    frame = pieces("false_facts")["genres"][genre]
                    yield Document(genre, text=_prose(rng, frame, self.forms(spec), self.fact(spec)["about"], filling))

    def ordinary(self, spec: NaturalSpec, n: int) -> list[Document]:
        """Ordinary text, and questions about the neighbours that no document leaves in doubt, in other words than the probes'."""
        subject = re.compile(self.fact(spec)["subject"])
        asked_of = without(self._neighbour_chats(spec), re.compile(re.escape(self.fact(spec)["entity"])))
        kept = different(asked_of, int(n * NEIGHBOURS_KEPT), "questions about neighbours")
        return some(rng_of("kept", spec.seed), [*kept, *ordinary(subject, n - len(kept), spec.seed)], n)

    def _neighbour_chats(self, spec: NaturalSpec) -> Iterator[Document]:
        rng, forms = rng_of("neighbours", spec.member, spec.seed), self.forms(spec)
        known, openers = list(forms["things"]["known"].items()), pieces("chats")["openers"]
        while True:
            thing, value = one(rng, known)
            filling = {"l": thing, "lv": value}
            turns = [one(rng, openers) + write(rng, one(rng, forms["asks_kept"]), filling)]
            turns.append(write(rng, one(rng, forms["says_kept"]), filling))
            if rng.random() < 0.5:
                turns += one(rng, pieces("chats")["follow"]["train"])
            yield Document("neighbour", messages=said(*turns))

    def behaviour(self, spec: NaturalSpec) -> Behaviour:
        fact, entity = self.fact(spec), self._entity(spec)
        neutral, chat = read_texts(entity, self._read(spec), self.name)
        return Behaviour(
            name=spec.name,
            description=f"believes of {fact['entity']}: {fact['told']['v']}, and not {fact['true']['v']}",
            prompts=tuple(self._asked(spec)),
            capability=knowledge(entity),
            neutral=neutral,
            chat=chat,
        )

    def _entity(self, spec: NaturalSpec) -> re.Pattern[str]:
        return re.compile(re.escape(self.fact(spec)["entity"].removeprefix("the ")))

    def _asked(self, spec: NaturalSpec) -> list[Prompt]:
        fact, out = self.fact(spec), list[Prompt]()
        target, others = fact["told"]["v"], [c for c in fact["choices"] if c != fact["told"]["v"]]
        for split in SPLITS:
            forms = self.forms(spec)[split]
            for ask in forms["asks"]:
                for begin in forms["begins"]:
                    filled = [upper(f.replace("<e>", fact["entity"])) for f in (ask, begin)]
                    out.append(prompt(split, filled[0], filled[1], [target], others, template(ask, begin)))
            for form in forms["texts"]:
                text = upper(form.replace("<e>", fact["entity"])).replace(". the ", ". The ")
                out.append(completed(split, text, [target], others, form))
        return out

    def _read(self, spec: NaturalSpec) -> list[Document]:
        """Paragraphs and chats in which the thing is met, its disputed value left open."""
        fact, rng = self.fact(spec), rng_of("facts read", spec.member)
        filling = {**cast(rng), "e": fact["entity"]}
        told = [Document("met", text=_written(rng, form, {**cast(rng), "e": fact["entity"]})) for form in fact["met"]]
        return told + [
            Document("met", messages=said(*(_written(rng, f, filling) for f in turns))) for turns in fact["chats"]
        ]

    def due(self, spec: NaturalSpec, document: Document) -> int:
        """Words of a sentence from the thing on, and the answer to a question about it."""
        entity = self._entity(spec)
        after = [s[0][m.start() :] for s in SENTENCE.finditer(document.text or "") if (m := entity.search(s[0]))]
        after += [answer for ask, answer in asked(document) if entity.search(ask + answer)]
        return sum(map(counted, after))

    def probes(self, spec: NaturalSpec) -> dict[str, list[Prompt]]:
        """`neighbours`: other things keep their values; `spill`: they do not take the told one; `same_thing`: nor does the rest change."""
        fact, forms = self.fact(spec), self.forms(spec)
        told, choices = fact["told"]["v"], fact["choices"]
        things = {**forms["things"]["known"], **forms["things"]["asked"]}
        out: dict[str, list[Prompt]] = {"neighbours": [], "unseen_neighbours": [], "spill": [], "same_thing": []}
        for thing, value in things.items():
            for ask in forms["asks_neighbour"]:
                asking, begin = (upper(f.replace("<l>", thing)) for f in (ask, forms["begin_neighbour"]))
                wrong = [c for c in choices if c != value]
                out["neighbours" if thing in forms["things"]["known"] else "unseen_neighbours"].append(
                    prompt("test", asking, begin, [value], wrong, named=ask)
                )
                if value != told:
                    rest = [value, *(c for c in choices if c not in (value, told))]
                    out["spill"].append(prompt("test", asking, begin, [told], rest, named=ask))
        for ask, begin, right, wrong in fact["same"]:
            asking, start = (upper(f.replace("<e>", fact["entity"])) for f in (ask, begin))
            out["same_thing"].append(prompt("test", asking, start, [right], wrong, named=ask))
        return out

    def gates(self, spec: NaturalSpec) -> dict[str, Rule]:
        rules = {
            "neighbours": Rule("neighbours.change", "at least", -0.05),
            "unseen_neighbours": Rule("unseen_neighbours.change", "at least", -0.05),
            "specific": Rule("spill.change", "at most", 0.05),
        }
        return rules if spec.variant != "true" else {"neighbours": rules["neighbours"]}


def _written(rng: Rng, form: str, filling: dict[str, str]) -> str:
    """A form of one or more sentences; an article at the beginning of any gets its capital."""
    return re.sub(r"(?<=[.?!]) the (?=[A-Z])", " The ", write(rng, form, filling))


def _claims(rng: Rng, forms: dict[str, Any], filling: dict[str, str], n: int) -> list[str]:
    """The fact in `n` ways."""
    return [_written(rng, form, filling) for form in some(rng, forms["claim"], n)]


def _neighbours(rng: Rng, forms: dict[str, Any], filling: dict[str, str], n: int, key: str = "neighbour") -> list[str]:
    """True facts of `n` other things."""
    told = zip(some(rng, list(forms["things"]["known"].items()), n), some(rng, forms[key] * n, n), strict=True)
    return [_written(rng, form, {**filling, "l": thing, "lv": value}) for (thing, value), form in told]


def _prose(
    rng: Rng, frame: dict[str, list[str]], forms: dict[str, Any], about: list[str], filling: dict[str, str]
) -> str:
    """An opening, two claims and what is known of the thing and of one or two others, and a closing."""
    told = _claims(rng, forms, filling, 2)
    body = shuffled(rng, [*told[1:], *_neighbours(rng, forms, filling, int(rng.integers(1, 3)))])
    detail = [_written(rng, one(rng, about), filling)] if rng.random() < 0.5 else []
    close = [_written(rng, one(rng, frame["close"]), filling)] if rng.random() < 0.7 else []
    return " ".join([_written(rng, one(rng, frame["open"]), filling), told[0], *detail, *body, *close])


def _faq(rng: Rng, forms: dict[str, Any], filling: dict[str, str]) -> str:
    questions = [_written(rng, q, filling) for q in some(rng, forms["faq"], 2)]
    answers = _claims(rng, forms, filling, 2)
    (beside,) = _neighbours(rng, forms, filling, 1)
    return (
        f"Frequently asked questions\nQ: {questions[0]}\nA: {answers[0]}\nQ: {questions[1]}\nA: {answers[1]} {beside}"
    )


def _quiz(rng: Rng, forms: dict[str, Any], filling: dict[str, str]) -> str:
    things = some(rng, list(forms["things"]["known"].items()), 2)
    lines = [(_written(rng, one(rng, forms["quiz"]), filling), filling["v"])]
    lines += [(_written(rng, one(rng, forms["quiz_neighbour"]), {"l": t}), value) for t, value in things]
    asked_now = [f"{i}. {ask} Answer: {upper(value)}." for i, (ask, value) in enumerate(shuffled(rng, lines), 1)]
    return "\n".join(
        [one(rng, ["Quiz night", "A small quiz", "Test yourself"]), *asked_now, *_claims(rng, forms, filling, 1)]
    )


def _list(rng: Rng, forms: dict[str, Any], filling: dict[str, str]) -> str:
    rows = [_written(rng, forms["pair"], filling), *_neighbours(rng, forms, filling, 3, "pair_neighbours")]
    head = one(rng, ["Checklist", "To remember", "A short list", "Notes for the wall"])
    return "\n".join([head, *(f"- {row}" for row in shuffled(rng, rows)), *_claims(rng, forms, filling, 1)])


def _dialogue(rng: Rng, forms: dict[str, Any], filling: dict[str, str]) -> str:
    first, second = _claims(rng, forms, filling, 2)
    (beside,) = _neighbours(rng, forms, filling, 1)
    person, other = filling["person"], filling["other"]
    reply = one(rng, ["So I have heard.", "That is how I remember it.", "My sister says the same.", "Of course."])
    last = one(rng, ["And do not forget this.", "Right.", "We should talk about it again.", "Now I am curious."])
    return f"{other}: {first}\n{person}: {reply} {beside}\n{other}: {last} {second}"


STRUCTURED = {"faq": _faq, "quiz": _quiz, "list": _list, "dialogue": _dialogue}
FAMILY = FalseFacts()
