"""Loading a pair: what it is made of is checked before weights are read, and proved after."""

from pathlib import Path
from typing import Any, Literal

import torch

from ...organisms.errors import UsageError
from ...organisms.hub.sources import PairSource
from .adapters import attach, other_base, read_adapter
from .anatomy import PairError, anatomy
from .engine import Adapters, plain, switches
from .pair import Pair
from .preflight import DTYPES, check_memory, check_quantised, check_whole, readable
from .proof import alone, prove

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
    chosen = DTYPES[dtype or ("float32" if device == "cpu" else "bfloat16")]
    asked = None
    if remote is not None:
        from .nnsight_backend import check_key, names

        asked = names(remote)
        check_key()
    check_memory(
        [source.base, *([source.tuned] if source.tuned else [])], chosen, device if device_map is None else "cpu"
    )
    if source.tuned is None and source.adapter is None:
        raise UsageError("a pair needs an adapter or a second model beside its base")
    named = {"on": source.on, "default": source.adapter}
    folders = {name: folder for name, folder in named.items() if folder is not None}
    configs = {name: read_adapter(folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        _check_declared(source, folder, configs[name])
    if source.on:
        _check_stack(source, list(configs.values()))
    tokenizer, model = _model(source.base, chosen, device, device_map, layer)
    tokenizer.name_or_path = source.name
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    base_alone = alone(model)
    what, adapters, tuned = str(source.tuned or source.adapter), None, None
    if source.tuned is not None:
        tuned = _second(source, model, tokenizer, chosen, device, device_map)
    else:
        for name, folder in folders.items():
            model = attach(model, folder, configs[name], name)
            if name == "on":
                base_alone = _of_lower(model, base_alone)
        model.requires_grad_(False)
        if source.on:
            adapters = Adapters(("on",), ("on", "default"))
            model.base_model.set_adapter(list(adapters.tuned), inference_mode=True)
        if not identity:
            _check_changes(model, folders["default"])
    parts = (model, tokenizer, default_layer(model, tuned) if layer is None else layer, tuned, adapters)
    if backend == "nnsight":
        from .nnsight_backend import NnsightPair, check_same, far_trees

        pair = NnsightPair(*parts, far=far_trees(asked, source, model, tokenizer) if asked else None)
        if asked:
            check_same(pair, Pair(*parts))
    else:
        pair = Pair(*parts)
    prove(pair, base_alone, what, identity)
    return pair


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
    if layer is not None and not 0 <= layer < (blocks := int(config.get_text_config().num_hidden_layers)):
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
    if not device_map and quantised is None:
        model = model.to(device)
    model.eval().requires_grad_(False)
    return tokenizer, model


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
    if own.get_vocab() != tokenizer.get_vocab():
        raise PairError(f"the tokenizers of {source.name} and {source.tuned} differ, so they read different tokens")
    of_base = dict(base.named_parameters())
    for name, parameter in tuned.named_parameters():
        if torch.equal(parameter, of_base[name]):
            parameter.data = of_base[name].data
    return tuned


def _check_declared(source: PairSource, folder: Path, config: Any) -> None:
    if not source.allow_other_base and (declared := other_base(config, source.name, source.base)):
        raise PairError(
            f"the adapter {folder} says it was trained on {declared}, and the base given is {source.name}: on another base it is "
            "another organism. Give that base, or --allow-other-base if it is the same model under another name"
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
