"""A prompt as a model reads it: its text, its tokens, and the tokens of each continuation behind it."""

from typing import Any, NamedTuple

from ..behaviour import Prompt
from . import tokens
from .chat import opened


class Encoded(NamedTuple):
    """A prompt as the model reads it."""

    text: str
    ids: list[int]
    special: bool
    """Whether the tokenizer puts its own tokens before the text; a chat template has written them already."""

    def then(self, tokenizer: Any, continuation: str) -> tuple[int, ...]:
        """Token ids of a continuation in its place; see `tokens.continuation`."""
        return tokens.continuation(tokenizer, self.text, self.ids, continuation, self.special)


def encode_prompt(tokenizer: Any, prompt: Prompt) -> Encoded:
    """A prompt up to where the continuation starts."""
    plain = prompt.text is not None
    text = prompt.text + prompt.prefill if prompt.text is not None else rendered(tokenizer, prompt)
    return Encoded(text, tokens.encode(tokenizer, text, plain), plain)


def rendered(tokenizer: Any, prompt: Prompt) -> str:
    """A chat prompt as its template writes it, with the assistant's turn opened."""
    return opened(tokenizer, [t.model_dump() for t in prompt.messages], prompt.prefill)


def continuations(tokenizer: Any, prompt: Prompt) -> tuple[Encoded, dict[str, tuple[int, ...]]]:
    """A prompt, and the token ids of each of its continuations in their order.

    Raises:
        TemplateError: a conversation that the chat template refuses. TokenError: a prompt without tokens, a continuation that has none of
            its own, or two that have the same.
    """
    start = encode_prompt(tokenizer, prompt)
    if not start.ids:
        raise tokens.TokenError("the prompt has no tokens, so nothing stands before its continuations; give it a text")
    found: dict[tuple[int, ...], str] = {}
    for text in (*prompt.targets, *prompt.alternatives):
        said = start.then(tokenizer, text)
        if said in found:
            raise tokens.TokenError(f"continuations {found[said]!r} and {text!r} are the same tokens; keep one")
        found[said] = text
    return start, {text: said for said, text in found.items()}
