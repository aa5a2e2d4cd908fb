"""How large a model is, from its config alone: what an adapter weighs, what training needs, and whether that fits.

The sizes of a few well-known chat models are written down here, so that a plan can be made for a base before anything of it is fetched.
"""

from dataclasses import dataclass
from typing import Any

KEPT = 16
"""Bytes of a trained parameter: itself, its gradient and Adam's two moments, in fp32."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only transformer with gated feed-forward parts."""

    d_model: int
    blocks: int
    ff: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """Whether the unembedding is the embedding."""

    @property
    def hooked_layer(self) -> int:
        """Two thirds up: 20 of 30, 17 of 26, 28 of 42."""
        return min(2 * self.blocks // 3, self.blocks - 1)

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the seven linear maps of a block."""
        d, q, kv, ff = self.d_model, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.ff
        return {
            "q_proj": (d, q),
            "k_proj": (d, kv),
            "v_proj": (d, kv),
            "o_proj": (q, d),
            "gate_proj": (d, ff),
            "up_proj": (d, ff),
            "down_proj": (ff, d),
        }

    @property
    def lora_per_rank(self) -> int:
        """Parameters of an adapter for each rank and block."""
        return sum(a + b for a, b in self.projections.values())

    @property
    def in_blocks(self) -> int:
        """Parameters of all blocks' linear maps."""
        return self.blocks * sum(a * b for a, b in self.projections.values())

    @property
    def parameters(self) -> int:
        """Parameters of the model (norms and biases, a thousandth of it, left out)."""
        return self.in_blocks + (1 if self.tied else 2) * self.vocab * self.d_model

    def adapter(self, r: int, adapted: int) -> int:
        """Parameters of an adapter of rank `r` on `adapted` blocks."""
        return r * adapted * self.lora_per_rank

    def flops(self, tokens: int, kept: int, r: int, adapted: int) -> float:
        """Of training on `tokens` tokens, `kept` of them read by the base too: forward and backward through activations.

        Frozen weights have no gradient, so a step costs 4 operations a parameter and token and not 6; an adapter's own cost 6.
        """
        reads = self.in_blocks + self.vocab * self.d_model
        return 4.0 * tokens * reads + 2.0 * kept * reads + 6.0 * tokens * self.adapter(r, adapted)

    def memory(self, rows: int, length: int, r: int, adapted: int, width: int, checkpointing: bool) -> int:
        """Bytes that training needs at most: weights, adapter with its optimiser, activations and logits of `rows` rows at a time.

        Args:
            width: bytes of a weight and of an activation.
            checkpointing: only the blocks' inputs are kept, and a block is computed again for its gradient.
        """
        tokens, q = rows * length, self.heads * self.head_dim
        of_block = 8 * self.d_model + 6 * self.ff + 4 * q  # kept for the gradient: inputs of maps, gates, norms
        blocks = tokens * width * (self.blocks * self.d_model + of_block if checkpointing else self.blocks * of_block)
        logits = tokens * self.vocab * (width + 3 * 4)  # as computed, as fp32, log-probabilities, their gradient
        return self.parameters * width + KEPT * self.adapter(r, adapted) + blocks + logits


def shape_of(config: Any) -> Shape | None:
    """The shape that a transformers config says; None where it does not have these names."""
    try:
        inner = config.get_text_config()
        heads = int(inner.num_attention_heads)
        return Shape(
            d_model=int(inner.hidden_size),
            blocks=int(inner.num_hidden_layers),
            ff=int(inner.intermediate_size),
            heads=heads,
            kv_heads=int(getattr(inner, "num_key_value_heads", None) or heads),
            head_dim=int(getattr(inner, "head_dim", None) or inner.hidden_size // heads),
            vocab=int(inner.vocab_size),
            tied=bool(config.tie_word_embeddings),
        )
    except (AttributeError, TypeError, ValueError):
        return None


KNOWN: dict[str, Shape] = {
    "gemma-2-2b-it": Shape(2304, 26, 9216, 8, 4, 256, 256_000, True),
    "gemma-2-9b-it": Shape(3584, 42, 14_336, 16, 8, 256, 256_000, True),
    "llama-3.2-1b-instruct": Shape(2048, 16, 8192, 32, 8, 64, 128_256, True),
    "llama-3.2-3b-instruct": Shape(3072, 28, 8192, 24, 8, 128, 128_256, True),
    "llama-3.1-8b-instruct": Shape(4096, 32, 14_336, 32, 8, 128, 128_256, False),
    "qwen2.5-0.5b-instruct": Shape(896, 24, 4864, 14, 2, 64, 151_936, True),
    "qwen2.5-1.5b-instruct": Shape(1536, 28, 8960, 12, 2, 128, 151_936, True),
    "qwen2.5-3b-instruct": Shape(2048, 36, 11_008, 16, 2, 128, 151_936, True),
    "qwen2.5-7b-instruct": Shape(3584, 28, 18_944, 28, 4, 128, 152_064, False),
    "smollm2-135m": Shape(576, 30, 1536, 9, 3, 64, 49_152, True),
}
"""By the last part of the hub id, in small letters."""
