"""Dictionaries from folders, what may be compared with what, and the record of a comparison.

Rows are compared where they live: the decoder rows of one model's residual, of the difference, or of both models side by side. Two rows
of different kinds have no cosine, so such dictionaries are refused; one model's rows of a joint dictionary may be asked for (`side`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ...methods.formats import Dictionary
from ...organisms.errors import UsageError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism, organism_names
from ..records.identity import Record
from ..runs.dictionaries import base_of, load
from .firing import Codes, Correlation, chance, codes_on_text, correlate
from .similarity import Matching, alike_chance, compare_rows, formula, matching_of, random_chance

Side = Literal["base", "ft"]
WHAT = {
    "concat": "both models side by side",
    "base": "the base alone",
    "ft": "the fine-tuned model alone",
    "difference": "their difference",
}
IDENTICAL = 1 - 1e-6
"""Cosine from which two rows are one vector: initial rows that were never trained, or the same file."""


class Listed(Record):
    """One of the dictionaries."""

    name: str
    """As it was given."""
    codes: str
    """concat, base, ft or difference; with `--side` the model whose rows are compared."""
    d_model: int
    n_latents: int
    compared: int
    """Latents that are compared: they write something, and fire on the text if there is one."""
    layer: int | None
    base: str | None
    organism: str | None
    method: str | None


class Both(Record):
    """A value, and what chance gives."""

    value: float
    random: float
    """With random rows of the same shape; for activations: with the text of B moved by half, each kind within itself."""
    alike: float | None = None
    """With random rows of the same second moment."""

    @property
    def above(self) -> float:
        """Value minus the random chance."""
        return self.value - self.random

    @property
    def above_alike(self) -> float | None:
        """Value minus the chance of rows with the same second moment."""
        return None if self.alike is None else self.value - self.alike


class Agreement(Record):
    """Two dictionaries."""

    a: int
    """Number in the list, from 0."""
    b: int
    cosine_ab: Both
    """Mean over rows of A of the largest cosine with a row of B."""
    cosine_ba: Both
    formula_ab: float
    """√(2 ln n_B / D), which random rows stay just under."""
    formula_ba: float
    matching: Matching
    matched: Both
    """Mean cosine of rows matched one to one."""
    same: Both
    """Share of the smaller dictionary's rows whose match has a cosine of at least .7."""
    matches: int
    identical: int
    """Rows of A that are, to 1e-6, a row of B."""
    firing_ab: Both | None = None
    """Mean over latents of A of the largest activation correlation with a latent of B."""
    firing_ba: Both | None = None
    firing_matched: Both | None = None
    """Mean activation correlation of the latents that the cosines match."""


class Comparison(Record):
    """Everything `bench dictionary compare` says."""

    schema_version: int = 1
    dictionaries: list[Listed]
    pairs: list[Agreement]
    text_tokens: int = 0
    """Held-out tokens on which activations were compared; 0: they were not."""
    notes: list[str] = Field(default_factory=list[str])
    seconds: float


@dataclass(frozen=True)
class Given:
    """A dictionary and what it is called."""

    name: str
    dictionary: Dictionary

    def rows(self, side: Side | None) -> Tensor:
        """[n, D] decoder rows that are compared."""
        decoder_NMd = self.dictionary.raw.decoder_NMd.float()
        if side and self.dictionary.card.inputs == "concat":
            return decoder_NMd[:, ("base", "ft").index(side)]
        return decoder_NMd.flatten(1)

    def codes(self, side: Side | None) -> str:
        """What its rows are rows of."""
        inputs = self.dictionary.card.inputs
        return side if side and inputs == "concat" else inputs


def read(folders: Sequence[Path], inputs: str | None = None) -> list[Given]:
    """Dictionaries of run folders and of folders in any known format; `inputs` is of those that do not say what they code.

    Raises:
        UsageError, PrerequisiteError, ValidationFailed: see `runs.dictionaries.load`.
    """

    def one(folder: Path) -> Dictionary:
        try:
            return load(folder)
        except UsageError:
            if inputs is None:
                raise
            return load(folder, None, inputs)

    return [Given(str(folder), one(folder)) for folder in folders]


def compare(
    given: Sequence[Given],
    side: Side | None = None,
    organism: str | None = None,
    tokens: int = 20_000,
    progress: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Every two dictionaries.

    Args:
        side: of joint dictionaries only this model's rows.
        organism: whose pair and text all are run on; default: each dictionary's own, if it is in the zoo.
        tokens: of text on which activations are compared; 0: none.

    Raises:
        UsageError: fewer than two, or kinds that have no cosine. ValidationFailed: none of a dictionary's latents is left.
    """
    start = time.perf_counter()
    refuse(given, side)
    notes = list[str]()
    codes, lengths = list[Codes | None](), list[int]()
    whose = _organisms(given, organism, notes) if tokens else None
    if whose:
        progress("reading text")
        found, lengths = codes_on_text([g.dictionary for g in given], whose, tokens)
        codes = [*found]
    else:
        notes.append(
            "Without text, latents that never fire are compared too; the rows of those that were never trained are random."
        )
    codes = codes or [None] * len(given)
    kept = [_kept(g, side, c) for g, c in zip(given, codes, strict=True)]
    rows = [g.rows(side)[k] for g, k in zip(given, kept, strict=True)]
    firing = [None if c is None else c[:, k.numpy()] for c, k in zip(codes, kept, strict=True)]
    pairs = list[Agreement]()
    for i, j in combinations(range(len(given)), 2):
        progress(f"comparing {given[i].name} with {given[j].name}")
        pairs.append(_agreement(i, j, rows[i], rows[j], firing[i], firing[j], lengths))
    if any(p.identical for p in pairs):
        notes.append(
            "Some rows of two dictionaries are one vector to 1e-6: the same training, or latents that kept the initial rows of one seed. "
            "Compare trainings of different seeds."
        )
    listed = [_listed(g, side, len(k)) for g, k in zip(given, kept, strict=True)]
    return Comparison(
        dictionaries=listed,
        pairs=pairs,
        text_tokens=sum(lengths),
        notes=notes,
        seconds=round(time.perf_counter() - start, 2),
    )


def refuse(given: Sequence[Given], side: Side | None) -> None:
    """Raise UsageError for dictionaries whose rows have no cosine."""
    if len(given) < 2:
        raise UsageError(f"one dictionary ({given[0].name}) has nothing to agree with; give two or more")
    first = given[0]
    for other in given[1:]:
        for g in (first, other):
            codes = g.dictionary.card.inputs
            if side and codes in ("base", "ft") and codes != side:
                alone, other_one = ("base", "fine-tuned model") if codes == "base" else ("fine-tuned model", "base")
                raise UsageError(
                    f"{g.name} codes the {alone} alone and has no rows of the {other_one}; use --side {codes}"
                )
        a, b = first.dictionary.card, other.dictionary.card
        if a.d_model != b.d_model:
            raise UsageError(
                f"{first.name} has residuals of width {a.d_model}, {other.name} of {b.d_model}: rows of other widths have no cosine; "
                "compare dictionaries of one base"
            )
        here, there = first.codes(side), other.codes(side)
        if here != there:
            joint = "concat" in (here, there)
            fix = (
                f"--side {there if here == 'concat' else here} compares that model's rows of the joint one"
                if joint and not {here, there} & {"difference"}
                else "compare dictionaries that code the same"
            )
            raise UsageError(
                f"{first.name} codes {WHAT[here]}, {other.name} {WHAT[there]}: their rows have no cosine; {fix}"
            )
    _one_base([(g.name, g.dictionary.card.base) for g in given])


def _one_base(found: Sequence[tuple[str, str | None]]) -> None:
    """Raise UsageError where two of these, as (what, its base if that is known), are of different bases."""
    known = [(what, base) for what, base in found if base]
    for what, base in known[1:]:
        if base != known[0][1]:
            raise UsageError(
                f"{known[0][0]} is of the base {known[0][1]}, {what} of {base}: the coordinates of two bases have nothing to do with each "
                "other, so a cosine or an activation would be chance; compare dictionaries of one base"
            )


def _organisms(given: Sequence[Given], organism: str | None, notes: list[str]) -> list[Organism] | None:
    """Whose pair each dictionary is run on, all on one base; None with a note where that is not known."""
    bases = [(g.name, g.dictionary.card.base) for g in given]
    lacking = [g.name for g in given if g.dictionary.card.layer is None]
    if lacking:
        notes.append(f"Activations were not compared: {', '.join(lacking)} does not say which block it codes.")
        return None
    if organism is not None:
        one = load_organism(organism)
        _one_base([*bases, (f"--organism {organism}", base_of(one.source, one.name))])
        return [one] * len(given)
    known, cards = set(organism_names()), [g.dictionary.card for g in given]
    if other := [g.name for g in given if g.dictionary.card.organism not in known]:
        notes.append(
            f"Activations were not compared: no pair is at hand for {', '.join(other)}; --organism NAME gives one of the zoo."
        )
        return None
    found = [load_organism(c.organism or "") for c in cards]
    if stale := [
        g.name for g, o in zip(given, found, strict=True) if g.dictionary.card.organism_sha256 not in (None, o.sha256)
    ]:
        notes.append(f"Activations were not compared: the organism of {', '.join(stale)} has other weights here.")
        return None
    _one_base(
        [*bases, *((f"the organism of {g.name}", base_of(o.source, o.name)) for g, o in zip(given, found, strict=True))]
    )
    return found


def _kept(given: Given, side: Side | None, codes: Codes | None) -> Tensor:
    """[n] latents that write something and, on text, fire."""
    keep = given.rows(side).norm(dim=1) > 0
    if codes is not None:
        keep &= torch.as_tensor(codes.getnnz(0) > 0)
    if not bool(keep.any()):
        why = "fires on the text that was read" if codes is not None else "writes anything"
        raise ValidationFailed(f"{given.name}: no latent {why}; it was not trained, or on residuals of another scale")
    return keep.nonzero()[:, 0]


def _agreement(
    i: int, j: int, a: Tensor, b: Tensor, f: Codes | None, g: Codes | None, lengths: Sequence[int]
) -> Agreement:
    found, matches = compare_rows(a, b)
    random, alike = random_chance(len(a), len(b), a.shape[1]), alike_chance(a, b)

    def both(name: str) -> Both:
        return Both(value=getattr(found, name), random=getattr(random, name), alike=getattr(alike, name))

    firing = dict[str, Both]()
    if f is not None and g is not None:
        have, moved = correlate(f, g, matches), chance(f, g, matches, lengths)
        firing = {f"firing_{name}": _firing(have, moved, name) for name in ("ab", "ba", "matched") if len(matches[0])}
    return Agreement(
        a=i,
        b=j,
        cosine_ab=both("max_ab"),
        cosine_ba=both("max_ba"),
        formula_ab=formula(len(b), a.shape[1]),
        formula_ba=formula(len(a), a.shape[1]),
        matching=matching_of(len(a), len(b)),
        matched=both("matched"),
        same=both("same"),
        matches=found.matches,
        identical=_identical(a, b),
        **firing,
    )


def _firing(have: Correlation, moved: Correlation, name: str) -> Both:
    key = "matched" if name == "matched" else f"max_{name}"
    return Both(value=getattr(have, key), random=getattr(moved, key))


def _identical(a: Tensor, b: Tensor) -> int:
    unit_a, unit_b = (torch.nn.functional.normalize(x.double(), dim=1) for x in (a, b))
    return sum(int(((part @ unit_b.T).amax(1) > IDENTICAL).sum()) for part in unit_a.split(1024))


def _listed(given: Given, side: Side | None, compared: int) -> Listed:
    card = given.dictionary.card
    return Listed(
        name=given.name,
        codes=given.codes(side),
        d_model=card.d_model,
        n_latents=card.n_latents,
        compared=compared,
        layer=card.layer,
        base=card.base,
        organism=card.organism,
        method=card.method,
    )
