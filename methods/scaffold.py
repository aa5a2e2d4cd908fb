"""The package that `bench methods new` writes: a method that works as it stands, with its entry point, its test and its card.

Every file is one to edit and none to delete: the method can be run as a file, tested without a model, installed, and submitted.
"""

import importlib.util
from pathlib import Path

from ..organisms.errors import PrerequisiteError, UsageError
from ..organisms.template import check_name, filled
from .registry import BUILTIN

METHOD = '''"""{title}: say here what the method looks for, and where the idea comes from.

`bench methods check {name}.py` tries it on a small organism and on one where nothing changed; then
`bench run -m {name}.py,random,oracle -o taboo --set {name}.tokens=10000` scores it beside the anchors.
"""

import torch
from diffbench.methods.contract import Access, DiffProblem, DiffResult, Finding
from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Every field is an option: `--set {name}.tokens=10000`; the text under it is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=20_000, ge=1)
    """Tokens of chat that are read."""
    skip: int = Field(default=1, ge=0)
    """First positions of each text left out; the very first one is an attention sink."""


class {class_name}:
    """Mean of fine-tuned minus base residuals over chat."""

    name = "{name}"
    access: Access = "activations"
    paper = ""
    cost = "harvest"
    stochastic = False  # another seed gives the same findings; take this line out when you draw something
    Config = Options

    def __init__(self, config: Options) -> None:
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """One finding [d_model]; anything random would come from a generator seeded with `problem.seed`."""
        total, n = torch.zeros(problem.d_model, dtype=torch.float64), 0
        for batch in problem.activations("chat", tokens=self.config.tokens):
            base, tuned = batch.residuals[batch.positions >= self.config.skip].unbind(1)
            total += (tuned - base).cpu().double().sum(0)
            n += len(base)
            problem.progress(n, self.config.tokens)
        direction = (total / max(n, 1)).float()
        return DiffResult([Finding(direction, score=float(direction.norm()))], diagnostics={{"tokens": n}})
'''

TEST = '''"""{title} finds a change that was planted, and finds nothing where nothing changed. Run with `python -m pytest`."""

import torch
from diffbench.methods.contract import Batch
from {name} import {class_name}, Options


class Planted:
    """A diff problem in memory: random residuals, and one direction added to the second model on every other token."""

    d_model, seed, layer, device = 16, 0, 1, "cpu"

    def __init__(self, strength: float) -> None:
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(2000, self.d_model, generator=generator)
        self.direction = torch.nn.functional.normalize(torch.randn(self.d_model, generator=generator), dim=0)
        due = (torch.arange(len(base)) % 2 == 0).float()
        self.residuals = torch.stack([base, base + strength * due[:, None] * self.direction], 1)  # [tokens, 2, d_model]

    def activations(self, text, batch_tokens=500, tokens=None, start=None):
        for rows in self.residuals[:tokens].split(batch_tokens):
            yield Batch(rows, torch.zeros(len(rows), dtype=torch.int64), torch.arange(1, len(rows) + 1))

    def progress(self, done, total):
        pass


def test_it_finds_a_planted_change():
    problem = Planted(3.0)
    first = {class_name}(Options()).diff(problem).findings[0]
    assert torch.cosine_similarity(first.direction, problem.direction, dim=0) > 0.95


def test_it_finds_nothing_where_nothing_changed():
    assert not any(f.direction.any() for f in {class_name}(Options()).diff(Planted(0.0)).findings)
'''

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{dashed}"
version = "0.1.0"
description = "{title}: a diffing method for diffbench"
requires-python = ">=3.11"
dependencies = ["diffbench"]

[project.entry-points."diffbench.methods"]
{name} = "{name}:{class_name}"

[tool.setuptools]
py-modules = ["{name}"]
"""

CARD = """# What a table says of the method beside its scores: `bench submit --card card.yaml` puts it into the bundle.
name: {name}
summary: Mean of fine-tuned minus base residuals over chat.
authors: [Your Name]
licence: Apache-2.0 # of the method's code, as SPDX names it
access: activations
paper: null # https://...
code: null # https://... where others find the code
contact: null # https://... or an address
developed_on: [] # organisms that you looked at while you made the method, or names of sets
supersedes: null # an earlier method of yours on the board
"""

FILES = {"{name}.py": METHOD, "test_{name}.py": TEST, "pyproject.toml": PROJECT, "card.yaml": CARD}


def write_package(name: str, folder: Path) -> Path:
    """Write the package `NAME/` into `folder`.

    Returns:
        The method file.

    Raises:
        UsageError: not a name, one that a built-in method or an importable module has, or the folder is there already.
        PrerequisiteError: it cannot be written.
    """
    check_name("method", name, BUILTIN)
    package = folder / name
    if package.exists():
        raise UsageError(f"{package} is there already; choose another name or remove it")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"there is a module {name!r} already, which `import {name}` would find; choose another name")
    try:
        package.mkdir(parents=True)
        for file, template in FILES.items():
            (package / file.format(name=name)).write_text(filled(template, name), encoding="utf-8")
    except OSError as error:
        raise PrerequisiteError(
            f"cannot write {package}: {error.strerror}; free space or choose another folder"
        ) from error
    return package / f"{name}.py"
