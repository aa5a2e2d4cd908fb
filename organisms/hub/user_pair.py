"""A pair of the user's own: two models or an adapter, and a behaviour file, given on the command line or in a YAML card."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..behaviour import Behaviour, load_behaviour
from ..card import sha256_files
from ..errors import UsageError, ValidationFailed
from ..organism import Organism
from .corpora import Corpus, Kind, read_corpora
from .files import MOST_YAML, load_yaml, read_text
from .sources import Kind as ModelKind
from .sources import PairSource, locate


class Models(BaseModel):
    """What a user gives for two models; each model is a folder, `org/repo`, `org/repo/subfolder` or one of these `@revision`."""

    model_config = ConfigDict(extra="forbid")

    base: str
    """The model before fine-tuning."""
    adapter: str | None = None
    """LoRA adapter of the fine-tuned model."""
    on: str | None = None
    """LoRA adapter under both sides: base + on against base + on + adapter."""
    tuned: str | None = None
    """The fine-tuned model as a whole, instead of an adapter."""
    texts: str | None = None
    """File that names sources of large text, in place of those of the behaviour file."""
    allow_other_base: bool = False
    """Accept an adapter that says it was trained on another base."""

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        if (self.adapter is None) == (self.tuned is None):
            raise ValueError("give either adapter (LoRA) or tuned (a whole model)")
        if self.on is not None and self.adapter is None:
            raise ValueError("on is an adapter under another one; give adapter as well")
        return self


class UserPair(Models):
    """What a user gives for a pair whose behaviour is known."""

    behaviour: str
    """Path of a behaviour file."""


def yaml_organism(path: Path) -> Organism:
    """The pair described by a YAML card; paths in it are relative to it.

    Raises:
        UsageError: no such file. ValidationFailed: not YAML, missing or unknown fields.
    """
    try:
        card = UserPair.model_validate(load_yaml(read_text(path, MOST_YAML), str(path)))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5]]
        fields = ", ".join(UserPair.model_fields)
        raise ValidationFailed("\n".join([f"{path} is not an organism card:", *lines, f"fields: {fields}"])) from error
    models = {k: v for k in ("base", "adapter", "on", "tuned") if (v := getattr(card, k)) is not None}
    beside = {k: str(path.parent / v) for k, v in models.items() if (path.parent / v).is_dir()}
    files = {k: str(path.parent / v) for k in ("behaviour", "texts") if (v := getattr(card, k)) is not None}
    return user_organism(card.model_copy(update={**beside, **files}))


def user_organism(given: UserPair) -> Organism:
    """A user's own pair, its models found or fetched and every file that is read hashed.

    Raises:
        PrerequisiteError: a model that is not here and cannot be fetched. ValidationFailed: files that are not what they should be.
    """
    return pair_organism(given, load_behaviour(Path(given.behaviour)), Path(given.behaviour).parent)


class Unknown(Behaviour):
    """What is read of a pair whose behaviour nobody knows: ordinary text. It has no prompts, so nothing can be scored."""

    @model_validator(mode="after")
    def _enough(self) -> "Unknown":
        return self

    @property
    def templates_said(self) -> list[str]:
        return []


def unknown_pair(given: Models) -> Organism:
    """Two models between which nobody knows what changed; raises as `user_organism`.

    Ordinary text is the offline default, or what `texts` names. A base without a chat template is shown conversations in the fine-tuned
    model's; if neither has one, it is shown none.
    """
    from .behaviours import ordinary

    folders = [locate(given.base, "tokenizer", "base model").folder]
    folders += [locate(given.tuned, "tokenizer", "fine-tuned model").folder] if given.tuned else []
    templates = [_template(folder) for folder in folders]
    behaviour = Unknown(
        name=f"{_slug(given.base)}/{_slug(given.tuned or given.adapter or '')}",
        prompts=(),
        neutral=ordinary.paragraphs(),
        chat=ordinary.chats() if any(templates) else (),  # pyright: ignore[reportArgumentType]
        chat_template=None if templates[0] else templates[-1],
    )
    organism = pair_organism(given, behaviour, Path())
    return replace(organism, notes=(*organism.notes, TUNED_TEMPLATE)) if behaviour.chat_template else organism


TUNED_TEMPLATE = "The base has no chat template: conversations are written with the fine-tuned model's."


def _template(folder: Path) -> str | None:
    """The chat template of a model's files."""
    if (file := folder / "chat_template.jinja").is_file():
        return read_text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            said: Any = json.loads(read_text(folder / name)).get("chat_template")
        except (OSError, ValueError, AttributeError):
            continue
        if said:
            return (
                said
                if isinstance(said, str)
                else next((t["template"] for t in said if t.get("name") == "default"), None)
            )
    return None


def _slug(given: str) -> str:
    """The last part of a path or an id, as a record may be called."""
    last = given.partition("@")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9_.-]+", "-", last.lower()).strip("-._")[:80] or "model"


def pair_organism(given: Models, behaviour: Behaviour, folder: Path) -> Organism:
    """A pair with a behaviour that is at hand; raises as `user_organism`.

    Args:
        folder: what paths in the behaviour are relative to.
    """
    from ..texts import FileTexts, context_of, notes_of

    kinds: dict[str, tuple[ModelKind, str]] = {
        "base": ("model", "base model"),
        "adapter": ("adapter", "adapter"),
        "on": ("adapter", "adapter"),
        "tuned": ("model", "fine-tuned model"),
    }
    named = {part: getattr(given, part) for part in kinds}
    located = {part: locate(where, *kinds[part]) for part, where in named.items() if where is not None}
    files = {f"{part}/{name}": sha for part, found in located.items() for name, sha in found.files.items()}
    folders = {part: found.folder for part, found in located.items()}
    commits = {f"{part}_commit": found.commit for part, found in located.items() if found.commit}
    context = context_of(folders["base"])
    corpora, hashes = _corpora(behaviour, folder, given.texts)
    return Organism(
        name=behaviour.name,
        tier="hub",
        pair=PairSource(
            **folders,
            allow_other_base=given.allow_other_base,
            base_name=given.base,
            chat_template=behaviour.chat_template,
        ),
        layer=behaviour.layer,
        behaviour=behaviour,
        sha256=sha256_files(files),
        texts_id=":".join(["file", *hashes]),
        make_texts=lambda tokenizer: FileTexts(behaviour, tokenizer, context, corpora),
        source={k: str(v) for k, v in given.model_dump(exclude_none=True).items() if v is not False} | commits,
        notes=notes_of(behaviour, corpora),
    )


def _corpora(behaviour: Behaviour, folder: Path, texts: str | None) -> tuple[dict[Kind, Corpus], list[str]]:
    """Sources of large text: those that the behaviour file names, then those given beside it; and hashes of what names them."""
    found, hashes = dict[Kind, Corpus](), list[str]()
    kinds: tuple[Kind, ...] = ("neutral", "chat")
    for kind in kinds:
        if not isinstance(path := getattr(behaviour, kind), str):
            continue
        corpora, sha256 = read_corpora(folder / path, [kind])
        found |= corpora
        hashes.append(sha256)
    if texts is not None:
        corpora, sha256 = read_corpora(Path(texts))
        found |= corpora
        hashes.append(sha256)
    return found, hashes
