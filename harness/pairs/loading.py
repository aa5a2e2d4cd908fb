"""Loading a pair: what it is made of is checked before weights are read, and proved after."""

import contextlib
import logging
import re
from pathlib import Path
from typing import Any, Literal

import torch

from ...organisms.errors import UsageError
from ...organisms.hub.model_names import fetched, other_base
from ...organisms.hub.sources import PairSource, locate
from ...organisms.hub.tokens import saved_vocabulary
from .adapters import attach, read_adapter
from .anatomy import PairError, anatomy
from .pair import Pair
from .preflight import check_device, check_dtype, check_memory, check_quantised, check_whole, readable
from .proof import alone, prove
from .sides import Adapters, Residents, plain, share, switches

log = logging.getLogger(__name__)
Backend = Literal["hooks", "nnsight"]
"""What runs the passes of a pair."""


def load_pair(
    base: str | Path | PairSource,
    adapter: str | Path | None = None,
    layer: int | None = None,
    device: str = "cpu",
    identity: bool = False,
    *,
    dtype: str | None = None,
    device_map: str | None = None,
    backend: Backend = "hooks",
    remote: dict[str, str] | None = None,
) -> Pair:
    """Load a pair: a base with a LoRA adapter, or whatever a `PairSource` says.

    Args:
        base: folder of the base, or the whole description of the pair.
        adapter: folder of the adapter.
        layer: hooked layer; default: the highest block that differs, if it is not the last, else the middle one.
        device: cpu, cuda, cuda:N or mps.
        identity: allow a pair that does not differ (a null organism).
        dtype: float32, bfloat16 or float16; default fp32 on a CPU, bf16 elsewhere.
        device_map: of transformers, to spread a model over several devices.
        backend: what runs the passes: our hooks, or nnsight.
        remote: run them on NDIF; what the user wrote for `base` and `adapter` or `tuned`, which are its names there.

    Raises:
        PairError: models that do not belong together, or that fail the proof. PrerequisiteError: too little memory, a missing library.
    """
    source = base if isinstance(base, PairSource) else PairSource(Path(base), Path(adapter) if adapter else None)
    check_device(device)
    chosen = check_dtype(dtype, device)
    asked = None
    if remote is not None:
        from .nnsight_backend import check_key, names

        asked = names(remote)
        check_key()
    if (source.tuned is None) == (source.adapter is None):
        raise UsageError("a pair is a base and either an adapter or a second model")
    sides = [source.base, *([source.tuned] if source.tuned else [])]
    in_turns = check_memory(sides, chosen, device, device_map)
    named = {"on": source.on, "default": source.adapter}
    folders = {name: folder for name, folder in named.items() if folder is not None}
    configs = {name: read_adapter(folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        _check_declared(source, folder, configs[name])
    if source.on:
        _check_stack(source, list(configs.values()))
    at_first = "cpu" if in_turns else device
    tokenizer, model = _model(source.base, chosen, at_first, device_map, layer)
    for folder in folders.values():
        _check_tokens(tokenizer, folder)
    tokenizer.name_or_path = source.name
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    what, tuned = str(source.tuned or source.adapter), None
    between: Adapters | Residents | None = None
    if source.tuned is not None:
        tuned = _second(source, model, tokenizer, chosen, at_first, device_map)
        layer = default_layer(model, tuned) if layer is None else layer
        if in_turns:
            between = Residents({"base": model, "tuned": tuned}, device)
        with between.on("base") if isinstance(between, Residents) else contextlib.nullcontext():
            base_alone = alone(model)
    else:
        base_alone = alone(model)
        for name, folder in folders.items():
            model = attach(model, folder, configs[name], name)
            if name == "on":
                base_alone = _of_lower(model, base_alone)
        model.requires_grad_(False)
        if source.on:
            between = Adapters(("on",), ("on", "default"))
            model.base_model.set_adapter(list(between.tuned), inference_mode=True)
        if not identity:
            _check_changes(model, folders["default"])
        layer = default_layer(model) if layer is None else layer
    parts = (model, tokenizer, layer, tuned, between)
    if backend == "nnsight":
        from .nnsight_backend import NnsightPair, check_same, far_trees

        pair = NnsightPair(*parts, far=far_trees(asked, source, model, tokenizer) if asked else None)
        if asked:
            check_same(pair, Pair(*parts))
    else:
        pair = Pair(*parts)
    prove(pair, base_alone, what, identity)
    return pair


def tokenizer_of(base: str, chat_template: str | None = None) -> Any:
    """The tokenizer of a base as a run would read with it; no weights are read or fetched.

    Args:
        base: as a user writes it.
        chat_template: in place of its own.

    Raises:
        PrerequisiteError: it is not here and cannot be fetched. ValidationFailed: damaged files, or none.
    """
    from ...organisms.world.tokenizer import load_tokenizer

    located = locate(base, "tokenizer", "base model")
    with readable(located.folder, "tokenizer of"):
        tokenizer = load_tokenizer(located.folder)
    tokenizer.name_or_path = base
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def default_layer(model: Any, tuned: Any = None) -> int:
    """The highest block that differs between the sides if it is not the last, else the middle block."""
    blocks = anatomy(plain(model)).blocks
    if tuned is None:
        changing = {id(m) for m in switches(model)}
        differs = [any(id(m) in changing for m in block.modules()) for block in blocks]
    else:
        pairs = zip(blocks, anatomy(tuned).blocks, strict=True)
        differs = [
            any(
                p is not q and p.data_ptr() != q.data_ptr() for p, q in zip(a.parameters(), b.parameters(), strict=True)
            )
            for a, b in pairs
        ]
    last = len(blocks) - 1
    top = max((i for i, d in enumerate(differs) if d), default=last)
    return top if top < last else last // 2


def _model(folder: Path, dtype: torch.dtype, device: str, device_map: str | None, layer: int | None) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, in evaluation mode; no code of the folder runs and no pickle is opened."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from ...organisms.world.tokenizer import load_tokenizer

    check_whole(folder)
    with readable(folder, "model"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for chosen in ("_attn_implementation", "_experts_implementation"):
            setattr(config, chosen, None)  # a folder may name a kernel on the hub here, which is code
    blocks = int(config.get_text_config().num_hidden_layers)
    if layer is not None and not 0 <= layer < blocks:
        raise PairError(f"layer {layer} does not exist; the model has blocks 0 to {blocks - 1}")
    if (quantised := getattr(config, "quantization_config", None)) is not None:
        check_quantised(folder, quantised)
    how: dict[str, Any] = {"device_map": device_map} if device_map else {}
    how |= {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    with readable(folder, "model"):
        tokenizer = load_tokenizer(folder)
        loader: Any = AutoModelForCausalLM
        model, placed = loader.from_pretrained(folder, config=config, **how)
    if lost := sorted(map(str, (*placed["missing_keys"], *placed["mismatched_keys"], *placed["error_msgs"]))):
        raise PairError(
            f"{len(lost)} weights of {type(model).__name__} are not in {folder} or have another shape (first: {lost[0]}); "
            "its config.json belongs to another model"
        )
    further = re.compile(rf"(?:.+\.)?{_list_of_blocks(model)}\.(\d+)\.")
    numbers = (further.match(str(key)) for key in placed["unexpected_keys"])
    if beyond := sorted(m[0] for m in numbers if m and int(m[1]) >= blocks):
        raise PairError(f"{folder} holds weights of {beyond[0][:-1]}, and its config.json speaks of {blocks} blocks")
    if not device_map and quantised is None:
        model = model.to(device)
    model.eval().requires_grad_(False)
    return tokenizer, model


def _list_of_blocks(model: Any) -> str:
    """Name of the list of blocks, and of the decoder in a model that has more parts than one (`language_model.layers`)."""
    parts = anatomy(model)
    path = next(name for name, module in model.named_modules() if module is parts.blocks)
    return re.escape(path.removeprefix(f"{model.base_model_prefix}."))


def _second(
    source: PairSource, base: Any, tokenizer: Any, dtype: torch.dtype, device: str, device_map: str | None
) -> Any:
    """The fine-tuned one of two whole models; tensors that equal the base's are the base's."""
    assert source.tuned is not None
    own, tuned = _model(source.tuned, dtype, device, device_map, None)
    shapes = [{n: tuple(p.shape) for n, p in m.named_parameters()} for m in (base, tuned)]
    if type(base) is not type(tuned) or shapes[0] != shapes[1]:
        odd = next((n for n in sorted({*shapes[0], *shapes[1]}) if shapes[0].get(n) != shapes[1].get(n)), None)
        told = f": {odd} is {shapes[0].get(odd)} in the base and {shapes[1].get(odd)} in the other" if odd else ""
        raise PairError(
            f"{source.name} ({type(base).__name__}) and {source.tuned} ({type(tuned).__name__}) are not a model "
            f"and its fine-tune{told}; a vocabulary that was resized has to be cut to the base's"
        )
    mine, others = tokenizer.get_vocab(), own.get_vocab()
    if odd := sorted(t for t in {*mine, *others} if mine.get(t) != others.get(t)):
        raise PairError(
            f"the tokenizers of {source.name} ({len(mine):,} tokens) and {source.tuned} ({len(others):,}) differ in {len(odd):,} "
            f"tokens (first: {odd[0]!r}), so they read different tokens. If the fine-tune added tokens that no text here uses, put the "
            "base's tokenizer files into its folder"
        )
    share(base, tuned)
    return tuned


def _check_declared(source: PairSource, folder: Path, config: Any) -> None:
    said = config.base_model_name_or_path
    if not source.allow_other_base and (declared := other_base(said, source.name, source.base)):
        raise PairError(
            f"the adapter {folder} says it was trained on {declared}, and the base given is {source.name}: on another base it is "
            "another organism. Give that base, or --allow-other-base if it is the same model under another name"
        )
    name, made_from = fetched(source.base)
    if made_from and said and said != name:
        log.warning(
            "%s holds dequantised weights, not those of %s: an adapter trained on %s is another organism here",
            name,
            made_from,
            said,
        )


def _check_tokens(tokenizer: Any, folder: Path) -> None:
    """An adapter that brings a tokenizer was trained on its tokens; all text here is read with the base's."""
    saved = saved_vocabulary(folder)
    mine = tokenizer.get_vocab()
    if odd := sorted(t for t in saved.keys() & mine.keys() if saved[t] != mine[t]):
        raise PairError(
            f"the adapter {folder} brings a tokenizer that gives {len(odd):,} tokens other ids than the base's (first: {odd[0]!r} is "
            f"{saved[odd[0]]} there and {mine[odd[0]]} here), so it was trained to read other tokens. Give the base it was trained on"
        )
    if added := sorted(saved.keys() - mine.keys(), key=lambda t: saved[t]):
        log.warning(
            "the adapter's tokenizer has %d tokens that the base's lacks (%s): text here is read without them",
            len(added),
            ", ".join(map(repr, added[:5])) + (", …" if len(added) > 5 else ""),
        )


def _check_stack(source: PairSource, configs: list[Any]) -> None:
    """Several active adapters add up only if each is s·BA."""
    if any(c.use_dora or c.modules_to_save or c.trainable_token_indices or c.bias != "none" for c in configs):
        raise PairError(
            f"{source.on} and {source.adapter} cannot be stacked: one of them replaces whole modules, trains biases or uses DoRA. "
            "Merge the lower one into the base, or both, and give --base and --tuned"
        )


def _of_lower(model: Any, base_alone: torch.Tensor) -> torch.Tensor:
    """What the base side of a stack must say: base and lower adapter, before the upper one is attached."""
    lower = alone(model)
    if torch.equal(lower, base_alone):
        raise PairError("the adapter given with --on has no effect on the base")
    return lower


def _check_changes(model: Any, adapter: Path) -> None:
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [m for m in switches(model) if isinstance(m, LoraLayer)]
    plain_only = all(hasattr(m, "lora_A") and not m.lora_variant and not len(m.lora_embedding_A) for m in layers)
    products = (m.lora_B["default"].weight @ m.lora_A["default"].weight for m in layers if "default" in m.lora_A)
    if plain_only and len(layers) == len(switches(model)) and not any(bool((p != 0).any()) for p in products):
        raise PairError(f"the adapter {adapter} changes no weight (all B·A are zero); it is untrained")
