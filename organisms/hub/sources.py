"""Where the models of a pair are: a folder, or a hub repository with a subfolder and a revision, and exactly which files are read.

What is loaded is hashed and what is not hashed is not loaded: a *view* of links to the known files of a model is made, and only the view
is given to a library. A pickle that lies beside the safetensors, another checkpoint, or an adapter in a base's folder is not in it.
"""

import atexit
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..card import sha256_file, sha256_files
from ..errors import AS_GIVEN, DiffbenchError, PrerequisiteError, ValidationFailed
from .pretrained import CARD, pretrained_folder

Kind = Literal["model", "adapter", "tokenizer"]
"""A `tokenizer` is a model without its weights."""
SMALL = {
    "model": (
        "config.json generation_config.json model.safetensors.index.json tokenizer.json tokenizer_config.json tokenizer.model "
        "special_tokens_map.json added_tokens.json vocab.json vocab.txt merges.txt spiece.model chat_template.jinja chat_template.json "
        f"{CARD}"
    ).split(),
    "adapter": "adapter_config.json tokenizer.json vocab.json added_tokens.json".split(),
}
SMALL["tokenizer"] = SMALL["model"]
"""Files of a model or an adapter beside its weights; an adapter's tokenizer is compared with its base's and not used."""
WEIGHTS = {"model": "model.safetensors", "adapter": "adapter_model.safetensors"}
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
"""A file of the folder itself: no path, no pattern that would fetch others, no pickle."""
HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<sub>[\w./-]+?))?(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class PairSource:
    """What a pair is made of, as local folders."""

    base: Path
    adapter: Path | None = None
    """The LoRA adapter that makes the fine-tuned side."""
    on: Path | None = None
    """A LoRA adapter under both sides: base + on against base + on + adapter."""
    tuned: Path | None = None
    """Or a second whole model."""
    allow_other_base: bool = False
    """Accept an adapter that says it was trained on another base."""
    base_name: str = ""
    """What the user wrote for the base."""
    chat_template: str | None = None
    """A chat template in place of the base's own."""

    @property
    def name(self) -> str:
        """The base, for messages."""
        return self.base_name or str(self.base)


@dataclass(frozen=True)
class Located:
    """A model or an adapter that is here."""

    given: str
    folder: Path
    """The view: links to the files that are read, nothing else."""
    files: dict[str, str]
    """sha256 of every file in the view."""
    commit: str | None
    """Resolved commit of a hub repository."""

    @property
    def sha256(self) -> str:
        """Over every file."""
        return sha256_files(self.files)


def locate(given: str, kind: Kind, what: str) -> Located:
    """The files of a model or an adapter, fetched if they are on the hub.

    Args:
        given: a folder, `org/repo`, `org/repo/sub/folder` or either of them `@revision`.
        kind: which files are wanted.
        what: its part in the pair, for messages.

    Raises:
        PrerequisiteError: not here and not to be had, with the reason. ValidationFailed: a folder that is no such thing.
    """
    path = (pretrained_folder(given) if kind != "adapter" else None) or Path(given).expanduser()
    if path.is_dir():
        return _view(given, path, kind, what, None)
    match = HUB.fullmatch(given)
    if match is None or given.startswith((".", "~", "/")) or ".." in given:
        raise PrerequisiteError(
            f"the {what} {given} is not a folder; give a folder or a hub id such as google/gemma-2-2b-it, "
            "org/repo/subfolder or org/repo@revision"
        )
    root = _fetch(given, match["repo"], match["sub"], match["revision"], kind, what)
    return _view(given, root / (match["sub"] or ""), kind, what, root.name)


def small_files(given: str) -> Path:
    """Folder with the configuration and the tokenizer of a model; of one on the hub, nothing more is fetched.

    Raises:
        PrerequisiteError: see `locate`.
    """
    return locate(given, "tokenizer", "base model").folder


def wanted(folder: Path, kind: Kind) -> list[str]:
    """Names of the files in a folder that loading reads."""
    names = [n for n in SMALL[kind] if (folder / n).is_file()]
    if kind != "adapter":
        names += sorted(f"additional_chat_templates/{p.name}" for p in folder.glob("additional_chat_templates/*.jinja"))
    index = folder / "model.safetensors.index.json"
    if kind == "model" and index.is_file():
        return [*names, *(n for n in _shards(index) if (folder / n).is_file())]
    return [*names, *(w for k, w in WEIGHTS.items() if k == kind and (folder / w).is_file())]


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValidationFailed(f"{index} is not an index of shards ({error!r}); fetch the model again") from error
    if bad := [n for n in names if not isinstance(n, str) or not SHARD.fullmatch(n)]:
        raise ValidationFailed(
            f"{index} names {bad[0]!r}, which is no safetensors file beside it; fetch the model again"
        )
    return names


def _view(given: str, folder: Path, kind: Kind, what: str, commit: str | None) -> Located:
    main = SMALL[kind][0]
    if not (folder / main).is_file():
        other = "config.json" if kind == "adapter" else "adapter_config.json"
        hint = {
            "model": "; it is an adapter: give it with --adapter",
            "adapter": "; it is a whole model: give it with --tuned",
            "tokenizer": "; it is an adapter: give the model that it belongs to",
        }[kind]
        inside = sorted(p.parent.name for p in folder.glob(f"*/{main}"))
        several = f"; one of its subfolders is meant: {', '.join(inside[:8])}" if inside else ""
        raise ValidationFailed(f"the {what} {given} has no {main}{hint if (folder / other).is_file() else several}")
    names = wanted(folder, kind)
    if kind == "adapter" and WEIGHTS[kind] not in names and (folder / "adapter_model.bin").exists():
        raise ValidationFailed(
            f"the {what} {given} has only adapter_model.bin, a pickle, which is never opened; save it with peft's save_pretrained"
        )
    view = Path(tempfile.mkdtemp(prefix="diffbench-"))
    atexit.register(shutil.rmtree, view, ignore_errors=True)
    AS_GIVEN[str(view)] = given
    for name in names:
        (view / name).parent.mkdir(exist_ok=True)
        (view / name).symlink_to((folder / name).resolve())
    return Located(given, view, {n: sha256_file(folder / n) for n in names}, commit)


def _fetch(given: str, repo: str, sub: str | None, revision: str | None, kind: Kind, what: str) -> Path:
    """Root of a snapshot with the files that are needed: first the small ones, then the weights that they name."""
    from huggingface_hub import snapshot_download

    at = f"{sub}/" if sub else ""

    def get(names: list[str]) -> Path:
        patterns = [f"{at}{n}" for n in names]
        try:
            return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        except OSError as error:
            raise _unfetched(given, what, error) from error
        except Exception as error:  # the hub client has a dozen unrelated error types
            raise _unfetched(given, what, error) from error

    root = get([*SMALL[kind], "additional_chat_templates/*.jinja"])
    if kind not in WEIGHTS:
        return root
    index = root / at / "model.safetensors.index.json"
    get(_shards(index) if kind == "model" and index.is_file() else [WEIGHTS[kind]])
    return root


CAUSES = {
    "GatedRepoError": "its licence has to be accepted: do so on its page, then log in with `hf auth login`",
    "RepositoryNotFoundError": "there is no such repository, or it is private: check the id, or log in with `hf auth login`",
    "RevisionNotFoundError": "it has no such revision",
    "LocalEntryNotFoundError": "it is not in the cache and the network cannot be reached",
    "OfflineModeIsEnabled": "it is not in the cache and HF_HUB_OFFLINE forbids the network",
    "ConnectError": "the network cannot be reached",
    "ConnectionError": "the network cannot be reached",
    "ConnectTimeout": "the network cannot be reached",
    "TransportError": "the download was interrupted; what was fetched is kept, run the same command again",
}


def _unfetched(given: str, what: str, error: BaseException) -> DiffbenchError:
    kinds: list[Any] = [type(error), *type(error).__mro__]
    if isinstance(error, OSError) and error.errno == 28:
        why = "the disk is full; what was fetched is kept, make room and run the same command again"
    else:
        why = next(
            (CAUSES[k.__name__] for k in kinds if k.__name__ in CAUSES),
            f"{type(error).__name__}: {error}".splitlines()[0],
        )
    return PrerequisiteError(f"the {what} {given} could not be fetched from the hub: {why}")
