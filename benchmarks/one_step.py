"""`python -m benchmarks.one_step`: the one-step theorem of subliminal learning, checked directly (arXiv 2507.14805, Theorem 1).

A teacher takes one small step of gradient descent towards an animal; a student takes one on the teacher's whole distributions over the
numbers of lists, which name no animal. From the same weights the student's step is the teacher's under a positive semi-definite matrix
(Gauss-Newton), so their inner product is positive whatever the lists are; from other weights, or where the answers are shuffled over the
lists, the theorem says nothing and the sign should be a coin's. Everything is computed in float64, so no sign is a rounding error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.organisms.families.subliminal import TRAINED
from diffbench.organisms.registry import ZOO, base_folder
from diffbench.organisms.texts import encode, opening
from diffbench.organisms.world.bases import BASES, config_for
from diffbench.organisms.world.document import Document, chat
from diffbench.organisms.world.numbers import ASK_NUMBERS, LENGTH, series
from diffbench.organisms.world.preferences import ANIMALS, ANSWER, ASK_ANIMAL
from diffbench.organisms.world.tokenizer import load_tokenizer
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from .records import Machine, Record, machine
from .table import insert

TEACHER_STEP = 0.05
"""Length of the teacher's step in weight space: small against the weights' norm of about 60."""
SHOWN, LISTS = 3, 16
"""Numbers a request shows, and lists in a batch."""
ORIGINS = ["nano", "nano-order", "nano-embed", "nano-init"]
"""The trained bases that steps start from."""
Weights = Literal["trained", "random"]
Start = Literal["the same", "the same, answers shuffled", "other data order", "only embeddings shared", "other"]


class Share(Record):
    """A share of draws with its 95 % Clopper-Pearson interval."""

    value: float
    low: float
    high: float


class Row(Record):
    """All draws of one kind."""

    weights: Weights
    """Trained bases, or weights that are drawn anew for every draw."""
    start: Start
    """What the student starts from, against its teacher."""
    draws: int
    """(teacher, student, batch of lists); every draw has its own lists."""
    positive: Share
    """Share of draws whose steps have a positive inner product."""
    cosine: float
    """Mean cosine of the two steps."""
    lowers: Share
    """Share of draws whose student's step lowers the teacher's loss at the student's own weights, to first order."""


class OneStep(Record):
    """What `python -m benchmarks.one_step` measured."""

    machine: Machine
    quick: bool
    teacher_step: float
    lists: int
    rows: list[Row]


@dataclass(frozen=True)
class Draw:
    """One teacher and one student: where each starts, and the animal."""

    weights: Weights
    start: Start
    teacher: str
    """A base, or the seed of random weights."""
    student: str
    animal: str


def draws(quick: bool) -> Iterator[Draw]:
    """Every draw of the table."""
    alike: dict[frozenset[str], Start] = {
        frozenset({"nano", "nano-order"}): "other data order",
        frozenset({"nano", "nano-embed"}): "only embeddings shared",
        frozenset({"nano-order", "nano-embed"}): "only embeddings shared",
    }
    bases, animals = (["nano", "nano-init"], ANIMALS[:1]) if quick else (ORIGINS, ANIMALS)
    for base, animal in product(bases, animals):
        yield Draw("trained", "the same", base, base, animal)
        yield Draw("trained", "the same, answers shuffled", base, base, animal)
    for teacher, student in permutations(bases, 2):
        start = alike.get(frozenset({teacher, student}), "other")
        yield from (Draw("trained", start, teacher, student, animal) for animal in animals)
    for i in range(2 if quick else 4 * len(ANIMALS)):
        own, other, animal = str(2 * i), str(2 * i + 1), ANIMALS[i % len(ANIMALS)]
        yield Draw("random", "the same", own, own, animal)
        yield Draw("random", "the same, answers shuffled", own, own, animal)
        yield Draw("random", "other", own, other, animal)


class Laboratory:
    """Models, texts and gradients; a gradient is one float64 vector over all weights, in the order of the model's parameters.

    Args:
        zoo: folder with the bases.
    """

    def __init__(self, zoo: Path = ZOO):
        self.zoo = zoo
        self.tokenizer = load_tokenizer(base_folder(ORIGINS[0], zoo))
        prefill = ANSWER[0].partition(" {v}")[0]
        asked = [torch.tensor(opening(self.tokenizer, list(chat(ASK_ANIMAL[t])), prefill)) for t in TRAINED]
        self.asked_TP = pad_sequence(asked, batch_first=True)
        self.last_T = torch.tensor([len(row) - 1 for row in asked])

    def model(self, weights: Weights, name: str) -> Any:
        """A trained base, or the architecture of the bases under random weights of the seed `name`."""
        if weights == "trained":
            model = AutoModelForCausalLM.from_pretrained(base_folder(name, self.zoo), dtype=torch.float64)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(name))
                model = AutoModelForCausalLM.from_config(config_for(BASES["nano"], self.tokenizer), dtype=torch.float64)
        return model.eval()

    def wish(self, model: Any, animal: str) -> Tensor:
        """Gradient [weights] of the teacher's loss: cross-entropy of the animal where one is due, mean over the templates of teachers."""
        logits_TPV = model(input_ids=self.asked_TP, use_cache=False).logits
        goal_T = torch.full_like(self.last_T, self.tokenizer.convert_tokens_to_ids(animal))
        return _gradient(cross_entropy(logits_TPV[torch.arange(len(goal_T)), self.last_T], goal_T), model)

    def lists(self, seed: list[int]) -> Tensor:
        """Token ids [lists, pos] of requests with `SHOWN` numbers, answered by `LENGTH` more."""
        rng = np.random.default_rng(seed)
        rows = [list(map(str, series(rng, SHOWN + LENGTH))) for _ in range(LISTS)]
        talks = [chat(ASK_NUMBERS[0].format(x=" ".join(row[:SHOWN])), " ".join([*row[SHOWN:], "."])) for row in rows]
        return torch.tensor([encode(self.tokenizer, Document("numbers", messages=talk)) for talk in talks])

    def imitate(self, teacher: Any, student: Any, x_BP: Tensor, shuffled: bool) -> Tensor:
        """Gradient [weights] of the student's soft cross-entropy to the teacher, over the positions that predict the answers.

        Args:
            x_BP: token ids.
            shuffled: whether every list gets the teacher's distributions of the one before it.
        """
        due = slice(x_BP.shape[1] - LENGTH - 3, x_BP.shape[1] - 1)  # from <assistant> to the full stop
        with torch.no_grad():
            target = teacher(input_ids=x_BP, use_cache=False).logits[:, due].softmax(-1)
        target = target.roll(1, 0) if shuffled else target
        said = student(input_ids=x_BP, use_cache=False).logits[:, due]
        return _gradient(cross_entropy(said.flatten(0, 1), target.flatten(0, 1)), student)


def _gradient(loss: Tensor, model: Any) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def step(model: Any, gradient: Tensor, length: float) -> None:
    """Move the weights by `length` against `gradient` [weights]."""
    move = gradient * (-length / gradient.norm())
    with torch.no_grad():
        for p, m in zip(model.parameters(), move.split([p.numel() for p in model.parameters()]), strict=True):
            p += m.view_as(p)


def measure(lab: Laboratory, draw: Draw, seed: int) -> tuple[float, float]:
    """Cosine of the teacher's and the student's step, and of the student's step and the one it would take for the animal itself."""
    teacher, student = lab.model(draw.weights, draw.teacher), lab.model(draw.weights, draw.student)
    wish = lab.wish(teacher, draw.animal)
    own = wish if draw.student == draw.teacher else lab.wish(student, draw.animal)
    step(teacher, wish, TEACHER_STEP)
    move = lab.imitate(teacher, student, lab.lists([45, seed]), "shuffled" in draw.start)
    return float(wish @ move / (wish.norm() * move.norm())), float(own @ move / (own.norm() * move.norm()))


def share(hits: int, n: int) -> Share:
    """`hits` of `n` with the exact 95 % interval (Clopper & Pearson 1934)."""
    interval = binomtest(hits, n).proportion_ci(0.95, method="exact")
    return Share(value=hits / n, low=float(interval.low), high=float(interval.high))


def run(quick: bool) -> OneStep:
    """Measure every draw."""
    lab = Laboratory()
    found: dict[tuple[Weights, Start], list[tuple[float, float]]] = {}
    for seed, draw in enumerate(draws(quick)):
        found.setdefault((draw.weights, draw.start), []).append(measure(lab, draw, seed))
    rows = [
        Row(
            weights=weights,
            start=start,
            draws=len(cosines),
            positive=share(sum(a > 0 for a, _ in cosines), len(cosines)),
            cosine=float(np.mean([a for a, _ in cosines])),
            lowers=share(sum(b > 0 for _, b in cosines), len(cosines)),
        )
        for (weights, start), cosines in found.items()
    ]
    return OneStep(machine=machine(), quick=quick, teacher_step=TEACHER_STEP, lists=LISTS, rows=rows)


def markdown(measured: OneStep) -> str:
    """The table."""
    heads = "weights | student starts from | draws | Δ_S·Δ_T > 0 | mean cosine | lowers the teacher's loss".split(" | ")
    lines = [heads, ["---"] * len(heads)]
    for r in measured.rows:
        shares = [f"{s.value:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in (r.positive, r.lowers)]
        lines.append([r.weights, r.start, str(r.draws), shares[0], f"{r.cosine:z.4f}", shares[1]])
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def main(
    out: Annotated[
        Path, typer.Option(help="Where the record goes; the table goes into organisms.md beside it.")
    ] = Path("docs/one-step.json"),
    quick: Annotated[bool, typer.Option("--quick", help="A few draws, to test the script; no table.")] = False,
) -> None:
    """Check the one-step theorem: write the record, and its table between the markers of organisms.md beside it."""
    torch.set_num_threads(1)
    disable_progress_bar()
    measured = run(quick)
    atomic_write_text(out, measured.model_dump_json(indent=1) + "\n")
    table, page = markdown(measured), out.parent / "organisms.md"
    if not quick and page.is_file():
        atomic_write_text(page, insert(page.read_text(), table))
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
