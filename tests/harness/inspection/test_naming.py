"""What can be named: a record wherever it lies, and what is not there of it is said."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from diffbench.harness.diffs.record import DIFF
from diffbench.harness.inspection.naming import all_named, named
from diffbench.harness.inspection.subject import Subject
from diffbench.harness.records.reading import prompts_sha256
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import DICTIONARY
from diffbench.harness.runs.packs import PACKED_FINDINGS, pack
from diffbench.harness.store.moving import packable
from diffbench.harness.store.selection import stored
from diffbench.leaderboard.submissions.build import build
from diffbench.organisms.errors import DiffbenchError
from diffbench.organisms.organism import Organism

from ...leaderboard.submissions.bundles import CARD, make_cell, write_cell


@pytest.fixture(scope="module")
def root(organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells that were made on the shipped organism, as run folders, as a pack and as a bundle."""
    import_module("diffbench.cli")  # brings those who read bundles
    root = tmp_path_factory.mktemp("named")
    here = {"organism_sha256": organism.sha256, "prompts_sha256": prompts_sha256(organism)}
    for seed in (0, 1, 2):
        cell = make_cell(organism.name, seed, **here)
        cell.diagnostics = {"findings": [{"score": 1.0, "latent": 2}, {"score": 0.5, "latent": 3}]}
        write_cell(root / "runs", cell, trained=True)
    pack(*packable(list(stored([root / "runs"])), root / "packs"))
    build([root / "runs"], CARD, root / "theirs.bundle.safetensors")
    return root


def look(selector: object, scratch: Path, *places: Path) -> Subject:
    return named(str(selector), scratch, places or None)


def first(root: Path) -> Result:
    return next(r.result for r in stored([root / "runs"]) if r.result and r.result.identity.seeds["method"] == 0)


def test_one_record_is_the_same_by_every_name(root: Path, tmp_path: Path) -> None:
    id_, (folder,) = first(root).id, list((root / "runs").rglob(f"{first(root).id[:12]}"))
    by_name = [
        look(folder, tmp_path),
        look(folder / "result.json", tmp_path),
        look(id_[:8], tmp_path, root / "runs"),
        look(f"{root / 'packs'}:{id_[:8]}", tmp_path),
        look("taboo/gold-narrow+theirs", tmp_path, root / "packs"),
        look(f"{root / 'theirs.bundle.safetensors'}:{id_[:8]}", tmp_path),
        look("taboo/gold-narrow+theirs+0", tmp_path, root / "theirs.bundle.safetensors"),
    ]
    assert {s.result.id for s in by_name if s.result} == {id_} and len({s.sha256 for s in by_name}) == 1
    assert [len(s.findings.findings) for s in by_name] == [2] * 7


def test_a_place_of_many_gives_all_that_have_findings(root: Path, tmp_path: Path) -> None:
    for place in ("runs", "packs", "theirs.bundle.safetensors"):
        found, left_out = all_named([str(root / place)], tmp_path / place)
        assert {s.result.identity.seeds["method"] for s in found if s.result} == {0, 1, 2} and left_out == []


def test_a_place_of_diffs_gives_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / f"diffs/base/adapter/{m}/0123456789ab" for m in ("adl", "pca")]
    for f in folders:
        f.mkdir(parents=True)
        (f / DIFF).write_text("{}")
        (f / "findings.safetensors").write_bytes(b"")
    monkeypatch.setattr("diffbench.harness.inspection.naming.subject", lambda path, *_: _Said(path))
    for place, found in ((tmp_path / "diffs", folders), (folders[0].parent, folders[:1]), (folders[1], folders[1:])):
        assert [s.path for s in all_named([str(place)], tmp_path)[0]] == found  # type: ignore[attr-defined]


class _Said:
    def __init__(self, path: Path):
        self.path = path

    def chosen(self, numbers: list[int]) -> list[int]:
        return numbers


def test_what_a_pack_lacks_is_said_and_a_bundle_brings_what_it_has(root: Path, tmp_path: Path) -> None:
    id_ = first(root).id[:12]
    of_pack = look(f"{root / 'packs'}:{id_}", tmp_path)
    assert of_pack.notes == [f"gold-narrow.jsonl.xz holds no {DICTIONARY} of this record: decoder norms are not shown."]
    of_bundle = look(f"{root / 'theirs.bundle.safetensors'}:{id_}", tmp_path / "other")
    assert of_bundle.notes == [] and of_bundle.folder and (of_bundle.folder / DICTIONARY).is_file()


def test_a_pack_without_findings_shows_the_record_alone(root: Path, tmp_path: Path) -> None:
    bare = tmp_path / "packs/taboo/gold-narrow.jsonl.xz"
    bare.parent.mkdir(parents=True)
    bare.write_bytes((root / "packs/taboo/gold-narrow.jsonl.xz").read_bytes())
    assert not bare.with_name(f"gold-narrow{PACKED_FINDINGS}").exists()
    alone = look(first(root).id[:12], tmp_path, bare)
    assert alone.result and not alone.findings.findings
    with pytest.raises(DiffbenchError, match="holds no findings of this record: only the record is shown"):
        alone.chosen([1])


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("packs", "holds the records of many runs"),
        ("theirs.bundle.safetensors", "holds the records of many runs"),
        ("packs:abcdef", "has an id that begins with"),
        ("nothing", "there is no nothing, and it is no id"),
        ("taboo/gold-narrow+their+0", "did you mean taboo/gold-narrow+theirs"),
    ],
)
def test_what_names_nothing_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str, said: str
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(DiffbenchError, match=re.escape(said)):
        named(selector, tmp_path)


def test_a_bundle_that_was_changed_is_refused_before_anything_of_it_is_shown(root: Path, tmp_path: Path) -> None:
    data = bytearray((root / "theirs.bundle.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "theirs.bundle.safetensors").write_bytes(data)
    with pytest.raises(DiffbenchError, match="other bytes than the manifest names"):
        look(tmp_path / "theirs.bundle.safetensors", tmp_path)
