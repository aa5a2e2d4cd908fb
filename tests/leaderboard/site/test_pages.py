import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.inspection.recorded import of_record
from diffbench.harness.inspection.report import Report
from diffbench.harness.inspection.subject import Subject
from diffbench.harness.records.reading import prompts_sha256
from diffbench.harness.runs.packs import pack
from diffbench.harness.store.moving import packable
from diffbench.harness.store.selection import stored
from diffbench.leaderboard.board.build import Ask
from diffbench.leaderboard.board.cell import Cell
from diffbench.leaderboard.board.private import write_private
from diffbench.leaderboard.site import assets, links
from diffbench.leaderboard.site.build import Built, _replace, _write, site  # pyright: ignore[reportPrivateUsage]
from diffbench.leaderboard.site.method import _facts  # pyright: ignore[reportPrivateUsage]
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.registry import load_organism
from typer.testing import CliRunner

from ...factories import make_private, make_result, write_result
from ..lineup.made import record, write
from ..submissions.bundles import make_cell, write_cell
from .sites import ORGANISMS, build, make, told

pytest.importorskip("itables", reason="the site's tables are the package itables'")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def built(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(runs, tmp_path_factory.mktemp("site") / "out")


def pages(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.html"))}


class Links(HTMLParser):
    """Where a page leads and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.heads: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.tags.add(tag)
        self.found += [link for name in ("href", "src") if (link := of.get(name)) is not None]
        if tag == "th" and of.get("scope") == "col":
            self.heads.append(of)


def test_there_is_a_page_of_everything(built: Built) -> None:
    there = set(pages(built.out))
    assert {
        "index.html",
        "organisms.html",
        "compare.html",
        "claims.html",
        "tiers.html",
        "findings.html",
        "records.html",
        "lineups.html",
    } <= there
    assert {f"organisms/{name}.html" for name in ORGANISMS} <= there
    assert {"methods/delta.html", "methods/late.html", "on/family-made.html", "compare/delta/l1.html"} <= there
    assert sum(name.startswith("cells/") for name in there) == 29 and built.pages == len(there)


def test_strategies_on_lineups_have_a_page_and_its_absence_says_the_command(built: Built, tmp_path: Path) -> None:
    text = pages(built.out)["lineups.html"]
    assert text.index(">noise<") < text.index(">log_prob<") < text.index(">ceiling<") and "not ranked" in text
    assert re.search(r">uniform_noise better than log_prob</th><td[^>]*>not run<", text)
    write_result(tmp_path / "runs", make_result("delta", ORGANISMS[0]))
    for seed in (0, 1):
        write(record("noise", 0.9, seed=seed), tmp_path / "twice")
    twice = build(tmp_path / "runs", tmp_path / "out", extra=tmp_path / "twice")
    assert any("two records of noise" in note for note in twice.notes)
    empty = pages(build(tmp_path / "runs", tmp_path / "out").out)["lineups.html"]
    assert "bench lineup run -s all -o lineup-test" in empty and "<table" not in empty


def test_every_link_leads_somewhere_and_nothing_leads_out(built: Built) -> None:
    for name, text in pages(built.out).items():
        for link in Links(text).found:
            path, _, at = link.partition("#")
            target = (built.out / name).parent / path if path else built.out / name
            assert not re.match(r"[a-z]+:|//", link) and target.is_file(), (name, link)
            assert not at or f'id="{at}"' in target.read_text(encoding="utf-8"), (name, link)


def test_every_head_of_every_table_says_what_it_means(built: Built) -> None:
    for name, text in pages(built.out).items():
        assert all(head.get("title") for head in Links(text).heads), name


def test_no_text_of_a_record_becomes_markup(built: Built) -> None:
    texts = pages(built.out)
    for text in texts.values():
        assert "img" not in Links(text).tags and text.count("<script") == text.count("<script src=") == 2
    assert "&lt;script&gt;alert(" in texts["records.html"]
    assert "&lt;script&gt;" in texts["organisms/made/one.html"] and "&lt;script&gt;" in texts["methods/delta.html"]


def test_the_same_records_give_the_same_bytes(built: Built, runs: Path, tmp_path: Path) -> None:
    again = build(runs, tmp_path / "again").out
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(built.out) for p in built.out.rglob("*") if p.is_file())
    assert all((again / f).read_bytes() == (built.out / f).read_bytes() for f in files)


def test_pages_say_what_the_records_say(built: Built) -> None:
    texts = pages(built.out)
    (delta,) = [row for row in built.table.overall if row.method == "delta"]
    value = f"{delta.scores['isolation'].value:.2f}".removeprefix("0")
    assert value in texts["index.html"] and value in texts["methods/delta.html"]
    assert "one clue" in texts["organisms/made/one.html"] and "it is gold" in texts["organisms/made/one.html"]
    assert "one clue" not in texts["organisms/made/two.html"]
    (page,) = [t for n, t in texts.items() if re.fullmatch(r"cells/made/one/l1/.*", n) and ", seed 1</h1>" in t]
    assert "the records do not say whether it draws anything" in texts["methods/late.html"]
    assert "no command is known: the pair is not in the zoo" in page and "bench run" not in page
    assert (
        "the organism of this name" not in page
        and "No card: this organism is not in the zoo" in texts["organisms/made/one.html"]
    )


def test_too_many_records_have_a_page_a_method_and_organism_then_none(runs: Path, tmp_path: Path) -> None:
    def cells(most: int) -> list[str]:
        return [n for n in pages(build(runs, tmp_path / str(most), most).out) if n.startswith("cells/")]

    assert len(cells(20)) == 17 and len({n.rpartition("/")[0] for n in cells(20)}) == 17
    assert not cells(16)
    rule = pages(tmp_path / "16")["organisms/made/one.html"]
    assert "16 pages of records at most, and there are 29 records" in rule and "--cells asks for more" in rule


def test_a_report_of_another_record_is_not_shown(tmp_path: Path) -> None:
    runs = make(tmp_path / "runs")
    (report,) = runs.rglob("report.json")
    other = next(p for p in runs.rglob("l1/*/result.json"))
    os.replace(report, other.parent / "report.json")
    built = build(runs, tmp_path / "out")
    assert ["report.json: it is of record" in note for note in built.notes] == [True]
    assert "one clue" not in pages(built.out)["organisms/made/one.html"]


def test_records_of_a_pack_are_looked_at_if_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    organism = load_organism("taboo/gold-narrow")
    cell = make_cell(organism.name, 0, organism_sha256=organism.sha256, prompts_sha256=prompts_sha256(organism))
    write_cell(tmp_path / "runs", cell)
    pack(*packable(list(stored([tmp_path / "runs"])), tmp_path / "packs"))
    looked_at = list[str]()

    def collected(of: Subject, *_: object) -> Report:
        assert of.result and of.findings.findings
        looked_at.append(of.result.id)
        return told(of_record(of.result))

    monkeypatch.setattr("diffbench.harness.inspection.collect.report", collected)
    for collect, said in ((False, False), (True, True)):
        out = tmp_path / str(collect)
        assert site([tmp_path / "packs"], out, Ask(draws=50), collect=collect, use_cache=False).notes == []
        assert ("it is gold" in pages(out)["organisms/taboo/gold-narrow.html"]) is said
    assert len(looked_at) == 1

    def edited(*args: Any, **fields: Any) -> Any:
        return (replace(record, findings=b"others") for record in stored(*args, **fields))

    monkeypatch.setattr("diffbench.leaderboard.site.facts.stored", edited)
    built = site([tmp_path / "packs"], tmp_path / "edited", Ask(draws=50), collect=True, use_cache=False)
    (note,) = built.notes
    assert f"gold-narrow.jsonl.xz:{looked_at[0][:12]}: " in note and len(looked_at) == 1


def test_a_site_takes_the_place_of_a_site_and_of_nothing_else(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no site, so nothing was written"):
        build(runs, out)
    assert os.listdir(out) == ["thesis.txt"] and os.listdir(tmp_path) == ["out"]
    (out / "thesis.txt").unlink()
    build(runs, out)
    cells = [*out.rglob("cells/*/*/*/*.html")]
    build(runs, out, 16)
    assert cells and not any(c.exists() for c in cells) and os.listdir(tmp_path) == ["out"]
    (out / "tables").mkdir()
    (out / "tables/leaderboard.md").write_text("mine")
    with pytest.raises(UsageError, match=r"out holds tables/leaderboard\.md, which is not of the site"):
        build(runs, out)
    assert (out / "tables/leaderboard.md").read_text() == "mine" and (out / "index.html").is_file()


def test_an_older_site_is_put_back_where_the_new_one_cannot_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/index.html").write_text("old")
    with pytest.raises(FileNotFoundError):
        _replace(tmp_path / "nothing", tmp_path / "out")
    assert (tmp_path / "out/index.html").read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_the_card_of_a_method_stands_on_the_page_of_each_of_its_rows() -> None:
    card = SimpleNamespace(authors=["A. Nother"], licence="MIT", developed_on=[])
    submissions = {"theirs": SimpleNamespace(card=card, verified=[])}
    board: Any = SimpleNamespace(gates={"theirs[k=3]": "none"}, submissions=submissions)
    row: Any = SimpleNamespace(method="theirs[k=3]", access="activations")
    facts = _facts(board, row, [Cell.of(make_result("theirs", "made/one"))])
    assert ("Authors", "A. Nother") in [*facts]


def test_two_pages_of_one_path_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, "methods/a.html", "first")
    with pytest.raises(ValidationFailed, match=r"two pages of the site would be methods/a\.html"):
        _write(tmp_path, "methods/a.html", "second")


def test_a_private_score_has_a_column_that_says_what_it_is(tmp_path: Path) -> None:
    runs = make(tmp_path / "board")
    identity = make_result("delta", "made/one", 0).identity
    write_private(make_private(identity), runs)
    built = build(runs, tmp_path / "out")
    texts = pages(built.out)
    assert ".42" in texts["index.html"] and "set 999999999999" in texts["index.html"] and not built.table.problems
    (head,) = [h for h in Links(texts["index.html"]).heads if h.get("data-name") == "Isolation, private"]
    assert "only a maintainer has" in str(head["title"])
    assert "Isolation, private" not in texts["on/family-made.html"]


def test_names_become_paths_that_stay_inside_and_differ() -> None:
    names = ["delta", "delta[k=3]", "delta[k=4]", "../x", "a/b", "", ".", "..", "é", "x" * 200, "A", "a", "con."]
    slugs = [links.slug(n) for n in names]
    slugs += [links.slug(s) for s in slugs if s not in names]  # a method may be called what another one's page is
    assert len(set(slugs)) == len(slugs) and slugs[0] == "delta"
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", s) and len(s) < 100 for s in slugs)


def test_without_its_library_the_command_says_what_to_install(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "itables.utils", None)
    done = CliRunner().invoke(app, ["leaderboard", "site", str(runs), "--out", str(tmp_path / "out")])
    assert done.exit_code == 3 and "pip install 'diffbench[site]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_library_is_one_script_that_defines_one_name() -> None:
    found = assets.assets()
    assert "export{" not in found["datatables.js"] and found["datatables.js"].count("window.DataTable=") == 1
    assert "MIT License" in found["LICENCES.txt"] and not re.search(r"@import|url\((?!data:)", found["site.css"])
