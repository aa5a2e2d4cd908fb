"""Building the zoo: train, measure, write the card, and only then make the folder visible.

A folder appears under its final name by one rename, after its card is complete, so a half-built organism can never be loaded. What is
already there with the same recipe, rows and base is not built again: a build that was killed goes on where it stopped. Everything is
trained on one thread, so that the bytes depend neither on the number of cores nor on the number of jobs.
"""

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ...organisms.card import CARD, BaseCard, Card, hash_folder, read_base_card, read_card, sha256_files, sha256_text
from ...organisms.errors import DiffbenchError, UsageError, ValidationFailed, unknown
from ...organisms.families import families, family, find_spec
from ...organisms.family import Family, Job, Spec
from ...organisms.lora import LoraRecipe
from ...organisms.registry import ZOO, base_folder, open_source
from ...organisms.texts import WorldTexts
from ...organisms.world.bases import BASES, SIZES, BaseRecipe, train_base
from ...organisms.world.document import Document
from ...organisms.world.facts import World
from .. import terminal
from ..files import atomic_write_text
from ..pairs.loading import load_pair
from ..parallel import run_jobs, threads
from ..terminal import silenced
from .measure import Measurable, dev_rate, due_in, measure, measure_base

log = logging.getLogger(__name__)
Say = Callable[[str], None]


def build(
    sources: Sequence[str],
    zoo: Path | None,
    say: Say,
    bases: Sequence[str] = (),
    families_: Sequence[str] = (),
    everything: bool = False,
    jobs: int = 1,
    overwrite: bool = False,
) -> list[Card]:
    """Build bases, then organisms, with everything they need first.

    Args:
        sources: organisms, families by file (`my_family.py`, `my_family.py:member-variant`).
        zoo: folder to build into.
        say: told one line per step.
        bases: bases to train.
        families_: families of which every organism is built.
        everything: every base and organism.
        jobs: organisms trained at a time.
        overwrite: build what is already there.

    Raises:
        UsageError: unknown names, or nothing to build. PrerequisiteError: an organism whose base is not there.
    """
    root = zoo or ZOO
    for name in bases:
        if name not in BASES:
            raise unknown("base", name, list(BASES))
    wanted = [s for f in (list(families()) if everything else families_) for s in family(f).specs()]
    paths: dict[str, Path] = {}
    for source in sources:
        path, specs = open_source(source)
        wanted += specs
        paths |= {s.family: path for s in specs if path}
    if not bases and not wanted:
        raise UsageError("nothing to build; name organisms, --family NAME, --base NAME, or --all")
    chosen = list(BASES) if everything else bases
    for first in (True, False):
        level = [_Base(root, n, overwrite) for n in chosen if (BASES[n].embeddings_of is None) is first]
        for _, card in run_jobs(_build_base_task, level, jobs):
            if isinstance(card, Exception):
                raise card
    return build_specs(wanted, zoo, say, paths, jobs, overwrite)


def build_specs(
    wanted: Sequence[Spec],
    zoo: Path | None,
    say: Say,
    files: Mapping[str, Path] | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> list[Card]:
    """Build organisms, and what they need first; the other arguments are those of `build`.

    Args:
        files: family files, by the family's name.

    Raises:
        ValidationFailed: some could not be built; the others are there.
    """
    paths, done, failed = files or {}, list[Card](), dict[str, Exception]()
    for level in _levels(wanted):
        tasks = [_task(s, paths.get(s.family), zoo, overwrite) for s in level]
        for task, outcome in run_jobs(_build_task, tasks, jobs):
            if isinstance(outcome, Exception):
                failed[task.spec.name] = outcome
                say(f"error: {task.spec.name}: {outcome}")
                if isinstance(outcome, OSError):
                    raise outcome
                continue
            card, built = outcome
            done.append(card)
            b = card.measured["behaviour_test"]
            why = f": {'; '.join(card.failures)}" if card.failures else ""
            verb = "built" if built else "is there"
            say(
                f"{card.name} {verb}: b0 {b.base.value:.3f} → b1 {b.organism.value:.3f}, {card.status}{why} ({card.seconds:.0f} s)"
            )
    if len({type(e) for e in failed.values()}) == 1 and not done:
        raise next(iter(failed.values()))
    if failed:
        lines = [f"{name}: {error}" for name, error in failed.items()]
        raise ValidationFailed("\n".join([f"{len(failed)} organisms could not be built, the others are kept", *lines]))
    return done


def _task(spec: Spec, source: Path | None, zoo: Path | None, overwrite: bool) -> "_Task":
    """Organisms of a family file go into the folder `zoo` beside it unless another is named."""
    return _Task(zoo or (source.parent / "zoo" if source else ZOO), spec, source, overwrite)


def build_base(name: str, root: Path, say: Say, overwrite: bool = False) -> BaseCard:
    """Train the base `name`, measure its gates, and put it into `root/bases`; goes on from the checkpoints of a killed run."""
    from transformers import AutoModelForCausalLM

    from ...organisms.world.tokenizer import load_tokenizer

    recipe, target = BASES[name], root / "bases" / name
    if not overwrite:
        with contextlib.suppress(DiffbenchError):
            card = read_base_card(target)
            if card.recipe == recipe.model_dump():
                say(f"{name} is there")
                return card
    if recipe.embeddings_of:
        build_base(recipe.embeddings_of, root, say)
    start = time.perf_counter()
    work = _workshop(target, recipe)
    with new_folder(target) as folder, threads(1):
        say(f"{name}: training on {recipe.tokens:,} tokens")
        train_base(recipe, folder, root / "bases", work, lambda line: say(f"{name}: {line}"))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        measured, gates = measure_base(model, load_tokenizer(folder), World(recipe.world_seed))
        card = BaseCard(
            name=name,
            recipe=recipe.model_dump(),
            parameters=sum(p.numel() for p in model.parameters()),
            measured=measured,
            gates=gates,
            seconds=round(time.perf_counter() - start, 1),
            files=hash_folder(folder),
        )
        atomic_write_text(folder / CARD, card.model_dump_json(indent=2) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    bad = [f"{k} {g.value:.3f}" for k, g in gates.items() if not g.passed]
    say(f"{name}: {'gates hold' if not bad else 'failed: ' + ', '.join(bad)} ({card.seconds:.0f} s)")
    return card


def _workshop(target: Path, recipe: BaseRecipe) -> Path:
    """Folder for the checkpoints of one recipe; those of another recipe are thrown away."""
    work = target.parent / f".{target.name}.work"
    note = work / "recipe.json"
    if not note.is_file() or note.read_text() != recipe.model_dump_json():
        shutil.rmtree(work, ignore_errors=True)
        atomic_write_text(note, recipe.model_dump_json())
    return work


@dataclass(frozen=True)
class _Base:
    root: Path
    name: str
    overwrite: bool


@dataclass(frozen=True)
class _Task:
    root: Path
    spec: Spec
    source: Path | None
    overwrite: bool


def _levels(wanted: Sequence[Spec]) -> Iterator[list[Spec]]:
    """Specs with everything they need, in rounds: a round needs only earlier ones."""
    todo: dict[str, Spec] = {}

    def add(spec: Spec) -> None:
        todo.setdefault(spec.name, spec)
        for name in family(spec.family).needs(spec):
            if name not in todo:
                add(find_spec(name))

    for spec in wanted:
        add(spec)
    done: set[str] = set()
    while todo:
        ready = [s for s in todo.values() if set(family(s.family).needs(s)) <= done]
        if not ready:
            raise ValidationFailed(f"{', '.join(todo)} need each other; a family's `needs` must not form a circle")
        yield ready
        done |= {s.name for s in ready}
        todo = {n: s for n, s in todo.items() if n not in done}


def _build_base_task(task: _Base) -> BaseCard | Exception:
    try:
        with silenced(False):
            return build_base(task.name, task.root, partial(terminal.say, err=True), task.overwrite)
    except Exception as error:
        return error


def _build_task(task: _Task) -> tuple[Card, bool] | Exception:
    """Errors are values here: one organism that cannot be built must not cost the others."""
    if task.source is not None:
        open_source(str(task.source))
    try:
        with silenced(False):
            return build_organism(task.spec, task.root, task.overwrite)
    except Exception as error:
        log.debug("building %s failed", task.spec.name, exc_info=error)
        if task.source is None or isinstance(error, DiffbenchError | OSError):
            return error
        return ValidationFailed(
            f"{task.source} raises {type(error).__name__} while {task.spec.name} is built: {error}; mend the family file "
            "(--debug shows where)"
        )


def build_organism(spec: Spec, root: Path, overwrite: bool = False) -> tuple[Card, bool]:
    """Train one organism on its base, measure it, and put it into `root`, unless it is there already.

    Returns:
        The card, and whether anything was built.
    """
    from ...organisms.world.tokenizer import load_tokenizer

    kind = family(spec.family)
    start = time.perf_counter()
    base_dir = base_folder(spec.base or kind.base, root)
    base = read_base_card(base_dir)
    world = World(int(base.recipe["world_seed"]))
    layer = SIZES[base.recipe["size"]].layer
    recipe = kind.recipe(spec).model_copy(update={"layer": layer, "whole": spec.whole})
    needed = {n: sha256_files(read_card(root / n).files) for n in kind.needs(spec)}
    behaviour = kind.behaviour(world, spec)
    planned = Card(
        name=spec.name,
        family=spec.family,
        member=spec.member,
        variant=spec.variant,
        seed=spec.seed,
        role=spec.role,
        core=spec.core,
        tier="tiny",
        base=base.name,
        base_sha256=sha256_files(base.files),
        layer=layer,
        description=behaviour.description,
        recipe=recipe.model_dump(),
        rows_sha256=rows_sha256(kind, world, spec, needed),
        files={},
    )
    target = root / spec.name
    if not overwrite and (there := intact(target)) is not None and _same(there, planned):
        return there, False
    dev = behaviour.of("dev")
    with new_folder(target) as folder, threads(1):
        job = Job(
            spec=spec,
            world=world,
            base=base_dir,
            bases=base_dir.parent,
            out=folder,
            recipe=recipe,
            expression=lambda model: dev_rate(model, load_tokenizer(base_dir), layer, dev),
            adapter=lambda name: root / name,
        )
        training = kind.train(job)
        _name_base(folder, base.name)
        card = planned.model_copy(update={"training": training, "files": hash_folder(folder)})
        pair = load_pair(base_dir, folder, layer, identity=card.role == "null")
        due = due_in(kind, spec, world, pair.tokenizer)
        card = measure(card, Measurable.of(kind, world, spec), pair, WorldTexts(world, pair.tokenizer), due)
        card = card.model_copy(update={"seconds": round(time.perf_counter() - start, 1)})
        atomic_write_text(folder / CARD, card.model_dump_json(indent=1) + "\n")
    return card, True


def rows_sha256(kind: Family, world: World, spec: Spec, needed: Mapping[str, str]) -> str:
    """Hash of everything that is trained on: rows, the hashes of needed organisms, and the documents held to the base, if there are any."""

    def said(documents: Sequence[Document]) -> str:
        return json.dumps([[d.kind, d.text, d.messages] for d in documents])

    kept = kind.kept(world, spec)
    return sha256_text(said(kind.rows(world, spec)) + json.dumps(needed) + (said(kept) if kept else ""))


def intact(target: Path) -> Card | None:
    """The card in a folder whose files are all as hashed; a damaged folder is built again."""
    try:
        return read_card(target)
    except DiffbenchError:
        return None


def _same(card: Card, planned: Card) -> bool:
    """Whether a card is the result of the planned build; settings that are younger than the card were then what they are by default."""
    keys = ("name", "role", "core", "base_sha256", "layer", "rows_sha256", "description")
    recipe = LoraRecipe().model_dump() | card.recipe
    return recipe == planned.recipe and all(getattr(card, k) == getattr(planned, k) for k in keys)


def _name_base(folder: Path, base: str) -> None:
    """Replace the machine's path of the base in the adapter's configuration by its name."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def new_folder(target: Path) -> Generator[Path, None, None]:
    """A scratch folder that replaces `target` when the block succeeds and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.new"):  # of a build that was killed
        if not _alive(int(left.name.split(".")[-3])):
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=".new", dir=target.parent))
    try:
        yield scratch
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / target.name)
            scratch.rename(target)
            shutil.rmtree(old)
        else:
            scratch.rename(target)
        target.chmod(0o755)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
