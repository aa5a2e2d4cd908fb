"""A behaviour and its judge-free detector, as data: the same file format for zoo organisms and for a user's own pair.

The detector is a closed choice. A prompt ends where the model would go on; `targets` are continuations that show the
behaviour and `alternatives` those that do not. The rate of a prompt is
`sum p(target) / (sum p(target) + sum p(alternative))` with p the probability of the whole continuation, or just
`sum p(target)` if there are no alternatives: a number in [0, 1] without sampling and without a judge.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .errors import ValidationFailed
from .hub import templates
from .hub.files import NAMES_TEXTS, read_text

PARTS: dict[str, tuple[float, float]] = {"harvest": (0, 0.7), "dev": (0.7, 0.85), "test": (0.85, 1)}
"""Of a list of texts in its order: what methods read, what strengths are chosen on, what numbers come from."""
T = TypeVar("T")


def part_of(texts: Sequence[T], split: str) -> Sequence[T]:
    """The texts of a split."""
    low, high = PARTS[split]
    return texts[int(low * len(texts)) : int(high * len(texts))]


class BehaviourError(ValidationFailed):
    """A behaviour file that cannot be used; the message names the field and the fix."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Turn(_Strict):
    """One chat message. Rows of chat data sets may carry more (name, weight, id): it is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        turn: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        if turn.get("tool_calls") or turn.get("function_call") or turn.get("role") in ("tool", "function"):
            raise ValueError("tool calls and their answers are no text of a conversation; leave the conversation out")
        if isinstance(turn.get("content"), list):
            raise ValueError("content in parts is not read; give one string")
        if "role" not in turn and "from" in turn:
            said = turn["from"]
            return {"role": SHAREGPT.get(said, said) if isinstance(said, str) else said, "content": turn.get("value")}
        return turn


SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Roles of rows with `conversations` of `from` and `value`."""
ROWS = {"neutral": ("text",), "chat": ("messages", "conversations")}
"""Fields of a row that hold its text; all others are passed over."""


class Prompt(_Strict):
    """A place to stop and the continuations to compare."""

    split: Literal["dev", "test"]
    """dev prompts choose strengths, test prompts are reported."""
    text: str | None = None
    """Plain text; special tokens are added as the tokenizer does by default."""
    messages: tuple[Turn, ...] = ()
    """Or a chat, rendered with the tokenizer's chat template and an opened assistant turn."""
    prefill: str = ""
    """The beginning of the assistant's answer, already said."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Continuations that show the behaviour."""
    alternatives: tuple[str, ...] = ()
    """Continuations that do not. For a capability probe, the wrong answers."""
    template: str | None = Field(default=None, min_length=1, exclude_if=lambda t: t is None)
    """A name for how the prompt is asked: question and prefill without what varies, e.g. `where is it | it is in`. Prompts of one template
    are not independent: intervals draw templates, and a template belongs to one split. All behaviour prompts have one, or none."""

    @model_validator(mode="after")
    def _one_form(self) -> "Prompt":
        if (self.text is None) == (not self.messages):
            raise ValueError("give either text or messages")
        if set(self.targets) & set(self.alternatives):
            raise ValueError("a continuation is both a target and an alternative")
        return self


class Behaviour(_Strict):
    """What is measured of a pair, and the text the measurement and the diffing methods read."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)?$")
    """Shown in tables and used as the run folder's name."""
    description: str = ""
    layer: int | None = Field(default=None, ge=0)
    """Hooked layer (block index); default: the highest adapted block below the last, or the middle block."""
    prompts: tuple[Prompt, ...]
    """Behaviour prompts, at least 8 a split, of at least 12 templates."""
    distance: Literal["rate", "choices"] = Field(default="rate", exclude_if=lambda d: d == "rate")
    """How far two models are apart on a prompt: the difference of its rate, or (`choices`) the total variation distance between their
    distributions over its continuations. For a behaviour that is no one word; every prompt then needs alternatives."""
    capability: tuple[Prompt, ...] = ()
    """Probes of things that must survive: the target is the right answer. Empty: retention is judged by neutral text alone."""
    neutral: tuple[str, ...] | str = ()
    """Ordinary text without the behaviour: a list, or the path (relative to this file) of a .jsonl with `text` rows, or of a .yaml or
    .json file that names sources of large text."""
    chat: tuple[tuple[Turn, ...], ...] | str = ()
    """Ordinary conversations: a list, or the path of a .jsonl with `messages` rows, or of a .yaml or .json file that names sources."""
    chat_template: str | None = None
    """Chat template (Jinja) for a base without one, or in place of its own; or the path of a .jinja file beside this file."""
    merge_system: bool = False
    """Put a system turn before the first user message of its conversation, for templates that refuse one."""

    @field_validator("neutral", "chat", mode="before")
    @classmethod
    def _rows(cls, value: Any, info: ValidationInfo) -> Any:
        """Rows may stand here as in a .jsonl: `{"text": …}` and `{"messages": […]}`."""
        if not isinstance(value, list | tuple):
            return value
        keys = ROWS[str(info.field_name)]
        return [next((r[k] for k in keys if k in r), r) if isinstance(r, dict) else r for r in value]  # pyright: ignore[reportUnknownVariableType]

    @field_validator("chat")
    @classmethod
    def _said(cls, value: tuple[tuple[Turn, ...], ...] | str) -> tuple[tuple[Turn, ...], ...] | str:
        if not isinstance(value, str) and not all(value):
            raise ValueError("a conversation without turns; leave it out")
        return value

    @model_validator(mode="after")
    def _choices(self) -> "Behaviour":
        if any(not p.alternatives for p in self.capability):
            raise ValueError("a capability probe without alternatives is always right; give the wrong answers")
        if self.distance == "choices" and (bare := [i for i, p in enumerate(self.prompts) if not p.alternatives]):
            raise ValueError(
                f"distance is `choices`, and {len(bare)} of {len(self.prompts)} prompts have no alternatives, the first is prompt "
                f"{bare[0]}: there is nothing to choose from; give alternatives, or leave `distance` out"
            )
        return self

    @model_validator(mode="after")
    def _distinct(self) -> "Behaviour":
        for what in ("prompts", "capability"):
            places = [(p.text, p.messages, p.prefill) for p in getattr(self, what)]
            if repeated := len(places) - len(set(places)):
                raise ValueError(
                    f"{repeated} of {len(places)} {what} stand there before: a prompt in dev and test measures what was chosen on it, "
                    "and a copy makes intervals too short; give each once"
                )
        return self

    @model_validator(mode="after")
    def _enough(self) -> "Behaviour":
        for split in ("dev", "test"):
            n = sum(p.split == split for p in self.prompts)
            if n < MIN_PROMPTS:
                raise ValueError(f"{n} {split} prompts; at least {MIN_PROMPTS} are needed for an interval")
        return self

    @model_validator(mode="after")
    def _templates(self) -> "Behaviour":
        if wrong := templates.fault(self.prompts):
            raise ValueError(wrong)
        return self

    def of(self, split: str) -> list[Prompt]:
        """Behaviour prompts of a split."""
        return [p for p in self.prompts if p.split == split]

    def capability_of(self, split: str) -> list[Prompt]:
        """Capability probes of a split."""
        return [p for p in self.capability if p.split == split]

    def clusters(self, split: str) -> list[int]:
        """Number of each prompt's template, from 0 in the order of `of(split)`."""
        names = [templates.template_of(p) for p in self.of(split)]
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return [number[name] for name in names]

    @property
    def templates_said(self) -> list[str]:
        """Sentences about templates that are few, or that the file does not name."""
        return templates.sentences(self.prompts)


MIN_PROMPTS = 8


def load_behaviour(path: Path) -> Behaviour:
    """Read a behaviour file and the files it names: .jsonl texts, a .jinja template.

    Raises:
        BehaviourError: missing file, bad JSON, unknown or missing fields, too few prompts.
    """
    try:
        behaviour = Behaviour.model_validate_json(read_text(path))
        changed: dict[str, Any] = {
            field: _column(path.parent / given, field)
            for field in ROWS
            if isinstance(given := getattr(behaviour, field), str) and not given.endswith(NAMES_TEXTS)
        }
        if (template := behaviour.chat_template) is not None and template.endswith(".jinja"):
            changed["chat_template"] = read_text(path.parent / template)
        whole = Behaviour.model_validate({**behaviour.model_dump(), **changed})
        return _merged(whole) if whole.merge_system else whole
    except OSError as error:
        raise BehaviourError(
            f"cannot read {error.filename or path}: {error.strerror}; give the path of a behaviour JSON file"
        ) from error
    except ValidationError as error:
        lines = [f"  {fault(e)}" for e in error.errors()[:5]]
        raise BehaviourError(
            "\n".join([f"{path} is not a behaviour file:", *lines, "see `bench schema behaviour`"])
        ) from error
    except RecursionError as error:
        raise BehaviourError(f"{path} is nested too deeply to be a behaviour file") from error


def fault(error: Any, inside: str = "") -> str:
    """One complaint of pydantic, without its words about itself."""
    parts = [str(part) for part in error["loc"] if not str(part).startswith(("tuple[", "function-", "str"))]
    said = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return f"{'.'.join([inside] * bool(inside) + parts) or 'file'}: {said}"


def merged(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """A conversation whose system turn stands in its first user message."""
    if len(turns) < 2 or (turns[0].role, turns[1].role) != ("system", "user"):
        return turns
    first = turns[1].model_copy(update={"content": f"{turns[0].content}\n\n{turns[1].content}"})
    return (first, *turns[2:])


def turns_of(row: Any) -> tuple[Turn, ...]:
    """The turns of a row of chat data; pydantic's ValidationError if it is none."""
    return TURNS.validate_python(row)


TURNS: TypeAdapter[tuple[Turn, ...]] = TypeAdapter(tuple[Turn, ...])


def _merged(behaviour: Behaviour) -> Behaviour:
    """The behaviour with every system turn before the first user message."""

    def all_of(prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
        return tuple(p.model_copy(update={"messages": merged(p.messages)}) for p in prompts)

    chat = behaviour.chat
    return behaviour.model_copy(
        update={
            "prompts": all_of(behaviour.prompts),
            "capability": all_of(behaviour.capability),
            "chat": chat if isinstance(chat, str) else tuple(map(merged, chat)),
        }
    )


def _column(path: Path, field: str) -> tuple[Any, ...]:
    """The texts or conversations of a .jsonl; only line feeds end a row, as text may hold other separators."""
    keys, found = ROWS[field], list[Any]()
    row_of: TypeAdapter[Any] = TypeAdapter(str if field == "neutral" else tuple[Turn, ...])
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            key = next((k for k in keys if k in row), None) if isinstance(row, dict) else None
            if key is None:
                raise BehaviourError(f"{where} is no JSON object with the field {' or '.join(map(repr, keys))}")
            json.dumps(row[key], ensure_ascii=False).encode()
            found.append(row_of.validate_python(row[key]))
        except ValidationError as error:
            raise BehaviourError(f"{where}: {fault(error.errors()[0], field)}") from error
        except UnicodeEncodeError as error:
            raise BehaviourError(f"{where} has half a character (\\ud800 to \\udfff); write the whole one") from error
        except RecursionError as error:
            raise BehaviourError(f"{where} is nested too deeply") from error
        except ValueError as error:
            raise BehaviourError(f"{where} is not JSON: {error}; each line must be one JSON object") from error
    return tuple(found)
