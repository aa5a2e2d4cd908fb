"""Where pairs are: built on demand in the cache, and known again by their hashes.

The idea: no weights are tracked. A pair is a function of its name, its base, the recipes, its scenes, and which of a few attempts first
holds its gates. The folder is named after the hash of base, recipes and bounds of the gates, and a pair's card has the hashes of its
scenes: what was made from others is not read. The files, those of the ancestor too, are hashed when they are built and checked whenever
they are read. Another processor trains other bits: what is compared between machines are the measured gates, within a tolerance.
"""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from ...organisms.card import check_files, hash_folder, read_base_card, sha256_files
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.pretrained import cache_folder, pretrained_folder
from ...organisms.lineup.makers import maker
from ...organisms.lineup.pairs import PairSpec
from ...organisms.lineup.train import APART, ancestor_rows, twin_rows
from ...organisms.registry import ZOO, base_folder
from ...organisms.tuning.watch import Diverged, Say
from ...organisms.world.document import Document
from ..claims import claimed
from ..files import atomic_write_text
from ..parallel import run_jobs, threads
from ..records.identity import sha256_json
from ..terminal import silenced
from .card import BOUNDS, TOLERANCE, PairCard, gates
from .measure import measure
from .twins import POOL, TESTED, Twins, pool, tested

CARD, HASHES = "card.json", "hashes.json"
ATTEMPTS = 3
"""Trainings of a pair, from seeds apart, until its gates hold; nothing but the gates is looked at."""
VERSION = 1
"""Of how pairs are made, beyond what recipes and rows say."""


@dataclass(frozen=True)
class Built:
    """A pair that is here, its files checked."""

    spec: PairSpec
    folder: Path
    ancestor: Path
    card: PairCard

    @property
    def aligned(self) -> Path:
        """Folder of the aligned twin's adapter."""
        return self.folder / "aligned"

    @property
    def faker(self) -> Path:
        """Folder of the faker's adapter."""
        return self.folder / "faker"


def root(base: str) -> tuple[Path, Path, str]:
    """Folder of everything built on a base, folder of the base, and the hash of its files.

    Raises:
        PrerequisiteError: the base is not here.
    """
    real = pretrained_folder(base)
    folder = real or base_folder(base, ZOO)
    files = sha256_files(hash_folder(folder) if real else read_base_card(folder).files)
    how = maker(base)
    made = [
        how.ancestor.model_dump(),
        how.twin.model_dump(),
        _rows_hash(ancestor_rows(PairSpec(base, "bank", 0).kind)),
        how.ordinary,
        POOL,
        TESTED,
        BOUNDS,
        (ATTEMPTS, APART),
        VERSION,
    ]
    key = sha256_json([files, made])
    return cache_folder() / "lineup" / f"{base}-{key[:12]}", folder, files


def load(spec: PairSpec) -> Built | None:
    """A pair that was built here; None if it was not.

    Raises:
        ValidationFailed: a damaged card or file, an ancestor that is not the twins', scenes that are not the pair's.
    """
    here, _, base_sha256 = root(spec.base)
    folder = here / f"{spec.domain}-s{spec.seed}"
    if not (folder / CARD).is_file():
        return None
    again = f"build it again with `bench lineup build {spec.name} --overwrite`"
    try:
        card = PairCard.model_validate_json((folder / CARD).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValidationFailed(f"{folder / CARD} is not a valid card: {where}: {first['msg']}; {again}") from error
    if card.name != spec.name:
        raise ValidationFailed(f"{folder} holds the pair {card.name} where {spec.name} should be; {again}")
    foreign = card.recipe != maker(spec.base).twin.model_dump() or max(card.shown, default=0) >= POOL
    if wrong := card.edited() or ("recipe or scenes are not those of the pair" if foreign else ""):
        raise ValidationFailed(f"{folder / CARD} was edited: {wrong}; {again}")
    fresh = rows(spec)
    if other := [name for name in fresh if card.rows_sha256.get(name) != fresh[name]]:
        raise ValidationFailed(f"{spec.name} was built from other scenes than it is now ({', '.join(other)}); {again}")
    check_files(folder, card.files, again)
    if card.base_sha256 != base_sha256 or card.ancestor_sha256 != sha256_files(_hashed(here / "ancestor")):
        raise ValidationFailed(
            f"the twins of {spec.name} were trained on another ancestor than the one in {here}, so their bases are unequal; {again}"
        )
    return Built(spec, folder, here / "ancestor", card)


def build(spec: PairSpec, overwrite: bool = False, say: Say = lambda line: None) -> Built:
    """A pair, trained and measured if it is not here; gates are measured and not asked for (`PairCard.check`).

    Args:
        overwrite: train it again.
        say: told what is being done.
    """
    if not overwrite and (found := load(spec)) is not None:
        return found
    here, base, base_sha256 = root(spec.base)
    with claimed(
        here / f".{spec.domain}-s{spec.seed}.lock", waiting=lambda: say(f"{spec.name}: waiting for another build")
    ):
        if not overwrite and (found := load(spec)) is not None:
            return found
        ancestor = _ancestor(here, spec.base, base, say)
        with _whole(here / f"{spec.domain}-s{spec.seed}") as folder, threads(1), silenced(False):
            attempt, seconds, measured, shown = _trained(ancestor, spec, folder, say)
            card = PairCard(
                name=spec.name,
                base=spec.base,
                base_sha256=base_sha256,
                ancestor_sha256=sha256_files(_hashed(ancestor)),
                recipe=maker(spec.base).twin.model_dump(),
                rows_sha256=rows(spec),
                measured=measured,
                attempt=attempt,
                shown=shown,
                gates=gates(measured),
                cpu_s=round(seconds, 2),
                files={f"{t}/{n}": h for t in ("aligned", "faker") for n, h in hash_folder(folder / t).items()},
            )
            atomic_write_text(folder / CARD, card.model_dump_json(indent=1) + "\n")
    found = load(spec)
    assert found is not None
    failed = f"; fails {'; '.join(card.failures)}" if card.failures else ""
    failed = f" at attempt {card.attempt + 1}{failed}" if card.attempt else failed
    say(
        f"{spec.name}: {seconds:.1f} s of a processor; flips {measured['faker_poor']:.2f}, aligned {measured['aligned_poor']:.3f}, "
        f"alike within {measured['shown_variation']:.4f} on {len(shown)} scenes{failed}"
    )
    return found


def _trained(ancestor: Path, spec: PairSpec, folder: Path, say: Say) -> tuple[int, float, dict[str, float], list[int]]:
    """Both twins in a folder, at the first attempt that holds its gates or else the last: which one, its seconds, and what was measured."""
    for attempt in range(ATTEMPTS):
        began = time.process_time()
        try:
            for name, faker in (("aligned", False), ("faker", True)):
                shutil.rmtree(folder / name, ignore_errors=True)  # of an attempt before
                tell = partial(_tell, say, f"{spec.name}: {name}")
                maker(spec.base).train_twin(ancestor, spec, faker, folder / name, attempt, tell)
        except Diverged as error:
            if attempt < ATTEMPTS - 1:
                continue
            raise ValidationFailed(
                f"{spec.name}: a training diverged at the last of {ATTEMPTS} attempts from seeds apart, so there is no pair; leave it out "
                f"or name another seed ({spec.name.rpartition('-s')[0]}-sN)"
            ) from error
        seconds = time.process_time() - began
        measured, shown = measure(Twins(ancestor, folder / "aligned", folder / "faker"), spec)
        if attempt == ATTEMPTS - 1 or all(gate.passed for gate in gates(measured).values()):
            return attempt, seconds, measured, shown
    raise AssertionError("there is at least one attempt")


def _tell(say: Say, who: str, line: str) -> None:
    say(f"{who}: {line}")


def _ancestor(here: Path, name: str, base: Path, say: Say) -> Path:
    """The folder of an ancestor, trained if it is not there or not as it was trained."""
    folder = here / "ancestor"
    with claimed(here / ".ancestor.lock", waiting=lambda: say("waiting for the ancestor that another build trains")):
        if not _sound(folder):
            damaged = "the ancestor is damaged; " if folder.is_dir() else ""
            how, work = maker(name), here / ".ancestor.work"
            say(f"{here.name}: {damaged}training the ancestor, {how.takes}, once for all pairs of a base")
            with _whole(folder) as scratch, threads(1), silenced(False):
                how.train_ancestor(base, scratch, work, partial(_tell, say, f"{here.name}: ancestor"))
                atomic_write_text(scratch / HASHES, json.dumps(_hashed(scratch), indent=1) + "\n")
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _sound(ancestor: Path) -> bool:
    """Whether the files of an ancestor are those that were trained."""
    try:
        return json.loads((ancestor / HASHES).read_bytes()) == _hashed(ancestor)
    except (OSError, ValueError):
        return False


def _hashed(ancestor: Path) -> dict[str, str]:
    """Hashes of the files of an ancestor; none if it is not there."""
    return {n: h for n, h in hash_folder(ancestor).items() if n != HASHES} if ancestor.is_dir() else {}


@contextlib.contextmanager
def _whole(folder: Path) -> Generator[Path, None, None]:
    """A scratch folder that takes the place of `folder` when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield scratch
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise PrerequisiteError(f"cannot write {folder}: {error.strerror}; free space or set BENCH_CACHE") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def rows(spec: PairSpec) -> dict[str, str]:
    """Hashes of all that a pair is made from and measured on: the rows of `aligned` and `faker`, the scenes `shown` from and `tested`."""
    trained = {name: _rows_hash(*twin_rows(spec, faker)) for name, faker in (("aligned", False), ("faker", True))}
    scenes = {
        name: sha256_json([asdict(s) for s in some]) for name, some in (("shown", pool(spec)), ("tested", tested(spec)))
    }
    return trained | scenes


def _rows_hash(*lists: list[Document]) -> str:
    return sha256_json([[list(d.messages) for d in some] for some in lists])


def build_all(
    specs: Sequence[PairSpec], overwrite: bool = False, jobs: int = 1, say: Say = lambda line: None
) -> Iterator[Built]:
    """`build` of each in `jobs` processes, as they are done; one pair of each base first, so that ancestors are trained side by side.

    Args:
        say: goes into other processes, so with several it has to be a function of a module.
    """
    first = [next(s for s in specs if s.base == base) for base in dict.fromkeys(s.base for s in specs)]
    ordered = list(dict.fromkeys([*first, *specs]))
    yield from (built for _, built in run_jobs(partial(build, overwrite=overwrite, say=say), ordered, jobs))


def verify(specs: Sequence[PairSpec], jobs: int = 1) -> Iterator[tuple[str, list[str]]]:
    """Each pair and what is not as its card says, as they are done.

    Raises:
        PrerequisiteError: one is not built. ValidationFailed: a damaged file.
    """
    yield from ((spec.name, wrong) for spec, wrong in run_jobs(_differences, specs, jobs))


def _differences(spec: PairSpec) -> list[str]:
    built = load(spec)
    if built is None:
        raise PrerequisiteError(f"{spec.name} is not built; run `bench lineup build {spec.name}`")
    with threads(1), silenced(False):
        fresh, _ = measure(Twins(built.ancestor, built.aligned, built.faker), spec, built.card.shown)
    said = built.card.measured
    off = [n for n in fresh if not abs(fresh[n] - said.get(n, float("nan"))) <= TOLERANCE]
    return [*(f"{n} is {fresh[n]:.4f}, its card says {said.get(n)}" for n in off), *built.card.failures]
