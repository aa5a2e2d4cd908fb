"""What is to be looked at: findings, the record they belong to if there is one, and the organism they were found in.

Nothing is loaded because a record says so: an organism of the zoo is taken from it, any other is named by who asks. What the record was
made on must be what is here, or what is seen is of something else.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...methods.catalogue import row_of
from ...methods.coder.dictionary import TopKCoder
from ...methods.coder.scaling import relative_decoder_norm
from ...methods.contract import MAX_FINDINGS, DiffResult, Finding, Gate
from ...methods.formats import Dictionary
from ...methods.formats.findings import read_file
from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism
from ..diffs.diffing import matches
from ..diffs.record import DIFF, NOT_SCORED, read
from ..protocol.consistency import counted
from ..records.identity import sha256_json
from ..records.reading import prompts_sha256
from ..records.result import FINISHED, Result
from ..runs.dictionaries import load, of_run
from ..runs.folder import FINDINGS, RESULT, read_findings
from ..runs.records import findings_faults, read_run, zoo_name


@dataclass(frozen=True)
class Subject:
    """Findings and where they come from."""

    name: str
    """Of the method, or of the file."""
    organism: Organism
    layer: int | None
    findings: DiffResult
    """Without any, if the run has none or they are not there."""
    result: Result | None
    folder: Path | None = None
    """Run folder."""
    sha256: str | None = None
    """Of the findings."""
    notes: list[str] = field(default_factory=list[str])
    facts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What is said of each finding where there is no record."""
    where: Path | None = None
    """What was named."""

    @property
    def diagnostics(self) -> list[dict[str, Any]]:
        """What the method says of each finding."""
        said = self.result.diagnostics.get("findings") if self.result else self.facts
        return said if isinstance(said, list) else []  # pyright: ignore[reportUnknownVariableType]

    @property
    def drops(self) -> bool | None:
        """Whether sinks are left out, as the record has it; None: as is usual for the pair."""
        return self.result.identity.sinks == "drop" if self.result else None

    def chosen(self, numbers: list[int]) -> list[int]:
        """Numbers of findings (from 1) that are there, in their order.

        Raises:
            PrerequisiteError: there are none at all. UsageError: one that is not there.
        """
        have = len(self.findings.findings)
        if not have:
            why = "; ".join(self.notes) or f"{self.name} returned none"
            raise PrerequisiteError(f"{self.name} has no findings here: {why}")
        if wrong := [n for n in numbers if not 1 <= n <= have]:
            raise UsageError(f"there is no finding {wrong[0]}: {self.name} has {have}; give a number from 1 to {have}")
        return numbers


def numbers(text: str) -> list[int]:
    """`1-3`, `2` and `1,4-5` as numbers, rising and each once.

    Raises:
        UsageError: anything else.
    """
    found = set[int]()
    for part in text.split(","):
        first, dash, last = (p.strip() for p in part.partition("-"))
        if not (first.isdecimal() and (last.isdecimal() if dash else not last)) or len(part) > 9:
            raise UsageError(
                f"--finding {text!r} names no findings; give a number, a range or a comma list: 2, 1-3, 1,4"
            )
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 999:
            raise UsageError(f"--finding {text!r}: findings are numbered from 1, and a range rises, e.g. 1-3")
        found |= set(range(low, high + 1))
    return sorted(found)


def subject(where: Path, organism: Organism | None = None, layer: int | None = None) -> Subject:
    """A run folder, a record without its folder, or findings, a dictionary or a folder of `bench diff` with a pair.

    Args:
        organism: what it was found in, where that is no organism of the zoo, or not said by a record.
        layer: of a file of findings that does not say it.

    Raises:
        UsageError: a record of a pair that is not named, a file without a pair, another layer than the findings have.
        PrerequisiteError: nothing there, or a cell that failed. ValidationFailed: damaged or edited, or the organism has changed.
    """
    if where.suffix == ".safetensors" and not (where.parent / RESULT).is_file():
        return replace(_of_file(where, organism, layer), where=where)
    if (where / DIFF).is_file():
        return replace(_of_diff(where, organism), where=where)
    if where.is_dir() and not (where / RESULT).is_file() and any(where.glob("*.safetensors")):
        return replace(_of_dictionary(where, organism, layer), where=where)
    folder = where.parent if where.suffix == ".safetensors" else where
    return replace(_of_record(folder, read_run(folder), organism), where=where)


def _of_file(path: Path, organism: Organism | None, layer: int | None) -> Subject:
    file = read_file(path)
    o = _placed(path, organism, file.layer, layer)
    notes = ["These findings were made elsewhere and are not scored here: `bench score` does that."]
    return Subject(file.name or path.stem, o, o.layer, file.result, None, None, file.sha256, notes)


def latents(of: Subject, chosen: list[int]) -> Subject:
    """Some latents of the dictionary that a run trained, or that a folder holds, in the place of the findings.

    Raises:
        UsageError: a latent that the dictionary does not have. PrerequisiteError: no dictionary.
    """
    if of.folder is not None:
        dictionary = of_run(of.folder)
    elif of.where is not None and of.where.is_dir():
        dictionary = load(of.where)
    else:
        raise PrerequisiteError(f"{of.name} has no dictionary, so it has no latents; name a run that trained one")
    if wrong := [j for j in chosen if not 0 <= j < dictionary.card.n_latents]:
        raise UsageError(f"there is no latent {wrong[0]}; {of.name} has 0 to {dictionary.card.n_latents - 1:,}")
    found, facts = _as_findings(dictionary, chosen, of.name)
    notes = ["Latents of the dictionary, not the findings that the method returned."]
    return replace(of, findings=DiffResult(found), sha256=_hash(found), notes=notes, facts=facts, result=None)


def _hash(found: list[Finding]) -> str:
    """Of directions and gates: whatever decides where latents are active and what they do."""
    gates = ([f.gate.read.tolist(), f.gate.threshold] if f.gate else None for f in found)
    return sha256_json([[f.direction.tolist(), gate] for f, gate in zip(found, gates, strict=True)])


def _of_dictionary(folder: Path, organism: Organism | None, layer: int | None) -> Subject:
    """The latents of a dictionary of any known format whose decoder says most that they are of one model, as findings."""
    dictionary = load(folder)
    card = dictionary.card
    both = card.inputs == "concat"
    found, facts = _as_findings(dictionary, None, str(folder))
    o = _placed(folder, organism, card.layer, layer)
    by = "relative decoder norm" if both else "length of the decoder row"
    notes = [
        f"A dictionary: shown are the {len(found)} of its {card.n_latents:,} latents with the largest {by}. Nothing is scored."
    ]
    return Subject(folder.name, o, o.layer, DiffResult(found), None, None, _hash(found), notes, facts)


def _as_findings(
    dictionary: Dictionary, chosen: list[int] | None, name: str
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Latents as findings, and what is said of each.

    Args:
        chosen: which; None: those with the largest relative decoder norm, or the longest rows.
    """
    card, raw = dictionary.card, dictionary.raw
    if card.inputs not in ("concat", "difference"):
        raise PrerequisiteError(
            f"{name} codes one model ({card.inputs}), so none of its latents says by itself what changed; run it as a method, e.g. "
            "bench run -m sae_ft, and show that run"
        )
    both = card.inputs == "concat"
    change = raw.decoder_NMd[:, 1] - raw.decoder_NMd[:, 0] if both else raw.decoder_NMd[:, 0]
    rank = relative_decoder_norm(raw.decoder_NMd) if both else change.norm(dim=1)
    best = rank.nan_to_num(-1.0).argsort(descending=True, stable=True)[:MAX_FINDINGS].tolist()
    reads, thresholds = raw.gates()
    gated = both and not isinstance(dictionary.coder, TopKCoder)
    some = best if chosen is None else chosen
    found = [
        Finding(change[j].float(), Gate(reads[j].float(), float(thresholds[j])) if gated else None, float(rank[j]))
        for j in some
    ]
    return found, [{"latent": j} | ({"rdn": float(rank[j])} if both else {}) for j in some]


def _of_diff(folder: Path, organism: Organism | None) -> Subject:
    """What `bench diff` found."""
    diff = read(folder)
    if organism is None:
        raise UsageError(
            f"{folder} is of a pair of your own, and a record never decides what is loaded: name the models and texts as `bench diff` was "
            "told them (--base with --tuned or --adapter, --texts), without --behaviour"
        )
    o, path = organism.at(diff.what.layer, None), folder / FINDINGS
    matches(diff, o, folder)
    if diff.findings_sha256 != (sha256_file(path) if path.is_file() else None):
        raise ValidationFailed(
            f"{path} is not what {DIFF} says was found: it was edited or left out; run `bench diff` again"
        )
    found = read_findings(folder) if path.is_file() else DiffResult([], claims=diff.claims)
    facts, notes = diff.diagnostics.get("findings", []), [NOT_SCORED, *(diff.text.sentences if diff.text else [])]
    return Subject(
        row_of(diff.what.method, diff.what.config), o, o.layer, found, None, folder, diff.findings_sha256, notes, facts
    )


def _placed(path: Path, organism: Organism | None, said: int | None, asked: int | None) -> Organism:
    """The organism that findings without a record were made in, at their layer."""
    if organism is None:
        raise UsageError(
            f"{path} does not say of which pair it is; name it: -o ORGANISM, or --base with --adapter or --tuned and --behaviour"
        )
    if None not in (asked, said) and asked != said:
        raise UsageError(f"{path} is of layer {said}, not of {asked}; leave --layer out")
    return organism.at(said if asked is None else asked, None)


def _of_record(where: Path, result: Result, organism: Organism | None) -> Subject:
    who, folder = result.identity, where if where.is_dir() else where.parent
    if result.status not in FINISHED:
        raise PrerequisiteError(
            f"{where} is a cell with status {result.status!r} ({result.reason or 'no reason recorded'}), so it found nothing that could be "
            f"shown; run it again: bench run -m {who.row} -o {who.organism}"
        )
    o = (organism or load_organism(zoo_name(result))).at(who.layer, who.limit)
    here = {"organism_sha256": o.sha256, "prompts_sha256": prompts_sha256(o)}
    what = {
        "organism_sha256": f"weights or tokenizer of {who.organism}",
        "prompts_sha256": f"prompts or texts of {who.organism}",
    }
    for name, found in here.items():
        if getattr(who, name) != found:
            raise ValidationFailed(
                f"{where}: the {what[name]} are not the ones it was made on ({getattr(who, name)[:12]} there, {found[:12]} here), so its "
                f"findings would be shown in another model; run the cell again, or read the record alone: bench results show {where}"
            )
    known = Subject(who.row, o, who.layer, DiffResult([]), result, folder, result.findings_sha256)
    if who.method == "oracle":
        return replace(known, notes=["The oracle exchanges the whole residual: it has no findings to look at."])
    if not (folder / FINDINGS).is_file():
        if counted(result):
            return replace(known, notes=[f"{FINDINGS} does not lie beside the record: only the record is shown."])
        return replace(known, notes=["The method returned no findings."])
    if faults := findings_faults(folder, result):
        raise ValidationFailed(f"{folder}: {'; '.join(faults)}; run the cell again with --overwrite")
    return replace(known, findings=read_findings(folder))
