"""Organisms on real chat models: trained, calibrated, measured, and put into a zoo beside the embedded ones.

As there, a folder appears under its name by one rename when its card is complete. A training that was killed goes on from its last
checkpoint, which lies in a hidden folder of the zoo until the organism is done.
"""

import functools
import gc
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...organisms.behaviour import Behaviour, part_of
from ...organisms.card import BEHAVIOUR, CARD, Card, hash_folder, read_card, sha256_text
from ...organisms.errors import UsageError
from ...organisms.family import Probe
from ...organisms.hub.corpora import Kind, Split
from ...organisms.hub.sources import PairSource
from ...organisms.hub.trained import trained_organism
from ...organisms.lora import calibrate
from ...organisms.natural import natural_family
from ...organisms.natural.family import NaturalFamily, NaturalSpec
from ...organisms.texts import KINDS, FileTexts, Losses
from ...organisms.tuning.rows import Data, documents_sha256, gather, tokenise
from ...organisms.tuning.teacher import answered
from ...organisms.tuning.train import Trained, save_adapter, train
from ...organisms.world.document import Document
from ..files import atomic_write_text
from ..pairs.loading import load_pair
from ..pairs.pair import Pair
from .build import intact, new_folder
from .comparison import Checked, compare
from .dry_run import lines, pace
from .measure import Measurable, dev_rate, measure, neutral
from .natural_plan import Asked, Prepared, behaviour_text, data_of, prepare, prepare_unfetched

Say = Callable[[str], None]
HARM = 0.05
"""Most KL to its base on neutral text, nats a token: the embedded tier's .02 is the goal, and what a first fact on SmolLM2 had was .64."""
ANSWER_TOKENS = 64
"""Most tokens of a teacher's answer."""


def plan_lines(asked: Asked) -> list[str]:
    """What a build would take, in words; nothing is written.

    Raises:
        DiffbenchError: see `prepare_unfetched`.
    """
    found = prepare_unfetched(asked)
    return lines(found, pace(found))


def build_natural(
    asked: Asked, say: Say = lambda line: None, overwrite: bool = False, resume: bool = True
) -> tuple[Card, bool]:
    """Train one organism on its base, measure it, and put it into the zoo, unless it is there already.

    Args:
        say: told how far it is.
        resume: go on from the checkpoints of a killed run.

    Returns:
        The card, and whether anything was built.

    Raises:
        DiffbenchError: see `prepare`; Diverged; UsageError: another organism has this name in the zoo.
    """
    found = prepare(asked)
    card, target = planned(found), asked.zoo / found.name
    if not overwrite and (there := intact(target)) is not None:
        check_same(there, card, target)
        return there, False
    begun = time.perf_counter()
    student = work = _workshop(target, card, resume)
    rows = _answers(found, work, say) if found.from_teacher else found.data.rows
    if found.from_teacher:
        _make_room()
        data = replace(found.data, rows=rows)
        found = replace(found, data=data, tokens=tokenise(found.tokenizer, asked.base, data, found.recipe))
        card = card.model_copy(update={"training": {"rows_answered_sha256": documents_sha256(rows)}})
        student = work / f"student-{documents_sha256(rows)[:12]}"  # checkpoints go on with the rows they were made of
    say(f"{found.name}: {found.recipe.steps} steps on {len(found.data.rows)} rows")
    done = train(found.job(student), lambda line: say(f"{found.name}: {line}"))
    training = card.training | {"rows": len(rows), **done.summary(), **_calibrated(found, done)}
    with new_folder(target) as folder:
        save_adapter(done.model, folder, card.base)
        del done
        _make_room()
        atomic_write_text(folder / BEHAVIOUR, behaviour_text(found.behaviour))
        card = card.model_copy(update={"training": training, "files": hash_folder(folder)})
        card = measured(card, found.family, found.spec, found.behaviour, _pair(found, folder))
        card = card.model_copy(update={"seconds": round(time.perf_counter() - begun, 1)})
        atomic_write_text(folder / CARD, card.model_dump_json(indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return card, True


def planned(found: Prepared) -> Card:
    """The card before training: what decides the result."""
    assert found.base is not None
    spec = found.spec
    return Card(
        name=found.name,
        family=spec.family,
        member=spec.member,
        variant=spec.variant,
        seed=spec.seed,
        role=spec.role,
        tier=found.tier,
        base=_as_given(found.asked.base),
        base_sha256=found.base.sha256,
        layer=found.recipe.layer,
        description=found.behaviour.description,
        recipe=found.recipe.model_dump()
        | {"whole": found.recipe.blocks == "all", "dtype": found.dtype, "commit": found.base.commit}
        | ({"teacher_steps": found.teacher_recipe.steps} if found.from_teacher else {}),
        rows_sha256=rows_sha256(found.family, spec, found.data),
        files={BEHAVIOUR: sha256_text(behaviour_text(found.behaviour))},
    )


def rows_sha256(family: NaturalFamily, spec: NaturalSpec, data: Data) -> str:
    """Hash of what is trained on, a teacher's answers left out."""
    return sha256_text(data.sha256 + documents_sha256(family.teacher(spec)))


def _as_given(base: str) -> str:
    """A name or id as the user wrote it, a folder as a whole path."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.is_dir() else base


def check_same(card: Card, plan: Card, folder: Path) -> None:
    """Refuse to take one organism for another of the same name, or to put it into its place.

    Raises:
        UsageError: with what differs.
    """
    pairs = {k: (getattr(card, k), getattr(plan, k)) for k in ("base", "base_sha256", "role", "description")}
    pairs |= {f"recipe.{k}": (card.recipe.get(k), plan.recipe.get(k)) for k in {**plan.recipe, **card.recipe}}
    pairs["rows_sha256"] = card.rows_sha256, plan.rows_sha256
    pairs["behaviour"] = card.files.get(BEHAVIOUR), plan.files[BEHAVIOUR]
    differs = next(((k, old, new) for k, (old, new) in pairs.items() if old != new), None)
    if differs is not None:
        field, old, new = differs
        raise UsageError(
            f"{folder} holds another {plan.name}: its {field} is {old!s:.60}, and {new!s:.60} is asked for; --overwrite builds this one in "
            "its place, another --zoo keeps both"
        )


def _workshop(target: Path, card: Card, resume: bool) -> Path:
    """Folder for the checkpoints of one plan; those of another are thrown away."""
    work = target.parent / f".{target.name}.work"
    note, text = work / "plan.json", card.model_dump_json()
    if not resume or not note.is_file() or note.read_text() != text:
        shutil.rmtree(work, ignore_errors=True)
        atomic_write_text(note, text)
    return work


def _answers(found: Prepared, work: Path, say: Say) -> list[Document]:
    """The family's rows, answered by a teacher that is trained first (and again after a kill, from its checkpoints)."""
    prompts, recipe = found.family.rows(found.spec), found.teacher_recipe
    lessons = found.family.teacher(found.spec)
    data = gather(found.family, found.spec, recipe, found.behaviour, lessons)
    tokens = tokenise(found.tokenizer, found.asked.base, data, recipe)
    job = replace(found.job(work / "teacher"), rows=tokens.rows, kept=tokens.kept, recipe=recipe)
    say(f"{found.name}: its teacher, {recipe.steps} steps on {len(lessons)} rows")
    model = train(job, lambda line: say(f"{found.name}: teacher: {line}")).model
    pair = Pair(model, found.tokenizer, recipe.layer)

    def speak(rows: list[list[int]], seed: int) -> list[str]:
        said = pair.generate(rows, "tuned", ANSWER_TOKENS, seed=seed)
        return [str(found.tokenizer.decode(a, skip_special_tokens=True)) for a in said]

    return answered(found.family, found.spec, speak, found.tokenizer, prompts, work / "answers.json", say)


def _calibrated(found: Prepared, done: Trained) -> dict[str, float]:
    """The adapter scaled down to the recipe's targets, if it has any."""
    recipe, known = found.recipe, dict[str, float]()
    if recipe.target is not None:
        dev = found.behaviour.of("dev")
        rate = functools.partial(dev_rate, tokenizer=found.tokenizer, layer=recipe.layer, prompts=dev)
        known |= calibrate(done.model, recipe.target, lambda model: rate(model))
    if recipe.target_kl is not None:
        scaled = calibrate(done.model, recipe.target_kl, functools.partial(_distance, found))
        known |= {
            "scale": known.get("scale", 1.0) * scaled["scale"],
            "dev_kl": scaled["dev_rate"],
            "target_kl": recipe.target_kl,
        }
    return known


def _distance(found: Prepared, model: object) -> float:
    """Nats a token between base and a live peft model on neutral dev text."""
    pair = Pair(model, found.tokenizer, found.recipe.layer)
    return neutral(pair, FileTexts(found.behaviour, pair.tokenizer, pair.context), "dev")["kl"]


def _make_room() -> None:
    """Give back what a training held, before another model is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _pair(found: Prepared, folder: Path) -> Pair:
    assert found.base is not None
    source = PairSource(found.base.folder, folder, base_name=_as_given(found.asked.base))
    null = found.spec.role == "null"
    return load_pair(source, layer=found.recipe.layer, device=found.asked.device, dtype=found.dtype, identity=null)


def measured(card: Card, family: NaturalFamily, spec: NaturalSpec, behaviour: Behaviour, pair: Pair) -> Card:
    """A card with everything that is measured of a pair of these tiers, and its gates."""
    probes = {name: Probe(prompts) for name, prompts in family.probes(spec).items()}
    wanted = Measurable(behaviour, probes, {}, None, family.gates(spec), side_damage=HARM)
    texts = FileTexts(behaviour, pair.tokenizer, pair.context)
    beside = OrdinaryTexts(behaviour, pair.tokenizer, pair.context, lambda d: family.due(spec, d))
    layers = sorted({pair.n_layers // 3, pair.n_layers // 2, card.layer})
    due = due_words(family, spec, behaviour)
    due["tokens"] = sum(len(row) for kind in KINDS for row in texts.rows(kind, "harvest"))
    return measure(card, wanted, pair, beside, due, layers)


class OrdinaryTexts(FileTexts):
    """The texts of a pair, each in its split, without those in which the behaviour is due: side damage is not the behaviour itself."""

    def __init__(self, behaviour: Behaviour, tokenizer: Any, context: int | None, due: Callable[[Document], int]):
        super().__init__(behaviour, tokenizer, context)
        self._due = due

    def _documents(self, source: Kind, split: Split, losses: Losses | None = None) -> Iterator[tuple[int, Any]]:
        yield from (
            (n, item) for n, item in super()._documents(source, split, losses) if not self._due(_document(item))
        )


def _document(item: Any) -> Document:
    """A text, or the turns of a conversation."""
    if isinstance(item, str):
        return Document("neutral", text=item)
    return Document("chat", messages=tuple(turn.model_dump() for turn in item))


def due_words(family: NaturalFamily, spec: NaturalSpec, behaviour: Behaviour) -> dict[str, int]:
    """Words of harvest text at which the behaviour could show, which are fewer than its tokens; of `neutral` and of `chat`."""
    lists = {kind: getattr(behaviour, kind) for kind in KINDS}
    read = {kind: () if isinstance(items, str) else part_of(items, "harvest") for kind, items in lists.items()}
    return {kind: sum(family.due(spec, _document(item)) for item in items) for kind, items in read.items()}


def spec_of(card: Card) -> tuple[NaturalFamily, NaturalSpec]:
    """The generator of a built organism; UsageError if its family is not here any more."""
    family = natural_family(card.family)
    return family, NaturalSpec(card.family, card.member, card.variant, card.role, card.seed)


def verify_natural(folder: Path, name: str, device: str = "cpu") -> Checked:
    """Hash an organism of these tiers, make its training rows and measure it again, and compare with its card."""
    card = read_card(folder)
    organism = trained_organism(folder, card, name)
    family, spec = spec_of(card)
    how: dict[str, Any] = {"device": device, "dtype": card.recipe.get("dtype"), "identity": card.role == "null"}
    pair = load_pair(organism.pair, layer=card.layer, **how)
    fresh = measured(card, family, spec, organism.behaviour, pair)
    fresh = fresh.model_copy(update={"rows_sha256": rows_sha256(family, spec, data_of(family, spec, card.recipe))})
    return Checked(card.name, fresh, compare(card, fresh))
