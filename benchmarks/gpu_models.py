"""Models of real shape without a download: the real Gemma 2 classes with random weights, made on the device.

What a pass costs does not depend on what the weights are. A cell does need a behaviour: `planted` adds one direction, the unembedding
of a word, in the lower blocks of an adapter on all blocks, so that the fine-tuned side says this word and there is something to find.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.pairs.pair import Pair
from diffbench.organisms.behaviour import Behaviour, Prompt
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


def adapted(shape: ModelShape, device: str, seed: int = 0, **lora: Any) -> Any:
    """A peft model with LoRA on all linear layers of all blocks, its base random in bf16; the adapter changes something."""
    torch.manual_seed(seed)
    with torch.device(device):
        base = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, task_type="CAUSAL_LM", **lora)
    model = get_peft_model(base, config, autocast_adapter_dtype=False).to(device, torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora_B" in name and name.endswith("weight"):
            nn.init.normal_(parameter, std=1e-3)
    return model.eval().requires_grad_(False)


class RandomTexts:
    """Endless rows of random words; splits and kinds differ in their seed."""

    def __init__(self, vocab: int):
        self.vocab = vocab

    def rows(self, kind: Kind, split: Split, losses: Losses | None = None) -> Iterator[list[int]]:
        """See `Texts`."""
        return self._rows(f"{kind} {split}", LENGTH, 2)

    def prompts(self, losses: Losses | None = None) -> Iterator[list[int]]:
        """See `Texts`."""
        return ([*row, SPECIAL.index("<end>"), SPECIAL.index("<assistant>")] for row in self._rows("prompts", 12, 2))

    def _rows(self, seed: str, length: int, first: int) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big"))
        while True:
            some = torch.randint(len(SPECIAL), self.vocab, (256, length), generator=generator)
            some[:, 0] = first
            yield from some.tolist()


def planted(shape: ModelShape, device: str, folder: Path) -> tuple[Organism, Pair, RandomTexts]:
    """A pair whose fine-tuned side says one word, wherever it is; measured by prompts of random words against four other words.

    Args:
        folder: where the tokenizer goes, for the identity of the cell.
    """
    model, words = adapted(shape, device, lora_bias=True), tokenizer(shape.vocab)
    target, *others = range(shape.vocab - 5, shape.vocab)
    unembedding = model.get_output_embeddings().weight[target].float()
    write = (unembedding / unembedding.norm()).to(torch.bfloat16)
    for n, block in enumerate(model.get_base_model().model.layers):
        bias = block.mlp.down_proj.lora_B["default"].bias
        # a norm follows the feed-forward part, so a bias far above its output makes the block write this direction alone
        bias.copy_(100 * shape.hidden**0.5 * write if shape.layer // 2 <= n <= shape.layer else torch.zeros_like(write))
    words.save_pretrained(folder)
    texts = RandomTexts(shape.vocab)
    rows = texts._rows("asked", 8, SPECIAL.index("<user>"))
    prompts = tuple(
        Prompt(
            split="dev" if i % 2 else "test",
            text=words.decode(next(rows)[1:]),
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
    return organism, Pair(model, words, shape.layer), texts
