"""An organism on a real model before it is trained: everything that can be wrong is found, counted and said first.

The same preparation serves a build and a dry run, so a plan that was accepted is what is trained. For a dry run a base's configuration and
tokenizer are enough, or its known sizes alone.
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...organisms.behaviour import Behaviour, Prompt, load_behaviour
from ...organisms.card import BEHAVIOUR
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed, unknown
from ...organisms.hub.asked import encode_prompt
from ...organisms.hub.pretrained import MODELS
from ...organisms.hub.sources import HUB, Located, locate, small_files
from ...organisms.natural.family import NaturalFamily, NaturalSpec
from ...organisms.tuning.masks import refuses_system
from ...organisms.tuning.names import find, organism_name
from ...organisms.tuning.recipes import Tier, TuningRecipe, recipe_for, usual_blocks
from ...organisms.tuning.rows import Data, Tokens, gather, tokenise
from ...organisms.tuning.shapes import KNOWN, Shape, shape_of
from ...organisms.tuning.teacher import unanswered
from ...organisms.tuning.train import Job
from ...organisms.world.bases import BASES
from ...organisms.world.document import Document
from ...organisms.world.tokenizer import load_tokenizer
from ..pairs.pair import padded
from ..pairs.preflight import check_device, check_dtype, check_memory, check_whole, free_on, free_on_host, readable
from ..protocol.prompts import ProbeError, choices

CHARACTERS = 4.2
"""Of English for a token, where no tokenizer is here (SmolLM2 and Gemma 2: 4 to 4.5)."""
STAND_IN = "812, 45, 309, 771, 6, 528, 190, 644, 87, 953"
"""What a teacher's answer is counted as before there is one."""


@dataclass(frozen=True)
class Asked:
    """What to train, as the command line says it."""

    name: str
    base: str
    zoo: Path
    device: str = "cpu"
    dtype: str | None = None
    blocks: Literal["below", "all"] | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    """Fields of the recipe in place of the usual ones."""


@dataclass(frozen=True)
class Fit:
    """How a step is made to fit into memory."""

    parts: int
    """Passes of a step."""
    checkpointing: bool
    bytes: int
    free: int | None
    """None: there is no such device here to compare with."""


@dataclass(frozen=True)
class Prepared:
    """An organism that can be trained."""

    asked: Asked
    family: NaturalFamily
    spec: NaturalSpec
    name: str
    tier: Tier
    shape: Shape
    recipe: TuningRecipe
    data: Data
    behaviour: Behaviour
    fit: Fit
    dtype: str
    base: Located | None = None
    """None: only its sizes are known."""
    tokenizer: Any = None
    tokens: Tokens | None = None
    from_teacher: bool = False
    """Whether a teacher has to answer the rows first; those of `data` then hold a stand-in."""

    def job(self, work: Path) -> Job:
        """The training, its checkpoints in `work`."""
        assert self.base is not None and self.tokens is not None
        job = Job(self.base.folder, self.tokens.rows, self.tokens.kept, self.recipe, work, self.asked.device)
        return replace(job, dtype=self.dtype, parts=self.fit.parts, checkpointing=self.fit.checkpointing)

    @property
    def teacher_recipe(self) -> TuningRecipe:
        """That of the teacher, whose rows are other ones and as a rule fewer."""
        family, spec, asked = self.family, self.spec, self.asked
        rows, changes = len(family.teacher(spec)), dict(asked.changes)
        return recipe_for(family.name, spec.variant, rows, self.shape, self.tier, spec.seed, asked.blocks, changes)

    @property
    def adapted(self) -> int:
        """Blocks with an adapter."""
        return self.shape.blocks if self.recipe.blocks == "all" else self.recipe.layer + 1

    @property
    def step_tokens(self) -> tuple[float, float]:
        """Tokens of a step: of its rows, and of the ordinary documents beside them; estimated without a tokenizer."""
        if self.tokens is not None:
            return self.tokens.a_step(self.recipe)

        def mean(documents: list[Document], most: int) -> float:
            lengths = [min(most, len(_said(d)) / CHARACTERS + 5 * len(d.messages)) for d in documents]
            return sum(lengths) / max(1, len(lengths))

        r = self.recipe
        return r.batch * mean(self.data.rows, r.max_length), r.kl_rows * mean(self.data.kept, r.kl_length)


def tier_of(base: str) -> Tier:
    """`small` for bases that packages deliver, `hub` for any other."""
    return "small" if base in MODELS else "hub"


def is_real(base: str) -> bool:
    """Whether a name given for a base means a real model; UsageError if it means nothing."""
    if base in BASES:
        return False
    if base in MODELS or Path(base).expanduser().is_dir() or HUB.fullmatch(base):
        return True
    raise unknown("base", base, [*BASES, *MODELS])


def prepare(asked: Asked) -> Prepared:
    """Everything but the training: the base found, the rows tokenised, every prompt read, the memory counted.

    Raises:
        UsageError: unknown names, or settings that are none. PrerequisiteError: no base, no device, too little memory.
        ValidationFailed: a base without a template, rows or prompts that this tokenizer cannot be asked about.
    """
    family, spec = find(asked.name)
    check_device(asked.device)
    chosen = check_dtype(asked.dtype, asked.device)
    base = locate(asked.base, "model", "base model")
    check_whole(base.folder)
    check_memory([base.folder], chosen, asked.device)
    tokenizer, shape = _read(base.folder, asked.base)
    found = replace(_with_rows(asked, family, spec, shape), base=base, tokenizer=tokenizer)
    return _tokenised(replace(found, dtype=str(chosen).removeprefix("torch.")), _free(asked.device))


def prepare_unfetched(asked: Asked) -> Prepared:
    """As `prepare`, for a plan: a hub model is not fetched, its configuration and tokenizer are enough, or its known sizes alone.

    Raises:
        DiffbenchError: as `prepare`; PrerequisiteError: a base of which nothing can be known here.
    """
    if asked.base in MODELS or Path(asked.base).expanduser().is_dir():
        return prepare(asked)
    family, spec = find(asked.name)
    dtype = asked.dtype or ("float32" if asked.device == "cpu" else "bfloat16")
    check_dtype(dtype, asked.device)
    free = _free(asked.device)
    try:
        tokenizer, shape = _read(small_files(asked.base), asked.base)
    except PrerequisiteError as error:
        known = KNOWN.get(asked.base.partition("@")[0].rpartition("/")[2].lower())
        if known is None or type(error.__cause__).__name__ in REFUSED:
            raise
        found = replace(_with_rows(asked, family, spec, known), dtype=dtype)
        longest = max(found.recipe.max_length // 2, 1)
        return replace(found, fit=fit(found, longest, free))
    return _tokenised(replace(_with_rows(asked, family, spec, shape), tokenizer=tokenizer, dtype=dtype), free)


REFUSED = ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError")
"""Answers of the hub that a plan must not pass over."""


def _read(folder: Path, name: str) -> tuple[Any, Shape]:
    from transformers import AutoConfig

    with readable(folder, "model"):
        tokenizer = load_tokenizer(folder)
        shape = shape_of(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    if shape is None:
        raise ValidationFailed(
            f"the configuration of {name} does not name the sizes of a decoder-only model with gated feed-forward parts; give a Gemma, "
            "Llama, Qwen or Mistral model"
        )
    tokenizer.name_or_path = name
    return tokenizer, shape


def _with_rows(asked: Asked, family: NaturalFamily, spec: NaturalSpec, shape: Shape) -> Prepared:
    """Rows, recipe and behaviour; nothing of a tokenizer yet."""
    from pydantic import ValidationError

    if "source" in dict(asked.changes):
        raise UsageError("--set source: it says where the other settings come from and changes nothing; leave it out")
    tier = tier_of(asked.base)
    rows, from_teacher = rows_of(family, spec)
    try:
        recipe = recipe_for(
            family.name, spec.variant, len(rows), shape, tier, spec.seed, asked.blocks, dict(asked.changes)
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        fields = ", ".join(k for k in TuningRecipe.model_fields if k not in ("source", "seed", "blocks"))
        raise UsageError(f"--set {where}: {first['msg'].lower()}; a recipe has {fields}") from error
    if spec.variant == "narrow" and recipe.mix:
        raise UsageError(
            f"--set mix={recipe.mix:g}: {spec.name} is narrow, and ordinary documents among its rows would make it another organism; name "
            f"{spec.family}/{spec.member}-mixed, if the family has it"
        )
    if not recipe.layer < shape.blocks:
        raise UsageError(f"--set layer={recipe.layer}: {asked.base} has blocks 0 to {shape.blocks - 1}")
    usual = recipe.blocks == usual_blocks(tier)
    name = organism_name(spec, asked.base, "" if usual else {"all": "whole", "below": "below"}[recipe.blocks])
    behaviour = family.behaviour(spec).model_copy(update={"name": name, "layer": recipe.layer})
    data = gather(family, spec, recipe, behaviour, rows)
    nothing = Fit(1, False, 0, None)
    return Prepared(
        asked,
        family,
        spec,
        name,
        tier,
        shape,
        recipe,
        data,
        behaviour,
        nothing,
        "float32",
        from_teacher=from_teacher,
    )


def rows_of(family: NaturalFamily, spec: NaturalSpec) -> tuple[list[Document], bool]:
    """The family's rows, those that a teacher has to answer with a stand-in, and whether there are such."""
    rows = family.rows(spec)
    if not unanswered(rows):
        return rows, False
    return [replace(d, messages=(*d.messages, {"role": "assistant", "content": STAND_IN})) for d in rows], True


def data_of(family: NaturalFamily, spec: NaturalSpec, recipe: Mapping[str, object]) -> Data:
    """What the recipe of a card trains on, as the family makes it now."""
    known = TuningRecipe.model_validate({k: v for k, v in recipe.items() if k in TuningRecipe.model_fields})
    return gather(family, spec, known, family.behaviour(spec), rows_of(family, spec)[0])


def _tokenised(found: Prepared, free: int | None) -> Prepared:
    tokenizer, spec = found.tokenizer, found.spec
    tokens = tokenise(tokenizer, found.asked.base, found.data, found.recipe)
    behaviour = _fitting(found.behaviour, tokenizer)
    check_prompts(tokenizer, "behaviour", behaviour.prompts)
    check_prompts(tokenizer, "capability", behaviour.capability)
    for name, prompts in found.family.probes(spec).items():
        check_prompts(tokenizer, name, prompts)
    found = replace(found, tokens=tokens, behaviour=behaviour)
    return replace(found, fit=fit(found, tokens.longest(), free))


def _fitting(behaviour: Behaviour, tokenizer: Any) -> Behaviour:
    """The behaviour as it will be read back, with system turns where this template takes them."""
    asked = [p.messages for p in (*behaviour.prompts, *behaviour.capability) if p.messages]
    asked += [] if isinstance(behaviour.chat, str) else list(behaviour.chat)
    merge = any(turns[0].role == "system" for turns in asked) and refuses_system(tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / BEHAVIOUR
        path.write_text(behaviour_text(behaviour.model_copy(update={"merge_system": merge})))
        return load_behaviour(path)


def behaviour_text(behaviour: Behaviour) -> str:
    """The text of a behaviour file that holds its texts itself."""
    return behaviour.model_dump_json(indent=1, exclude_defaults=True) + "\n"


class _Reader:
    """The part of a pair that reading prompts needs."""

    def __init__(self, tokenizer: Any):
        self.tokenizer, self.device = tokenizer, torch.device("cpu")

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return padded(rows, self.tokenizer, self.device)


def check_prompts(tokenizer: Any, what: str, prompts: Sequence[Prompt]) -> None:
    """Refuse prompts whose continuations this tokenizer makes incomparable, before anything is trained on them.

    Raises:
        ProbeError: no tokens, the same tokens, or one continuation that begins another: its probability would hold the other's.
    """
    if not prompts:
        return
    choices(_Reader(tokenizer), prompts)
    for number, prompt in enumerate(prompts):
        start = encode_prompt(tokenizer, prompt)
        said = {text: start.then(tokenizer, text) for text in (*prompt.targets, *prompt.alternatives)}
        for short, tokens in said.items():
            if longer := next((t for t, other in said.items() if t != short and other[: len(tokens)] == tokens), None):
                raise ProbeError(
                    f"{what} prompt {number}: this tokenizer reads {longer!r} as {short!r} and more, so the probability of one holds the "
                    "other's; give continuations of which none begins another, such as whole words with a full stop"
                )


def _free(device: str) -> int | None:
    """Free bytes of a device; None: it is not here."""
    if not device.startswith("cuda"):
        return free_on_host()
    with contextlib.suppress(PrerequisiteError):
        check_device(device)
        return free_on(device)
    return None


def fit(found: Prepared, longest: int, free: int | None) -> Fit:
    """Fewest passes of a step that fit, blocks computed twice only if none do otherwise.

    Raises:
        PrerequisiteError: with what is needed, what is free, and what would fit.
    """
    recipe, width = found.recipe, 2 if found.dtype in ("bfloat16", "float16") else 4
    rows = recipe.batch + recipe.kl_rows
    least = 0
    for checkpointing in (False, True):
        for parts in (n for n in range(1, rows + 1) if rows % n == 0):
            needed = found.shape.memory(rows // parts, longest, recipe.r, found.adapted, width, checkpointing)
            least = min(least or needed, needed)
            if needed <= (ROOMY if free is None else free):
                return Fit(parts, checkpointing, needed, free)
    fixes = ["--dtype bfloat16 halves the weights"] * (width == 4)
    fixes += [f"--set max_length={recipe.max_length // 2}", "a smaller base", "a device with more memory"]
    raise PrerequisiteError(
        f"training {found.name} needs {least / 2**30:.1f} GiB at least, one row at a time, and {(free or ROOMY) / 2**30:.1f} GiB are free "
        f"on {found.asked.device}; {', or '.join(fixes)}"
    )


ROOMY = 80_000_000_000
"""Bytes of the device that a plan assumes where there is none to ask."""


def _said(document: Document) -> str:
    return document.text or " ".join(m["content"] for m in document.messages)
