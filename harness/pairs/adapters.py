"""LoRA adapters: read strictly, placed whole, and undone whole, or refused by name.

peft loads what it can and says little of the rest: unknown options are dropped, weights without a place are skipped, an initialisation
such as PiSSA's changes the base under the adapter, and biases stay when the adapter is off. Each of these gives a pair that looks
right and is not, so whatever cannot be switched off exactly is refused here with its name.
"""

import contextlib
import copy
import json
import logging
import re
from collections.abc import Generator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from .anatomy import PairError

log = logging.getLogger(__name__)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
"""`init_lora_weights` that leave the base's weights alone; the saved matrices replace what was initialised."""
SUPPORTED = frozenset(
    "r lora_alpha lora_dropout target_modules exclude_modules fan_in_fan_out bias use_rslora use_dora modules_to_save init_lora_weights "
    "layers_to_transform layers_pattern rank_pattern alpha_pattern trainable_token_indices lora_bias peft_type task_type "
    "auto_mapping peft_version base_model_name_or_path revision inference_mode runtime_config ensure_weight_tying "
    "loftq_config eva_config corda_config lora_ga_config megatron_core".split()
)
"""Options that peft's LoRA layers carry out exactly and that switching the adapter off undoes; those of the last line are read at
initialisation only."""
MOST_ALPHA, MOST_RANK = 1e6, 65536


def read_adapter(folder: Path) -> Any:
    """The configuration of a LoRA adapter, as peft's `LoraConfig`.

    Raises:
        PairError: not readable, another kind of adapter, an unknown option, or one that changes what off or on means.
    """
    from peft import LoraConfig

    path = folder / CONFIG
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise PairError(f"cannot read {CONFIG} of the adapter {folder}: {error}") from error
    if not isinstance(given, dict):
        raise PairError(f"{CONFIG} of the adapter {folder} holds {type(given).__name__}, not an object")
    config: dict[str, Any] = given  # pyright: ignore[reportUnknownVariableType]
    if config.get("peft_type") != "LORA":
        raise PairError(
            f"{folder} is a {config.get('peft_type')} adapter; only LoRA adapters make a pair (adapter off = base)"
        )
    set_ = {k for k, v in config.items() if v not in (None, False, [], {}, "")}
    known = {f.name for f in fields(LoraConfig)}
    if unknown := sorted(set_ - known - SUPPORTED):
        raise PairError(
            f"{CONFIG} of the adapter {folder} has options that peft does not know: {', '.join(unknown)}; loaded without them it would be "
            "another model. Use the package that made it to merge it into its base, and give the result as --tuned"
        )
    if other := sorted(k for k in set_ - SUPPORTED if not _initial(k, config[k])):
        raise PairError(
            f"the adapter {folder} uses {', '.join(other)}, which switching LoRA matrices on and off does not carry out; merge it into its "
            "base and give the result as --tuned"
        )
    _check_values(folder, config)
    # what is saved replaces every initial value, so nothing needs to be computed for it
    plain = {k: v for k, v in config.items() if k in known and k in SUPPORTED and not k.endswith("_config")}
    try:
        with contextlib.redirect_stdout(None):
            kept: dict[str, Any] = {**plain, "init_lora_weights": False, "inference_mode": True}
            return LoraConfig(**kept)
    except (TypeError, ValueError, AttributeError) as error:
        raise PairError(f"peft cannot use {CONFIG} of the adapter {folder}: {error}") from error


def _initial(name: str, value: Any) -> bool:
    """Whether an option stands at peft's own default."""
    from peft import LoraConfig

    default = next((f.default for f in fields(LoraConfig) if f.name == name), None)
    return value == default


def _check_values(folder: Path, config: dict[str, Any]) -> None:
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init not in INITIALISATIONS:
        raise PairError(
            f"the adapter {folder} was initialised by {init!r}, which changes the base's weights: adapter off would not be the base. "
            "Convert it into plain LoRA with peft (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    _check_types(folder, config)
    numbers = {"r": (int, MOST_RANK), "lora_alpha": (int | float, MOST_ALPHA)}
    numbers |= {"rank_pattern": numbers["r"], "alpha_pattern": numbers["lora_alpha"]}
    for name, (kind, most) in numbers.items():
        given = config.get(name, 8)
        for value in (given or {}).values() if name.endswith("pattern") and name in config else [given]:
            # compared before math.isfinite, which cannot take an integer of 400 digits
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value <= most:
                wanted = "whole number" if kind is int else "number"
                raise PairError(
                    f"the adapter {folder} has {name} {value!r:.40}; a {wanted} above 0 and at most {most:g} is wanted"
                )
    dropout = config.get("lora_dropout", 0.0)
    if not 0 <= dropout < 1:
        raise PairError(f"the adapter {folder} has lora_dropout {dropout!r}; a number in [0, 1) is wanted")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise PairError(
            f"the adapter {folder} has task_type {config['task_type']!r}: it was not trained as a language model"
        )


def _check_types(folder: Path, config: dict[str, Any]) -> None:
    """Values have the types that peft declares and never checks: `use_rslora: "false"` would be taken for true."""
    from peft import LoraConfig
    from pydantic import TypeAdapter, ValidationError

    types = get_type_hints(LoraConfig)
    for name in sorted((config.keys() & types.keys() & SUPPORTED) - {"lora_alpha", "peft_type", "task_type"}):
        if name.endswith("_config"):
            continue
        try:
            TypeAdapter(types[name]).validate_python(config[name], strict=True)
            if name.endswith("_modules") and isinstance(config[name], str):
                re.compile(config[name])
        except (ValidationError, re.error) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise PairError(f"the adapter {folder} has {name} {config[name]!r:.40}: {why}") from error


def attach(model: Any, folder: Path, config: Any, name: str) -> Any:
    """A peft model around `model`, or `model` with one more adapter if it is one already; every saved weight is in its place.

    Args:
        config: `read_adapter` of the folder.

    Raises:
        PairError: weights that are missing, have no place, another shape, or are not finite.
    """
    from peft import PeftModel

    saved = _without_copies(model, folder, _weights(folder))
    biases = _biases(model) if config.bias != "none" else {}
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), name, is_trainable=False, autocast_adapter_dtype=False)  # pyright: ignore[reportArgumentType]
        else:
            model = PeftModel.from_pretrained(
                model, str(folder), adapter_name=name, config=config, autocast_adapter_dtype=False
            )
    except RuntimeError as error:
        raise PairError(
            f"the adapter {folder} does not land on this base: {_sizes(error)}; it was trained on another base, or on one whose "
            "vocabulary was resized"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PairError(f"cannot load the adapter {folder}: {first}") from error
    _check_landed(model, folder, name, saved)
    if biases:
        _keep_biases(model, biases)
    return model


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        pickled = " (adapter_model.bin is a pickle and never opened)" if (folder / "adapter_model.bin").exists() else ""
        raise PairError(f"there is no {WEIGHTS} in {folder}{pickled}; save the adapter with peft's save_pretrained")
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PairError(f"cannot load the adapter {folder}: {error}") from error
    for key, weight in saved.items():
        if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            raise PairError(f"the adapter {folder} holds {key} as {weight.dtype}, not as floats of 16 bits or more")
        if not weight.isfinite().all():
            raise PairError(
                f"the adapter {folder} holds values that are not finite in {key}; its training diverged or the file is damaged"
            )
    return saved


def _without_copies(model: Any, folder: Path, saved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Saved weights without the copies of the base's embeddings that peft saves beside LoRA on them; each must be the base's."""
    embeddings = {id(m): m for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    names = {n: m for n, m in model.named_modules() if id(m) in embeddings}
    for key in [k for k in saved if ".lora_" not in k and k.endswith(".weight")]:
        name = key.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".base_layer")
        if name not in names or ".base_layer." not in key:
            continue
        own: Tensor = names[name].weight
        if own.shape != saved[key].shape or not torch.equal(own.detach().cpu(), saved[key].to(own.dtype)):
            raise PairError(
                f"the adapter {folder} brings its own {name}, {list(saved[key].shape)}, which is not the base's, {list(own.shape)}: "
                "its vocabulary was resized or trained. Merge it and give the result as --tuned"
            )
        del saved[key]
    return saved


def _check_landed(model: Any, folder: Path, name: str, saved: dict[str, Tensor]) -> None:
    """peft places weights by name and leaves the rest at initial values, where `lora_B = 0` is exactly the identity."""
    from peft import get_peft_model_state_dict

    placed: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    missing, unexpected = sorted(placed.keys() - saved.keys()), sorted(saved.keys() - placed.keys())
    if missing or unexpected:
        raise PairError(
            f"the adapter {folder} does not land on this base: {len(missing)} of its weights are missing and {len(unexpected)} have "
            f"no place (first: {(missing + unexpected)[0]}); it was trained on another base"
        )
    for key, weight in placed.items():
        if weight.shape != saved[key].shape:
            raise PairError(
                f"the adapter {folder} does not land on this base: {key} has shape {list(saved[key].shape)}, the base {list(weight.shape)}"
            )
        if not torch.equal(weight.cpu(), saved[key].to(weight.dtype)):
            raise PairError(f"the adapter {folder} does not land on this base: {key} is not what the file holds")


def _sizes(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    return lines[0].rstrip(".") if lines else str(error).strip().splitlines()[-1]


def _biases(model: Any) -> dict[str, Tensor]:
    """{module name: bias} of a model that no adapter has touched."""
    return {n.removesuffix(".bias"): p.detach().clone() for n, p in model.named_parameters() if n.endswith(".bias")}


def _keep_biases(model: Any, biases: dict[str, Tensor]) -> None:
    """Remember the base's biases where training changed them, for `sides.switches`."""
    from .sides import BASE_BIASES

    kept: dict[str, nn.Parameter] = {}
    inner = model.get_base_model()
    names = {id(m): n for n, m in model.named_modules()}
    for name, bias in biases.items():
        module = inner.get_submodule(name)
        layer = module.base_layer if hasattr(module, "base_layer") else module
        if not torch.equal(layer.bias.detach(), bias):
            kept[names[id(layer)]] = nn.Parameter(bias, requires_grad=False)
    setattr(model, BASE_BIASES, kept)


@torch.inference_mode()
def delta_weights(
    base: nn.ModuleList, tuned: nn.ModuleList, top: int, adapters: Sequence[str]
) -> Generator[tuple[str, Tensor]]:
    """(name, ΔW [out, in] in fp32) of every linear layer in blocks 0 … `top` that differs between the sides.

    Args:
        base: blocks of the base.
        tuned: blocks of the fine-tuned model; the same ones where adapters make the difference.
        adapters: names of the adapters that only the fine-tuned side has.
    """
    for n in range(top + 1):
        for name, module in tuned[n].named_modules():
            for inner, delta in (
                _of_adapters(module, adapters) if base is tuned else _of_weights(base[n].get_submodule(name), module)
            ):
                yield f"{n}.{name}{inner}", delta


def _of_adapters(module: nn.Module, adapters: Sequence[str]) -> Generator[tuple[str, Tensor]]:
    """(name inside the module, ΔW) of LoRA on it, or of every linear layer in what replaces it."""
    from peft.utils.other import ModulesToSaveWrapper

    lora: Any = module
    if isinstance(module, ModulesToSaveWrapper):
        for name in module.modules_to_save.keys() & set(adapters):
            for inner, new in module.modules_to_save[name].named_modules():
                for _, delta in _of_weights(module.original_module.get_submodule(inner), new):
                    yield f".{inner}" if inner else "", delta
    elif active := [a for a in adapters if a in getattr(lora, "lora_A", ())]:
        yield "", torch.stack([_lora_delta(lora, a) for a in active]).sum(0)


def _lora_delta(lora: Any, adapter: str) -> Tensor:
    """ΔW [out, in] of one adapter: s·BA where that is all there is, else merged minus unmerged weight of a copy (DoRA scales rows too)."""
    _check_readable(lora.lora_B[adapter])
    if adapter not in lora.lora_variant:
        return (lora.lora_B[adapter].weight.float() @ lora.lora_A[adapter].weight.float()) * lora.scaling[adapter]
    _check_readable(lora.get_base_layer())
    alone = copy.deepcopy(lora).float()
    before = alone.get_base_layer().weight.detach().clone()
    alone.merge(safe_merge=True, adapter_names=[adapter])
    delta = alone.get_base_layer().weight.detach() - before
    return delta.T if alone.fan_in_fan_out else delta


def _of_weights(base: nn.Module, tuned: nn.Module) -> Generator[tuple[str, Tensor]]:
    """ΔW of a linear layer that stands in two copies; nothing for other modules and equal weights."""
    weight: Any = getattr(tuned, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or isinstance(tuned, nn.Embedding):
        return
    _check_readable(tuned)
    other: Any = base.weight.to(weight.device)
    if weight is not other and not torch.equal(weight, other):
        delta = weight.detach().float() - other.detach().float()
        yield "", delta.T if type(tuned).__name__ == "Conv1D" else delta


def _check_readable(module: Any) -> None:
    weight: Tensor = module.weight
    if weight.is_meta or not weight.is_floating_point():
        held = "on no device (--device-map)" if weight.is_meta else f"packed as {weight.dtype} by quantisation"
        raise PairError(f"the weights of a {type(module).__name__} are {held}, so their change cannot be read")
