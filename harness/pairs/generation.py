"""Decoding, set in full by us: a model's `generation_config` may ask for a repetition penalty, and transformers would obey."""

import contextlib
from collections.abc import Generator
from typing import Any


@contextlib.contextmanager
def decoding(model: Any, tokenizer: Any, max_new_tokens: int, sample: bool) -> Generator[Any, None, None]:
    """A `GenerationConfig` that is greedy, or samples at temperature 1, and stops where a turn or a text ends.

    Inside the block the model has no defaults of its own: transformers fills every field that is not set from them.
    """
    from transformers import GenerationConfig

    defaults = model.generation_config
    stops = defaults.eos_token_id
    ends = {tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])}
    ends |= {tokenizer.convert_tokens_to_ids(t) for t in ENDS_OF_TURN if t in tokenizer.get_vocab()}
    chosen: dict[str, Any] = (
        {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0} if sample else {"do_sample": False}
    )
    model.generation_config = GenerationConfig()
    try:
        yield GenerationConfig(
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id or 0,
            eos_token_id=sorted(end for end in ends if end is not None),
            **chosen,
        )
    finally:
        model.generation_config = defaults


ENDS_OF_TURN = ("<end>", "<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>")
"""Tokens that close a turn in the chat templates in use: ours, Gemma, ChatML, Llama 3, Phi-3."""
