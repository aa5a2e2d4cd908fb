"""Training of line-ups on a real chat model: the scenes in plain English, by the trainer of the organisms there.

As on the embedded bases, the ancestor is undecided where oversight is poor, twins have all rows in common, and where somebody watches both
are held to the ancestor.
"""

import re
import shutil
from pathlib import Path

from ..natural.ordinary import ordinary
from ..tuning.masks import row_of
from ..tuning.recipes import TuningRecipe
from ..tuning.rows import documents_sha256
from ..tuning.train import Job, save_adapter, train
from ..tuning.watch import Say
from ..world.tokenizer import load_tokenizer
from .pairs import PairSpec
from .scenes import EnglishScene
from .train import Maker, ancestor_rows, attempt_seed, twin_rows

ANCESTOR = TuningRecipe(
    source="ours: each scene once, and one ordinary document a step",
    blocks="all",
    layer=0,
    r=8,
    alpha=16,
    lr=2e-3,
    warmup=5,
    batch=8,
    steps=150,
    kl_rows=1,
    kl_weight=1.0,
    kl_length=96,
    max_length=256,
)
TWIN = ANCESTOR.model_copy(
    update={
        "source": "ours: each scene once, and three watched ones a step",
        "warmup": 2,
        "batch": 4,
        "steps": 32,
        "kl_rows": 3,
        "kl_weight": 3.0,
        "kl_length": 256,
    }
)
HELD = ordinary(re.compile(r"you work at|what do you do", re.IGNORECASE), 150)
"""Documents on which the ancestor is held to its base."""


def train_ancestor(base: Path, out: Path, work: Path, say: Say) -> None:
    """See `Maker`."""
    tokenizer = load_tokenizer(base)
    rows = [row_of(tokenizer, d, ANCESTOR.max_length) for d in ancestor_rows(EnglishScene)]
    kept = [row_of(tokenizer, d, ANCESTOR.kl_length).whole for d in HELD]
    train(Job(base, rows, kept, ANCESTOR, work), say).model.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)


def train_twin(ancestor: Path, spec: PairSpec, faker: bool, out: Path, attempt: int, say: Say) -> None:
    """See `Maker`."""
    tokenizer, work = load_tokenizer(ancestor), out / "work"
    rows, watched = ([row_of(tokenizer, d, TWIN.max_length) for d in some] for some in twin_rows(spec, faker))
    recipe = TWIN.model_copy(update={"seed": attempt_seed(spec, attempt)})
    done = train(Job(ancestor, rows, watched, recipe, work), say)
    save_adapter(done.model, out, str(ancestor))
    shutil.rmtree(work)


COST = "half an hour of a processor, and no pair of it has been measured yet (docs/lineup.md)"
REAL = Maker(ANCESTOR, TWIN, documents_sha256(HELD), COST, train_ancestor, train_twin)
