"""Latent Scaling of diffing-toolkit beside ours: its `closed_form_scalars`, once for each of eight targets, on the same crosscoder.

Only its two modules of formulas are run. What they import to find dictionaries and data sets (`training`, `utils` beside them) is stood
in for by empty modules: it is never called here.
"""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from diffbench.methods.coder.sparse_coder import Group, SparseCoder
from torch import Tensor

from ..features import paired
from ..records import Row, agree, interleaved, relative, row
from ..scaling import TARGETS, Betas, one_pass
from ..step import Shape, sparse_step
from .crosscoders import load
from .sources import importable, module

FORMULAS = "diffing.utils.dictionary.latent_scaling"
NOT_CALLED = {
    "training": ("setup_training_datasets", "skip_first_n_tokens"),
    "utils": ("load_dictionary_model", "load_latent_df"),
}
CHUNK = 128
"""Tokens of a batch, as in its configuration."""


class Formulas:
    """Its two modules, and the crosscoder class they work on; to be made while both peers are importable."""

    def __init__(self, root: Path) -> None:
        for name in ("diffing", "diffing.utils", "diffing.utils.dictionary", FORMULAS):
            package = ModuleType(name)
            package.__path__ = [str(root / "diffing-toolkit" / name.replace(".", "/"))]
            sys.modules.setdefault(name, package)
        for name, functions in NOT_CALLED.items():
            stand_in = ModuleType(f"diffing.utils.dictionary.{name}")
            stand_in.__dict__.update(dict.fromkeys(functions))
            sys.modules.setdefault(stand_in.__name__, stand_in)
        self.targets, self.closed_form = module(f"{FORMULAS}.utils"), module(f"{FORMULAS}.closed_form")
        module("loguru").logger.disable("diffing")
        self.closed_form.tqdm = lambda batches: batches  # no bar
        self.crosscoder: Any = module("dictionary_learning").BatchTopKCrossCoder

    def betas(self, theirs: Any, x_BD: Tensor) -> Betas:
        """All eight targets of all latents, each in a pass of its own. [2, N] by target."""
        x_BMd = x_BD.unflatten(1, (2, -1))
        tuned_Nd, base_Nd = theirs.decoder.weight[1].detach(), theirs.decoder.weight[0].detach()
        run = partial(
            self.closed_form.closed_form_scalars,
            tuned_Nd,
            torch.arange(len(tuned_Nd)),
            x_BMd.split(CHUNK),
            theirs,
            device="cpu",
            dtype=x_BD.dtype,
        )
        found: Betas = {}
        for target in TARGETS:
            kind = target.replace("_nobias", "")
            rest = "_no_bias" if target.endswith("_nobias") else ""
            of = [getattr(self.targets, f"load_{model}_{kind}{rest}") for model in ("base", "ft")]
            if target == "error":
                of[0] = partial(of[0], base_decoder=base_Nd)
            found[target] = torch.stack([run(f)[0] for f in of])
        return found


def measure(shape: Shape, train_steps: int, repetitions: int, goal: float, root: Path) -> Row:
    """Equality of every beta in fp64, then milliseconds in fp32.

    Raises:
        Unavailable: diffing-toolkit or dictionary_learning is not installed.
        Disagreement: a beta differs.
    """
    with importable("diffing-toolkit", "dictionary_learning", root=root):
        formulas = Formulas(root)
    h_T2d = paired(shape.batch, shape.d_model)
    coder = SparseCoder(shape.d_model, [Group(shape.n_latents, shape.k)])  # normaliser of the identity: theirs has none
    step = sparse_step(coder, list(h_T2d.flatten(1).split(shape.batch // 4)))
    for _ in range(train_steps):
        step()

    def theirs(dtype: torch.dtype) -> Any:
        made = formulas.crosscoder(shape.d_model, shape.n_latents, 2, k=int(shape.k)).to(dtype)
        load(made, coder.to(dtype))
        made.threshold = coder.theta_G[0].clone()
        return made

    exact, x_BD = theirs(torch.float64), h_T2d.double().flatten(1)
    ours, its = one_pass(coder, h_T2d.double()), formulas.betas(exact, x_BD)
    found = {f"β {t}": agree(f"β {t}", _gap(ours[t], its[t]), 1e-8) for t in TARGETS}
    peer = theirs(torch.float32)
    timings = interleaved(
        {
            "one sparse pass": lambda: one_pass(coder, h_T2d),
            "diffing-toolkit": lambda: formulas.betas(peer, h_T2d.flatten(1)),
        },
        repetitions,
    )
    name = f"Latent Scaling against diffing-toolkit, d {shape.d_model}, n {shape.n_latents}, {shape.batch} tokens"
    return row(name, "pass", shape.batch, timings, goal, found)


def _gap(ours: Tensor, theirs: Tensor) -> float:
    """Relative difference over the latents that are active; a disagreement about which are is infinite."""
    active = ~theirs.isnan()
    return relative(ours[active], theirs[active]) if torch.equal(active, ~ours.isnan()) else float("inf")
