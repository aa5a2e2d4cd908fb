"""The method file that `bench methods new` writes: a working method, the mean difference over chat."""

from pathlib import Path

from ..organisms.template import write_template
from .registry import BUILTIN

TEMPLATE = '''"""{title}: say here what the method looks for, and where the idea comes from.

`bench methods check {name}.py` tries it on a small organism and on one where nothing changed; then
`bench run -m {name}.py,random,oracle -o taboo --set {name}.tokens=10000` scores it beside the anchors.
A test of your own: make residuals [tokens, 2, d_model] whose change you planted, hand them out through an object with
`d_model`, `seed`, `budget` and `activations(...)`, and ask that the first finding points along the change.
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


def write_method(name: str, folder: Path) -> Path:
    """Write `NAME.py` into `folder`; raises as `write_template`."""
    return write_template("method", name, BUILTIN, TEMPLATE, folder)
