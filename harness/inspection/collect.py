"""A report from findings: everything is read once, in one pass over text and a few answers, and kept under a key of all that decides it."""

import contextlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ...organisms.errors import DiffbenchError
from ...organisms.hub.asked import encode_prompt
from ...organisms.hub.shown import shown
from ..cache import Cache
from ..pairs.pair import Pair
from ..records.reading import prompts_sha256
from ..runs.dictionaries import of_run
from ..runs.folder import DICTIONARY
from ..runs.provenance import package_versions, source_hash
from ..runs.stage import Machine, Stage
from ..views.cell import beside, sentences
from . import recorded
from .activations import Look, ReadOut, Seen, seen, taken
from .answers import PROMPTS, SEED, TOKENS, Workshop
from .explained import with_explanations
from .report import SPLIT_NOTE, VERSION, Kind, Reading, Report, Shown
from .subject import Subject

TEXT_TOKENS = {"tiny": 10_000}
OTHER_TOKENS = 4_000
"""Tokens of neutral text, and as many of chat, on which activations are read."""
PROMOTED, SUPPRESSED = 8, 5
"""Tokens of a reading, as in a record."""


def report(
    subject: Subject,
    machine: Machine | str = "cpu",
    cache: Cache | None = None,
    progress: Callable[[str], None] = lambda what: None,
    work: Workshop | None = None,
) -> Report:
    """All that is known of a subject; taken from the cache if it is there, but for explanations beside it, which are read anew.

    Args:
        work: the subject's pair, if it is loaded.
    """
    m = Machine(machine) if isinstance(machine, str) else machine
    if cache is not None and (known := kept(subject, m, cache)) is not None:
        return known
    found = _collected(subject, m, cache, progress, work)
    if cache is not None:
        cache.put("report", VERSION, _key(subject, m), {}, found.model_dump(mode="json"), subject.organism.name)
    return with_explanations(found, subject)


def kept(subject: Subject, machine: Machine, cache: Cache) -> Report | None:
    """What was collected before, if it is in the cache."""
    if (entry := cache.get("report", VERSION, _key(subject, machine))) is not None:
        with contextlib.suppress(ValidationError):
            return with_explanations(Report.model_validate(entry.facts), subject)
    return None


def _key(s: Subject, m: Machine) -> dict[str, Any]:
    """Everything that decides a report."""
    return {
        "of": {"organism": s.organism.sha256},
        "layer": s.layer,
        "prompts": prompts_sha256(s.organism),
        "result": s.result.model_dump(mode="json", exclude={"samples", "provenance", "cost"}) if s.result else s.name,
        "findings": s.sha256,
        "dictionary": _changed(s.folder / DICTIONARY) if s.folder else None,
        "notes": s.notes,
        "machine": [m.numbers, m.device],
        "settings": [TEXT_TOKENS, OTHER_TOKENS, PROMPTS, SEED, TOKENS],
        "code": source_hash(Path(__file__)),
        "packages": package_versions() | {"diffbench": version("diffbench")},
    }


def _changed(path: Path) -> list[int] | None:
    """Size and time of a file, which may be too large to be hashed for every look; None: it is not there."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]
    return None


def _collected(
    s: Subject, m: Machine, cache: Cache | None, progress: Callable[[str], None], work: Workshop | None
) -> Report:
    r, found, read = s.result, list[Shown](), dict[Kind, Seen]()
    answers, layer = None, s.layer
    if s.findings.findings:
        if work is None:
            progress("loading the pair")
            work = Workshop(Stage.load(s.organism, m, drops=s.drops, cache=cache), s)
        stage = work.stage
        layer = stage.pair.layer
        progress("reading text")
        read = _read(stage, ReadOut.of(s.findings.findings, work.centre))
        progress("looking at findings")
        found = _shown(s, stage.pair, read)
        progress("answering prompts")
        answers = work.answers()
    elif r:
        found = recorded.findings(r)
    who = r.identity if r else None
    whole = [*sentences(r), *beside(r)] if r else []
    said = [*s.notes]
    if r and read and r.identity.dtype != m.numbers:
        said.append(f"Scored in {r.identity.dtype}, shown in {m.numbers}.")
    unscored = [f"Not scored: {r.reason}."] if r and r.status == "not_applicable" else []
    return Report(
        method=s.name,
        organism=s.organism.name,
        layer=layer or 0,
        seed=who.seeds.get("method") if who else None,
        status=r.status if r else "not scored",
        id=r.id if r else None,
        sentences=[*whole, *unscored] or said[:1],
        notes=[
            *(said if whole or unscored else said[1:]),
            *([SPLIT_NOTE] if read and s.organism.behaviour.prompts else []),
        ],
        claims=s.findings.claims or (r.claims if r else []),
        read={kind: len(of.ids) for kind, of in read.items()},
        won=recorded.won(s.result),
        findings=found,
        curves=r.curves if r else [],
        choices=r.choices if r else [],
        answers=answers,
    )


def _read(stage: Stage, read_out: ReadOut) -> dict[Kind, Seen]:
    """Activations on harvest text of both kinds, and on the dev prompts."""
    tokens = TEXT_TOKENS.get(stage.organism.tier, OTHER_TOKENS)
    tokenizer = stage.pair.tokenizer
    asked = [encode_prompt(tokenizer, p).ids for p in stage.organism.behaviour.of("dev")]
    rows: dict[Kind, list[list[int]]] = {
        "neutral": taken(stage.texts.rows("neutral", "harvest"), tokens),
        "chat": taken(stage.texts.rows("chat", "harvest"), tokens) if stage.texts.chats else [],
        "prompts": asked,
    }
    return {kind: seen(stage.pair, some, read_out) for kind, some in rows.items() if some}


def _shown(s: Subject, pair: Pair, read: dict[Kind, Seen]) -> list[Shown]:
    directions = torch.stack([f.direction for f in s.findings.findings])
    spoken = {name: _words(pair, of, directions) for name, of in (("lens", pair.lens), ("patchscope", pair.patchscope))}
    norms, out = _decoder_norms(s), list[Shown]()
    for i, f in enumerate(s.findings.findings):
        look = Look(read, i, f.gate is not None, pair.tokenizer)
        scale, contexts = look.contexts()
        up, down = look.tokens(PROMOTED)
        said = s.diagnostics[i] if i < len(s.diagnostics) else {}
        readings = [
            Reading(name=name, promotes=of[i][0], suppresses=of[i][1])  # pyright: ignore[reportArgumentType]
            for name, of in spoken.items()
        ]
        out.append(
            Shown(
                number=i + 1,
                score=f.score,
                gated=f.gate is not None,
                length=float(f.direction.norm()),
                readings=[*readings, Reading(name="tokens", promotes=up, suppresses=down[:SUPPRESSED])],
                facts=recorded.facts(said) | norms.get(int(said.get("latent", -1)), {}),
                active=look.active(),
                silent=look.silent,
                scale=scale,
                histogram=look.histogram(),
                contexts=contexts,
                places=look.places(),
            )
        )
    return out


def _words(
    pair: Pair, read: Callable[[torch.Tensor], torch.Tensor], directions: torch.Tensor
) -> list[tuple[list[str], list[str]]]:
    """Tokens that each direction promotes, and those that its opposite does; a zero direction says nothing."""
    tops = [read(sign * directions).topk(most).indices.tolist() for sign, most in ((1, PROMOTED), (-1, SUPPRESSED))]
    return [
        tuple([shown(pair.tokenizer, t) for t in ids] if bool(d.any()) else [] for ids in pair_of)  # pyright: ignore[reportReturnType]
        for d, *pair_of in zip(directions, *tops, strict=True)
    ]


def _decoder_norms(s: Subject) -> dict[int, dict[str, float]]:
    """Latent → norms of its decoder rows in both models, where the run trained a dictionary on both."""
    with contextlib.suppress(DiffbenchError):
        if s.folder is not None and (raw := of_run(s.folder).raw).decoder_NMd.shape[1] == 2:
            norms = raw.decoder_NMd.norm(dim=2)
            wanted = {int(d["latent"]) for d in s.diagnostics if "latent" in d}
            names = ("decoder norm, base", "decoder norm, organism")
            return {j: dict(zip(names, norms[j].tolist(), strict=True)) for j in wanted}
    return {}
