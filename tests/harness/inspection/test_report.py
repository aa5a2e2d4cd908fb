"""A report of a real cell: collected once, the same from the cache, and refused or reduced where something is not there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffbench.harness.cache import Cache
from diffbench.harness.inspection import collect
from diffbench.harness.inspection.collect import report
from diffbench.harness.inspection.explained import file_of
from diffbench.harness.inspection.report import Report
from diffbench.harness.inspection.subject import Subject, latents, numbers, subject
from diffbench.harness.records.result import Result
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.folder import DICTIONARY, FINDINGS, RESULT, write_run
from diffbench.harness.runs.stage import Machine, Stage
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.contract import Finding, Gate
from diffbench.methods.formats import Dictionary, DictionaryCard, write_dictionary
from diffbench.methods.formats.findings import pack
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.organism import Organism
from diffbench.organisms.texts import WorldTexts
from safetensors.torch import save_file

from ...conftest import SHORT

LITTLE = 300
"""Tokens of text that are read."""


@pytest.fixture(scope="module")
def run(stage: Stage, organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of mean_diff."""
    entry = load_method("mean_diff")
    cell = Cell(organism, entry, entry.configure({"tokens": 1000}), 0, protocol=SHORT, in_process=True)
    stage.measured()
    unread = replace(stage)
    vars(unread)["reader"] = None  # identification reads 2,048 random directions
    outcome = run_cell(cell, unread)
    folder = tmp_path_factory.mktemp("run") / "cell"
    write_run(folder, outcome.result, outcome.diff, "")
    return folder


@pytest.fixture(scope="module")
def shown(run: Path) -> Report:
    """Its report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "TEXT_TOKENS", {"tiny": LITTLE})
        return report(subject(run))


@pytest.fixture(autouse=True)
def _little_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "TEXT_TOKENS", {"tiny": LITTLE})


def edited(run: Path, to: Path, change: dict[str, object]) -> Path:
    """A copy of a record, changed and with the id that belongs to it."""
    result = Result.model_validate_json((run / RESULT).read_text())
    identity = result.identity.model_copy(update=change)
    to.mkdir()
    fresh = result.model_copy(update={"identity": identity, "id": identity.id()})
    (to / RESULT).write_text(fresh.model_dump_json())
    return to


def test_a_report_says_what_the_record_says_and_shows_both_models(run: Path, shown: Report) -> None:
    found = shown
    record = Result.model_validate_json((run / RESULT).read_text())
    assert found.curves == record.curves and found.choices == record.choices and found.id == record.id
    assert "brings back" in found.sentences[0] and any("test split" in note for note in found.notes)
    assert len(found.findings) == len(subject(run).findings.findings)
    first = found.findings[0]
    assert [r.name for r in first.readings] == ["lens", "patchscope", "tokens"]
    assert first.readings[0].promotes == record.readings[0].promotes
    assert {c.kind for c in first.contexts} == {"neutral", "chat", "prompts"}
    assert found.answers is not None and found.answers.split == "dev" and len(found.answers.rows) >= 2
    assert found.answers.added is not None and found.answers.added.chosen.startswith("scoring")


def test_only_dev_prompts_are_read_and_shown(shown: Report, organism: Organism) -> None:
    asked = {" / ".join(t.content for t in p.messages) for p in organism.behaviour.of("dev")}
    assert shown.answers is not None and {row.asked for row in shown.answers.rows} <= asked


def test_what_was_collected_is_kept_and_collected_again_when_something_changed(
    run: Path, shown: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, of = Cache(tmp_path), subject(run)
    monkeypatch.setattr(collect, "_collected", lambda *_: shown)
    assert report(of, cache=cache) == shown

    def never(*_: object) -> Report:
        raise AssertionError("collected again")

    monkeypatch.setattr(collect, "_collected", never)
    assert report(of, cache=cache) == shown
    with pytest.raises(AssertionError, match="again"):
        report(replace(of, sha256="0" * 64), cache=cache)


def test_a_file_of_findings_needs_a_pair_and_is_not_scored(organism: Organism, tmp_path: Path) -> None:
    d, path = torch.randn(128, generator=torch.Generator().manual_seed(0)), tmp_path / "mine.safetensors"
    save_file(pack([Finding(d, Gate(d, 1e6))]), path)
    with pytest.raises(UsageError, match="-o ORGANISM"):
        subject(path)
    found = report(subject(path, organism))
    assert found.status == "not scored" and "not scored here" in found.sentences[0]
    assert found.findings[0].silent and found.answers is not None
    assert found.answers.added is not None and "default" in found.answers.added.chosen


def test_a_record_without_its_findings_shows_what_it_says(run: Path, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text((run / RESULT).read_text())
    found = report(subject(tmp_path))
    assert FINDINGS in found.notes[0] and found.answers is None and found.read == {}
    assert found.findings[0].readings[0].promotes and not found.findings[0].contexts


def test_an_oracle_has_no_findings(stage: Stage, organism: Organism, tmp_path: Path) -> None:
    entry = load_method("oracle")
    outcome = run_cell(Cell(organism, entry, entry.configure({}), 0, protocol=SHORT), stage)
    write_run(tmp_path / "cell", outcome.result, outcome.diff, "")
    of = subject(tmp_path / "cell")
    found = report(of)
    assert found.findings == [] and "whole residual" in found.sentences[0]
    with pytest.raises(PrerequisiteError, match="no findings"):
        of.chosen([1])


def test_a_failed_cell_an_edited_file_and_a_changed_organism_are_refused(run: Path, tmp_path: Path) -> None:
    changed = edited(run, tmp_path / "changed", {"organism_sha256": "0" * 64})
    with pytest.raises(ValidationFailed, match="weights or tokenizer of taboo/gold-narrow are not the ones"):
        subject(changed)
    text = json.loads((run / RESULT).read_text())
    nothing = {"scores": None, "samples": None, "behaviour": None}
    failed = {**text, **nothing, "status": "failed", "reason": "it fell over", "identification": None}
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / RESULT).write_text(json.dumps(failed))
    with pytest.raises(PrerequisiteError, match=r"it fell over.*bench run -m mean_diff"):
        subject(tmp_path / "failed")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / RESULT).write_text((run / RESULT).read_text())
    save_file(pack([Finding(torch.ones(128))]), tmp_path / "other" / FINDINGS, {"result": text["id"], "layer": "2"})
    with pytest.raises(ValidationFailed, match="holds 1 findings"):
        subject(tmp_path / "other")


def test_a_finding_that_is_not_there_is_named(run: Path) -> None:
    of = subject(run)
    have = len(of.findings.findings)
    assert of.chosen([1, have]) == [1, have]
    with pytest.raises(UsageError, match=f"no finding {have + 1}.*has {have}"):
        of.chosen([1, have + 1])


def test_numbers_of_findings() -> None:
    assert [numbers(t) for t in ("2", "1-3", "1,4-5,4", " 3 ")] == [[2], [1, 2, 3], [1, 4, 5], [3]]
    for bad in ("", "x", "0", "3-1", "-2", "1-", "1,,2", "9999999999", "²"):
        with pytest.raises(UsageError, match="--finding"):
            numbers(bad)


def test_a_direction_of_zeros_says_nothing_and_breaks_nothing(organism: Organism, tmp_path: Path) -> None:
    save_file(pack([Finding(torch.zeros(128))]), tmp_path / "mine.safetensors")
    found = report(subject(tmp_path / "mine.safetensors", organism))
    assert found.findings[0].readings[0].promotes == [] and found.findings[0].scale == 0
    assert found.answers is not None
    assert all(row.base == row.added and row.organism == row.removed for row in found.answers.rows)


def test_layers_that_contradict_each_other_are_refused(organism: Organism, tmp_path: Path) -> None:
    save_file(pack([Finding(torch.ones(128))]), tmp_path / "mine.safetensors", {"layer": "1"})
    with pytest.raises(UsageError, match="of layer 1, not of 2"):
        subject(tmp_path / "mine.safetensors", organism, 2)
    assert subject(tmp_path / "mine.safetensors", organism).layer == 1


def test_latents_of_a_dictionary_are_ranked_by_their_decoders(organism: Organism, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    decoder = torch.randn(40, 2, 128, generator=g)
    decoder[7, 0], decoder[9, 0] = 0.01 * decoder[7, 0], 0.02 * decoder[9, 0]
    raw = RawCoder(
        torch.randn(40, 2, 128, generator=g), torch.ones(40), decoder, torch.zeros(2, 128), torch.full((40,), 3.0)
    )
    card = DictionaryCard(inputs="concat", d_model=128, n_latents=40, layer=2)
    folder = tmp_path / "mine"
    folder.mkdir()
    write_dictionary(Dictionary(raw, card), "native", folder)
    of = subject(folder, organism)
    assert [f["latent"] for f in of.diagnostics[:2]] == [7, 9] and len(of.findings.findings) == 16
    first = of.findings.findings[0]
    assert torch.equal(first.direction, decoder[7, 1] - decoder[7, 0]) and first.gate is not None
    assert torch.allclose(first.gate.read, raw.encoder_NMd[7].sum(0)) and first.gate.threshold == 2.0
    with pytest.raises(UsageError, match="-o ORGANISM"):
        subject(folder)


def test_chosen_latents_take_the_place_of_the_findings(organism: Organism, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, 40, 2, 128, generator=g)
    raw = RawCoder(encoder, torch.ones(40), decoder, torch.zeros(2, 128), torch.full((40,), 3.0))
    folder = tmp_path / "mine"
    folder.mkdir()
    write_dictionary(
        Dictionary(raw, DictionaryCard(inputs="concat", d_model=128, n_latents=40, layer=2)), "native", folder
    )
    whole = subject(folder, organism)
    some = latents(whole, [5, 17])
    assert [f["latent"] for f in some.diagnostics] == [5, 17] and some.sha256 != whole.sha256
    assert torch.equal(some.findings.findings[1].direction, decoder[17, 1] - decoder[17, 0])
    assert file_of(some) != file_of(whole) and file_of(some).parent == folder / "explanations"  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(UsageError, match="no latent 40; mine has 0 to 39"):
        latents(whole, [40])


@pytest.mark.parametrize("changed", ["encoder", "threshold"])
def test_a_dictionary_whose_gates_are_others_is_another_subject(
    organism: Organism, tmp_path: Path, changed: str
) -> None:
    g = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, 40, 2, 128, generator=g)
    card, found = DictionaryCard(inputs="concat", d_model=128, n_latents=40, layer=2), list[Subject]()
    for other in (False, True):
        read = -encoder if other and changed == "encoder" else encoder
        threshold = torch.full((40,), -5.0 if other and changed == "threshold" else 3.0)
        folder = tmp_path / str(other) / "dict"
        folder.mkdir(parents=True)
        raw = RawCoder(read, torch.ones(40), decoder, torch.zeros(2, 128), threshold)
        write_dictionary(Dictionary(raw, card), "native", folder)
        found += [whole := subject(folder, organism), latents(whole, [5])]
    assert len({of.sha256 for of in found}) == 4
    assert [torch.equal(a.findings.findings[0].direction, b.findings.findings[0].direction) for a, b in
            zip(found[:2], found[2:], strict=True)] == [True, True]  # fmt: skip


def test_a_report_is_collected_again_where_the_run_has_another_dictionary(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    shutil.copytree(run, folder)
    keys = [collect._key(subject(folder), Machine("cpu"))]  # pyright: ignore[reportPrivateUsage]
    for content in (b"one", b"other"):
        (folder / DICTIONARY).write_bytes(content)
        keys.append(collect._key(subject(folder), Machine("cpu")))  # pyright: ignore[reportPrivateUsage]
    assert len({json.dumps(k, sort_keys=True) for k in keys}) == 3


def test_without_conversations_plain_text_is_not_shown_as_chat(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorldTexts, "chats", False)
    found = report(subject(run))
    assert "chat" not in found.read and found.read["neutral"] > 0
    assert all(not f.places and {c.kind for c in f.contexts} <= {"neutral", "prompts"} for f in found.findings)
