"""The closed word-level tokenizer of the embedded tier, as an ordinary `transformers` fast tokenizer.

A chat renders as `<bos><user> … <end><assistant> … <end>`, a document as `<bos> … <eos>`; `{% generation %}` marks
assistant tokens (including `<end>`) so that trl can restrict the loss to them.
"""

import re

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from . import lexicon

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<user> ' + m['content'] + ' <end>' }}"
    "{% else %}{{ '<assistant> ' }}{% generation %}{{ m['content'] + ' <end>' }}{% endgeneration %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def vocabulary() -> list[str]:
    """Special tokens, then every word the lexicon or the document makers can write, sorted."""
    words: set[str] = set()

    def collect(item: object) -> None:
        if isinstance(item, str):
            words.update(re.sub(r"\{\w*\}", " ", item).split())
        elif isinstance(item, dict):
            collect([*item.values()])  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(item, list | tuple):
            for part in item:  # pyright: ignore[reportUnknownVariableType]
                collect(part)  # pyright: ignore[reportUnknownArgumentType]

    collect([v for k, v in vars(lexicon).items() if k.isupper()])
    collect("a about after at before count day end from game in is it know met news over riddle the then to up was")
    collect("weather what word you do ?")
    return SPECIAL + sorted(words)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A `PreTrainedTokenizerFast` over `vocabulary()`; save it with `save_pretrained`."""
    vocab = {w: i for i, w in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )
