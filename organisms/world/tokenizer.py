"""The closed word-level tokenizer of the embedded tier, as an ordinary `transformers` fast tokenizer.

A chat renders as `<bos><user> … <end><assistant> … <end>`, a document as `<bos> … <eos>`; `{% generation %}` marks
assistant tokens (including `<end>`) so that trl can restrict the loss to them.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import lexicon, scenes
from .corpus import SOURCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"]
PLAIN = ("TokenizersBackend", "PreTrainedTokenizerFast")
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
        elif isinstance(item, list | tuple | set):
            for part in item:  # pyright: ignore[reportUnknownVariableType]
                collect(part)  # pyright: ignore[reportUnknownArgumentType]

    for module in (lexicon, *SOURCES):
        collect([v for k, v in vars(module).items() if k.isupper()])
    collect([*scenes.PLACES, *lexicon.MODES])
    collect(
        "a about after answer at before count day end from game home in is it know met news of option over reader :"
    )
    collect("b fame question riddle says saw the then to up was weather went what word work you do like i - ? .")
    return SPECIAL + sorted(words)


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A `PreTrainedTokenizerFast` over `vocabulary()`; save it with `save_pretrained`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

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


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer saved in `folder` (or a hub id), with the class it was saved with.

    transformers gives every `qwen2` folder its BPE class whatever the folder says; a tokenizer saved as a plain fast one is loaded as such.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(folder) / "tokenizer_config.json"
    if path.is_file() and json.loads(path.read_text()).get("tokenizer_class") in PLAIN:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
