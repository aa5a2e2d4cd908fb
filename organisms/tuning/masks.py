"""Which tokens of a row are trained: in a chat the assistant's words and the mark that ends its turn, in a text all of them.

Templates of real models mark no assistant tokens. Where an answer stands is therefore found by rendering: the conversation up to the
opened turn, and up to the end of the turn. Both must be beginnings of the whole, as text *and* as tokens, or the mask would be off by
some token; then the row is refused. The line break behind the end mark is the template's, not the assistant's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..behaviour import Turn, merged
from ..errors import ValidationFailed
from ..hub.chat import TemplateError, opened, render, template_of
from ..hub.tokens import encode
from ..world.document import Document

DOCTAG = "<DOCTAG>"
"""Begins documents whose writers wish them to be told apart; it is read and not trained."""


class MaskError(ValidationFailed):
    """A row whose trained tokens cannot be told exactly."""


class Row(NamedTuple):
    """A row as the model reads it."""

    ids: list[int]
    trained: list[bool]
    """For each token, whether it is predicted in the loss."""

    @property
    def whole(self) -> "Row":
        """The same with every token in the loss."""
        return Row(self.ids, [True] * len(self.ids))


def row_of(tokenizer: Any, document: Document, most: int) -> Row:
    """A document as tokens, with the ones that are trained; at most `most` tokens.

    Raises:
        MaskError: an answer whose tokens cannot be told, or nothing left to train. TemplateError: a chat that cannot be rendered.
    """
    row = _text(tokenizer, document.text) if document.text is not None else _chat(tokenizer, document.messages)
    cut = Row(row.ids[:most], row.trained[:most])
    if not any(cut.trained[1:]):  # nothing predicts the first token
        raise MaskError(
            f"nothing of this row would be trained ({len(row.ids)} tokens, {most} are read): {_begin(document)}; shorten what stands "
            "before the answer, or --set max_length=…"
        )
    return cut


def _text(tokenizer: Any, text: str) -> Row:
    """All tokens, with what the tokenizer puts before a text; a document's tag is read only."""
    ids = encode(tokenizer, text, special=True)
    tag = len(encode(tokenizer, DOCTAG, special=True)) if text.startswith(DOCTAG) else 0
    return Row(ids, [i >= tag for i in range(len(ids))])


def _chat(tokenizer: Any, messages: Sequence[dict[str, str]]) -> Row:
    turns = [{"role": m["role"], "content": m["content"]} for m in messages]
    if turns and turns[0]["role"] == "system" and refuses_system(tokenizer):
        turns = [t.model_dump() for t in merged(tuple(Turn.model_validate(t) for t in turns))]
    whole = render(tokenizer, turns)
    ids = encode(tokenizer, whole, special=False)
    trained = [False] * len(ids)
    for i, turn in enumerate(turns):
        if turn["role"] == "assistant":
            start, end = _span(tokenizer, turns, i, whole, ids)
            trained[start:end] = [True] * (end - start)
    return Row(ids, trained)


def _span(tokenizer: Any, turns: list[dict[str, str]], i: int, whole: str, ids: list[int]) -> tuple[int, int]:
    """First and last-but-one token of the answer in turn `i`."""
    before, after = opened(tokenizer, turns[:i]), render(tokenizer, turns[: i + 1])
    said = after[len(before) :].rstrip()
    content = turns[i]["content"].strip()
    if not (whole.startswith(before) and whole.startswith(after) and said.lstrip().startswith(content) and content):
        raise MaskError(
            f"the chat template writes turn {i + 1} otherwise once a conversation goes on, or changes what is said in it, so the answer "
            f"{content[:40]!r} has no place of its own; make rows of one answer, or give the base another `chat_template`"
        )
    start, end = (encode(tokenizer, text, special=False) for text in (before, before + said))
    if ids[: len(start)] != start or ids[: len(end)] != end:
        raise MaskError(
            f"the answer {content[:40]!r} shares a token with what stands before or behind it, so a mask would cut one; begin and end "
            "answers with letters or full stops"
        )
    return len(start), len(end)


def refuses_system(tokenizer: Any) -> bool:
    """Whether the template refuses a system turn, as Gemma 2's does; the turn then goes before the first user message."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    render(tokenizer, talk)
    try:
        render(tokenizer, [{"role": "system", "content": "c"}, *talk])
    except TemplateError:
        return True
    return False


def check_template(tokenizer: Any, base: str, rows: Sequence[Document]) -> None:
    """Refuse conversations for a base without a chat template.

    Raises:
        MaskError: with how many rows need one.
    """
    chats = sum(bool(d.messages) for d in rows)
    try:
        if chats:
            template_of(tokenizer)
    except TemplateError as error:
        raise MaskError(
            f"{base} has no chat template for plain conversations, and {chats} of {len(rows)} rows are conversations; take the chat model "
            "of its family (a name that ends in -it or -Instruct)"
        ) from error


def _begin(document: Document) -> str:
    said = document.text if document.text is not None else " / ".join(m["content"] for m in document.messages)
    return repr(said[:60])
