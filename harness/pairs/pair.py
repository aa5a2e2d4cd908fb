"""Base and fine-tuned model as one object: one copy of the weights, the adapter off is the base.

Two ideas carry every measurement. *Early exit*: harvesting stops at the hooked layer. *Resume*: an intervention edits
the residual at that layer and only the blocks above run again, because the blocks up to the layer are swapped for one that
hands over the edited residual. Rows are padded on the right and attention is causal, so padding never reaches a real
token and no attention mask is needed.
"""

import contextlib
import copy
import itertools
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...organisms.errors import ValidationFailed

Side = Literal["base", "tuned"]
ARCHITECTURES = ("gemma2", "llama", "qwen2")
IDENTITY_PROMPTS = (
    "cat -> cat; road -> road; hello -> hello; ?",
    "sun -> sun; paper -> paper; green -> green; ?",
    "tree -> tree; house -> house; seven -> seven; ?",
)
"""Few-shot prompts that repeat a word, after Ghandeharioun et al. 2024; the last token is replaced."""
ROWS = 64
"""Directions read at a time."""


class PairError(ValidationFailed):
    """A base and an adapter that do not make a pair; the message says why and what to do."""


class _Exit(Exception):
    """Stops a forward pass at the hooked layer."""


class _Handover(nn.Module):
    """Stands in for a block below or at the hooked layer: passes on `residual` whatever comes in."""

    residual: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.residual


class _Kept(nn.Module):
    """Stands in for the feed-forward part of the last block: runs it only at positions that are read, gives 0 elsewhere."""

    keep: Tensor
    """[kept pos] indices, the same for every text of a batch."""

    def __init__(self, whole: nn.Module):
        super().__init__()
        self.whole = whole

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[batch, positions, d_model] in and out."""
        out = torch.zeros_like(hidden_states)
        out[:, self.keep] = self.whole(hidden_states[:, self.keep])
        return out


class _Engine:
    """The modules one thread runs. Running one side or resuming changes modules for a while, so threads share only weights."""

    def __init__(self, model: Any, layer: int):
        self.model = model
        self.inner = model.get_base_model().model
        self.blocks: nn.ModuleList = self.inner.layers
        self.tuners = [m for _, m in _lora_modules(model)]
        self.handover = _Handover()
        self.stand_ins = nn.ModuleList([self.handover] * (layer + 1) + list(self.blocks)[layer + 1 :])
        self.last: Any = self.blocks[-1]
        self.kept = _Kept(self.last.mlp)

    def twin(self, layer: int) -> "_Engine":
        """The same weights under modules of their own."""
        shared = {id(t): t for t in itertools.chain(self.model.parameters(), self.model.buffers())}
        return _Engine(copy.deepcopy(self.model, shared), layer)


class Pair:
    """A base model with a LoRA adapter, seen at one layer. Threads may use one pair at the same time.

    Args:
        model: a peft model around a Gemma2, Llama or Qwen2 causal LM, in evaluation mode.
        layer: hooked layer; residuals are the output of this block.
    """

    def __init__(self, model: Any, tokenizer: Any, layer: int):
        self.model, self.tokenizer, self.layer = model, tokenizer, layer
        self.blocks: nn.ModuleList = model.get_base_model().model.layers
        if not 0 <= layer < len(self.blocks):
            raise PairError(f"layer {layer} does not exist; the model has blocks 0 to {len(self.blocks) - 1}")
        self.d_model: int = model.config.hidden_size
        self.device = next(model.parameters()).device
        self._first = _Engine(model, layer)
        self._own = threading.local()
        self._own.engine = self._first
        self._twinning = threading.Lock()

    @property
    def _engine(self) -> _Engine:
        """This thread's modules."""
        if not hasattr(self._own, "engine"):
            with self._twinning:
                self._own.engine = self._first.twin(self.layer)
        return self._own.engine

    @contextlib.contextmanager
    def side(self, side: Side) -> Generator[None, None, None]:
        """Run as the base (adapter off) or as the fine-tuned model (adapter on)."""
        if side == "tuned":
            yield
            return
        tuners = self._engine.tuners
        for module in tuners:
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in tuners:
                module.enable_adapters(True)

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Right-padded ids [rows, pos] and a mask of real tokens [rows, pos]."""
        length = max(map(len, rows))
        fill = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=self.device).bool()
        return ids, mask

    @torch.inference_mode()
    def residuals(self, ids: Tensor, side: Side) -> Tensor:
        """Output of the hooked block [rows, pos, d_model] in fp32; the blocks above do not run."""
        found: list[Tensor] = []

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            found.append(output if isinstance(output, Tensor) else output[0])
            raise _Exit

        engine = self._engine
        handle = engine.blocks[self.layer].register_forward_hook(leave)
        try:
            with self.side(side), contextlib.suppress(_Exit):
                engine.model(input_ids=ids, use_cache=False)
        finally:
            handle.remove()
        return found[0].float()

    @torch.inference_mode()
    def resume(self, residual: Tensor, ids: Tensor, side: Side, keep: Tensor | int = 0) -> Tensor:
        """Logits [rows, kept pos, vocab] in fp32 of the blocks above the hooked layer run on `residual` [rows, pos, d_model].

        Args:
            keep: positions to return (1-d tensor), or 0 for all; the last block's feed-forward part runs at these alone.
        """
        engine = self._engine
        engine.handover.residual = residual.to(engine.inner.embed_tokens.weight.dtype)
        engine.inner.layers = engine.stand_ins
        if isinstance(keep, Tensor):
            engine.kept.keep, engine.last.mlp = keep, engine.kept
        try:
            with self.side(side):
                return engine.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits.float()
        finally:
            engine.inner.layers, engine.last.mlp = engine.blocks, engine.kept.whole
            del engine.handover.residual

    @torch.inference_mode()
    def logits(self, ids: Tensor, side: Side, keep: Tensor | int = 0) -> Tensor:
        """Logits [rows, kept pos, vocab] of the whole model, in fp32."""
        with self.side(side):
            return self._engine.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits.float()

    @torch.inference_mode()
    def lens(self, directions: Tensor) -> Tensor:
        """Logit lens: final norm and unembedding of directions [n, d_model] → [n, vocab], mean over the vocabulary removed."""
        base = self.model.get_base_model()
        dtype = base.lm_head.weight.dtype
        logits = base.lm_head(base.model.norm(directions.to(self.device, dtype))).float()
        return logits - logits.mean(-1, keepdim=True)

    @torch.inference_mode()
    def patchscope(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.patchscope`."""
        ids = self._identity_prompts()
        clean = self.residuals(ids, "base")
        norms = directions.norm(dim=1, keepdim=True).clamp_min(1e-30)
        placed = directions.to(clean) / norms * clean[:, 1:].norm(dim=-1).mean()
        total = torch.zeros(len(directions), self.model.config.vocab_size, device=self.device)
        for row, h in zip(ids, clean, strict=True):
            for at in range(0, len(placed), ROWS):
                some = placed[at : at + ROWS]
                edited = torch.cat([h[None, :-1].expand(len(some), -1, -1), some[:, None]], 1)
                last = torch.tensor([ids.shape[1] - 1], device=self.device)
                logits = self.resume(edited, row.expand(len(some), -1), "base", last)
                total[at : at + ROWS] += logits[:, 0].log_softmax(-1)
        return total / len(ids)

    def _identity_prompts(self) -> Tensor:
        """[prompts, pos] ids; a closed vocabulary without the published prompts repeats seeded words of its own."""
        rows: list[list[int]] = [list(self.tokenizer(text)["input_ids"]) for text in IDENTITY_PROMPTS]
        if len({len(r) for r in rows}) > 1 or any(self.tokenizer.unk_token_id in r for r in rows):
            special = set(self.tokenizer.all_special_ids)
            words = torch.tensor([i for i in range(len(self.tokenizer)) if i not in special])
            order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))[:15]
            start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            rows = [start + [w for w in row[:4] for _ in "xx"] + [row[4]] for row in words[order].view(3, 5).tolist()]
        return torch.tensor(rows, device=self.device)

    def weight_changes(self) -> dict[str, Tensor]:
        """ΔW [out, in] in fp32 of every adapted linear layer up to the hooked block, by its name in the base model."""
        found: dict[str, Tensor] = {}
        for name, module in _lora_modules(self.model):
            short = name[name.find("layers.") :]
            if short.startswith("layers.") and int(short.split(".")[1]) <= self.layer:
                found[short] = torch.stack([module.get_delta_weight(a).float() for a in module.lora_A]).sum(0)
        return found

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], side: Side, max_new_tokens: int, seed: int | None = None
    ) -> list[list[int]]:
        """Continuations of token rows, greedy or (with a seed) sampled at temperature 1; stops at eos or end of turn."""
        out: list[list[int]] = [[] for _ in prompts]
        stop = {
            self.tokenizer.eos_token_id,
            self.tokenizer.convert_tokens_to_ids("<end>"),
            *_generation_stops(self.model),
        }
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(order), 256):
            batch = order[start : start + 256]
            length = max(len(prompts[i]) for i in batch)
            fill = self.tokenizer.pad_token_id or 0
            ids = torch.tensor(
                [[fill] * (length - len(prompts[i])) + list(prompts[i]) for i in batch], device=self.device
            )
            mask = torch.tensor(
                [[0] * (length - len(prompts[i])) + [1] * len(prompts[i]) for i in batch], device=self.device
            )
            with self.side(side):
                full = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=max_new_tokens,
                    do_sample=seed is not None,
                    temperature=1.0,
                    top_p=1.0,
                    top_k=0,
                    pad_token_id=fill,
                    eos_token_id=sorted(s for s in stop if s is not None),
                )
            for i, row in zip(batch, full[:, length:].tolist(), strict=True):
                end = next((n + 1 for n, t in enumerate(row) if t in stop), len(row))
                out[i] = row[:end]
        return out


def _generation_stops(model: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    return stops if isinstance(stops, list) else [stops]  # pyright: ignore[reportUnknownVariableType]


def load_pair(
    base: str | Path, adapter: str | Path, layer: int | None = None, device: str = "cpu", identity: bool = False
) -> Pair:
    """Load a base (directory or hub id) and a LoRA adapter for it.

    fp32 on CPU, bf16 on an accelerator. `identity` allows an adapter that changes nothing (a null organism).

    Raises:
        PairError: unsupported architecture, or an adapter that does not land on this base.
    """
    from peft import PeftConfig, PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    from ...organisms.world.tokenizer import load_tokenizer

    with _readable(base, "base model"):
        config = AutoConfig.from_pretrained(base)
    if config.model_type not in ARCHITECTURES:
        raise PairError(f"{base} is a {config.model_type!r} model; supported are {', '.join(ARCHITECTURES)}")
    with _readable(adapter, "adapter"):
        lora: Any = PeftConfig.from_pretrained(str(adapter))
    if lora.peft_type != "LORA":
        raise PairError(
            f"{adapter} is a {lora.peft_type} adapter; only LoRA adapters make a pair (one copy of the weights, adapter off = base)"
        )
    extras = [name for name in ("modules_to_save", "trainable_token_indices") if getattr(lora, name, None)]
    if extras or lora.bias != "none":
        raise PairError(
            f"{adapter} trains more than LoRA matrices ({', '.join(extras) or 'biases'}), which switching the adapter off would not undo; "
            "use an adapter with bias none and without modules_to_save"
        )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with _readable(base, "base model"):
        tokenizer = load_tokenizer(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, use_safetensors=True)
    with _readable(adapter, "adapter"):
        model = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
    model = model.to(device).eval()
    model.requires_grad_(False)
    check_landed(model, adapter, identity)
    if layer is None:
        layer = default_layer(model)
    return Pair(model, tokenizer, layer)


def default_layer(model: Any) -> int:
    """The highest adapted block if it is not the last, else the middle block."""
    adapted = {int(n.split(".layers.")[1].split(".")[0]) for n, _ in _lora_modules(model) if ".layers." in n}
    last = len(model.get_base_model().model.layers) - 1
    top = max(adapted, default=last)
    return top if top < last else last // 2


def check_landed(model: Any, adapter: str | Path, identity: bool = False) -> None:
    """Refuse an adapter whose weights are not all in `model`, or that changes nothing.

    peft places weights by name and leaves the rest at their initial values, where `lora_B = 0` is exactly the identity; without
    this check a mismatched adapter looks like an organism that learned nothing.

    Raises:
        PairError: missing or unexpected keys, ||delta W|| = 0 everywhere, or equal logits on a probe.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    with _readable(adapter, "adapter"):
        saved: dict[str, Tensor] = load_peft_weights(str(adapter), device="cpu")
    placed: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, unexpected = sorted(placed.keys() - saved.keys()), sorted(saved.keys() - placed.keys())
    if missing or unexpected:
        raise PairError(
            f"the adapter {adapter} does not land on this base: {len(missing)} of its weights are missing and {len(unexpected)} have "
            f"no place (first: {(missing + unexpected)[0]}); it was trained on another base"
        )
    if any(len(getattr(m, "lora_embedding_A", ())) for m in model.modules()):
        raise PairError(f"the adapter {adapter} adapts embeddings; only linear layers are supported")
    if identity:
        return
    if all(
        float((m.lora_B[a].weight @ m.lora_A[a].weight).norm()) == 0 for _, m in _lora_modules(model) for a in m.lora_A
    ):
        raise PairError(f"the adapter {adapter} changes no weight (all B·A are zero); it is untrained")
    ids = torch.arange(2, 34, device=next(model.parameters()).device)[None] % model.config.vocab_size
    with torch.inference_mode():
        tuned = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            base = model(input_ids=ids, use_cache=False).logits
    if torch.equal(tuned, base):
        raise PairError(f"base and fine-tuned model give equal logits on a probe: the adapter {adapter} has no effect")


def _lora_modules(model: Any) -> list[tuple[str, Any]]:
    return [(n, m) for n, m in model.named_modules() if hasattr(m, "lora_A") and len(m.lora_A)]


@contextlib.contextmanager
def _readable(where: str | Path, what: str) -> Generator[None, None, None]:
    """Turn a library's loading error into fact, cause and fix."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if isinstance(error, PairError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PairError(f"cannot load the {what} {where}: {first}") from error
