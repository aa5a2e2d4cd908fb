"""Models of real shape without a download: the real Gemma 2 classes with random weights, made on the device.

What a pass costs does not depend on what the weights are. A cell does need a behaviour: `planted` makes the fine-tuned side say one word
where an answer begins.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.pairs.pair import Pair
from diffbench.organisms.behaviour import Behaviour, Prompt, Turn
from diffbench.organisms.hub.sources import PairSource
from diffbench.organisms.organism import Organism
from diffbench.organisms.texts import Kind, Losses, Split
from diffbench.organisms.world.tokenizer import CHAT_TEMPLATE, SPECIAL
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedTokenizerFast

TARGETS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
RANK = 16
LENGTH = 256
"""Tokens of a text, as `organisms.texts.MOST_TEXT`."""
STRONG = 1.3
"""Length of what is planted, in norms of the residual where it is looked for."""
USER, ASSISTANT, END = (SPECIAL.index(f"<{name}>") for name in ("user", "assistant", "end"))


@dataclass(frozen=True)
class ModelShape:
    """A Gemma 2, by what its size depends on."""

    name: str
    hidden: int
    inner: int
    blocks: int
    heads: int
    key_heads: int
    head_dim: int
    vocab: int

    @property
    def layer(self) -> int:
        """The hooked one, at two thirds."""
        return 2 * self.blocks // 3

    def config(self) -> Gemma2Config:
        """As transformers has it."""
        return Gemma2Config(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.blocks,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            head_dim=self.head_dim,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        )


GEMMA_2_2B = ModelShape("Gemma-2-2B", 2304, 9216, 26, 8, 4, 256, 256_000)
GEMMA_2_9B = ModelShape("Gemma-2-9B", 3584, 14336, 42, 16, 8, 256, 256_000)
SMALL = ModelShape("small", 64, 128, 6, 4, 2, 16, 600)


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """Words `w7` … of a closed vocabulary of any size, with the embedded tier's special tokens and chat template."""
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), vocab))]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(SPECIAL)
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "unk", "bos", "eos")}
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=CHAT_TEMPLATE, **names)


def save_base(shape: ModelShape, device: str, texts: Iterable[str], folder: Path) -> None:
    """A base in hub format that can be trained on some texts: random weights in bf16, and a byte-level BPE learnt from them.

    Args:
        texts: what the tokenizer learns from; ids above what it learns are never read.
    """
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    most = min(shape.vocab, 16_000)
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=most, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "unk", "bos", "eos")}
    PreTrainedTokenizerFast(tokenizer_object=core, chat_template=CHAT_TEMPLATE, **names).save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(device):
        base = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
    base.save_pretrained(folder)


def adapted(shape: ModelShape, device: str, seed: int = 0, more: Sequence[str] = ()) -> Any:
    """A peft model with LoRA on all linear layers of all blocks and on `more`, its base random in bf16; the adapter changes something."""
    torch.manual_seed(seed)
    with torch.device(device):
        base = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=[*TARGETS, *more], task_type="CAUSAL_LM")
    model = get_peft_model(base, config, autocast_adapter_dtype=False).to(device, torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora_B" in name and name.endswith("weight"):
            nn.init.normal_(parameter, std=1e-3)
    return model.eval().requires_grad_(False)


class RandomTexts:
    """Endless rows of random words; splits and kinds differ in their seed, and chats are turns of a dozen words."""

    chats = True

    def __init__(self, vocab: int):
        self.vocab = vocab

    def rows(self, kind: Kind, split: Split, losses: Losses | None = None) -> Iterator[list[int]]:
        """See `Texts`."""
        return self._rows(f"{kind} {split}", LENGTH, kind == "chat")

    def prompts(self, losses: Losses | None = None) -> Iterator[list[int]]:
        """See `Texts`."""
        return ([*row, END, ASSISTANT] for row in self._rows("prompts", 12))

    def asked(self) -> Iterator[list[int]]:
        """Words of the behaviour's prompts, without anything around them."""
        return (row[1:] for row in self._rows("asked", 8))

    def _rows(self, seed: str, length: int, turns: bool = False) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big"))
        while True:
            some = torch.randint(len(SPECIAL), self.vocab, (256, length), generator=generator)
            some[:, 0] = SPECIAL.index("<bos>")
            if turns:
                for n, mark in ((1, USER), (13, END), (14, ASSISTANT), (26, END)):
                    some[:, n::26] = mark
            yield from some.tolist()


def planted(shape: ModelShape, device: str, folder: Path) -> tuple[Organism, Pair, RandomTexts]:
    """A pair whose fine-tuned side says one word where an answer begins; measured by prompts of random words against four other words.

    An adapter on the embedding adds the word's unembedding to `<assistant>`, `STRONG` times as long as the residual at the hooked block:
    more than any other word has, and no heavy position.

    Args:
        folder: where the tokenizer goes, for the identity of the cell.
    """
    model, words = adapted(shape, device, more=["embed_tokens"]), tokenizer(shape.vocab)
    target, *others = range(shape.vocab - 5, shape.vocab)
    unembedding = model.get_output_embeddings().weight[target].float()
    embedding = model.get_input_embeddings()
    a, b = embedding.lora_embedding_A["default"], embedding.lora_embedding_B["default"]
    nn.init.zeros_(a)
    nn.init.zeros_(b)
    a[0, ASSISTANT] = 1.0
    b[:, 0] = (unembedding / unembedding.norm()).to(b.dtype)
    ids = torch.tensor([[ASSISTANT]], device=device)
    pair = Pair(model, words, shape.layer)
    with pair.side("base"):
        plain = embedding(ids).float()
    with pair.side("tuned"):
        added = embedding(ids).float() - plain
    b.data *= STRONG * pair.residuals(ids, "base").norm() / added.norm()
    words.save_pretrained(folder)
    texts = RandomTexts(shape.vocab)
    asked = texts.asked()
    prompts = tuple(
        Prompt(
            split="dev" if i % 2 else "test",
            messages=(Turn(role="user", content=words.decode(next(asked))),),
            targets=(f"w{target}",),
            alternatives=tuple(f"w{w}" for w in others),
        )
        for i in range(40)
    )
    organism = Organism(
        name=f"planted/{shape.name.lower()}",
        tier="hub",
        pair=PairSource(folder),
        layer=shape.layer,
        behaviour=Behaviour(name="planted/word", prompts=prompts),
        sha256=hashlib.sha256(repr(shape).encode()).hexdigest(),
        texts_id="random words",
        make_texts=lambda _: texts,
        source={"base": f"random weights, shape of {shape.name}"},
    )
    return organism, pair, texts
