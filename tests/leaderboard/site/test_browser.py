"""The site in a browser, from disk: it sorts, filters, has keys for all of it, asks the network for nothing, and axe finds nothing serious.

A browser is `$BENCH_BROWSER`, or a Chromium on the path; without one, or without the extra `browser`, these tests are skipped.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sites import build, make

pytest.importorskip("itables", reason="the site's tables are the package itables': pip install 'diffbench[site]'")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'diffbench[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'diffbench[browser]'")
pytestmark = pytest.mark.slow
SEEN = ("index.html", "organisms.html", "compare.html", "claims.html", "tiers.html", "findings.html", "records.html")
SEEN += (
    "lineups.html",
    "organisms/made/one.html",
    "methods/delta.html",
    "compare/delta/l1.html",
    "on/family-made.html",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(make(tmp_path_factory.mktemp("runs")), tmp_path_factory.mktemp("site") / "out").out


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BENCH_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on the path; BENCH_BROWSER names one")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


class Seen:
    """A page that tells what it asked for and what went wrong."""

    def __init__(self, browser: object, folder: Path, width: int = 1440, scheme: str = "light"):
        self.folder, self.wrong = folder, list[str]()
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[attr-defined]
        self.page = context.new_page()
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(m.text))
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("request", lambda r: r.url.startswith("file:") or self.wrong.append(r.url))

    def open(self, name: str) -> "Seen":
        self.page.goto((self.folder / name).as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self

    def column(self, number: int) -> list[str]:
        """Sort keys of the rows that are shown."""
        return self.page.eval_on_selector_all(
            f"table.grid >> nth=0 >> tbody tr > :nth-child({number})", "cells => cells.map(c => c.dataset.order)"
        )


@pytest.fixture
def seen(browser: object, folder: Path) -> Iterator[Seen]:
    page = Seen(browser, folder)
    yield page
    page.page.context.close()
    assert not page.wrong


def test_pages_ask_for_nothing_complain_of_nothing_and_fit_every_width(browser: object, folder: Path) -> None:
    cells = sorted(p.relative_to(folder).as_posix() for p in folder.glob("cells/made/one/*/*.html"))
    for width, scheme in ((1440, "light"), (390, "dark")):
        page = Seen(browser, folder, width, scheme)
        for name in (*SEEN, *cells[:2]):
            page.open(name)
            wide = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (name, width, wide)
        assert not page.wrong
        page.page.context.close()


def test_a_column_sorts_both_ways_and_what_has_no_value_stays_last(seen: Seen) -> None:
    seen.open("index.html")
    assert seen.page.locator("th[aria-sort=descending]").get_attribute("data-name") == "Isolation"
    head = seen.page.get_by_role("columnheader", name="Rank", exact=False).first
    for _ in range(2):
        head.click()
        values = seen.column(3)
        ranks = [int(v) for v in values if v]
        assert ranks in (sorted(ranks), sorted(ranks, reverse=True)) and len(ranks) == 4
        assert values[-1] == "" and all(values[: len(ranks)])
    assert seen.column(3)[0] == "1"


def test_rows_are_chosen_by_gates_and_kind_and_searched(seen: Seen) -> None:
    seen.open("index.html")
    everything = seen.column(1)
    seen.page.get_by_role("combobox", name="Gates").select_option("some")
    assert seen.column(1) == ["delta"]
    seen.page.get_by_role("combobox", name="Gates").select_option("")
    seen.page.get_by_role("combobox", name="Kind").select_option("anchor")
    assert seen.column(1) == ["oracle"]
    seen.page.get_by_role("combobox", name="Kind").select_option("")
    seen.page.get_by_label("Search").fill("mean")
    assert seen.column(1) == ["mean_diff"]
    seen.page.get_by_label("Search").fill("")
    assert seen.column(1) == everything


def test_keys_reach_sorting_tooltips_links_and_colours(seen: Seen) -> None:
    seen.open("index.html")
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.locator("th[data-name=Rank] [tabindex]").first.focus()
    assert "5-95 % of the ranks" in seen.page.locator("#tip").inner_text()
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#tip").is_visible()
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("th[data-name=Rank]").get_attribute("aria-sort")
    seen.page.locator("#theme").focus()
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"
    seen.open("methods/delta.html")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    seen.page.locator("tbody th a").first.focus()
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/cells/made/one/delta/*.html")


def test_a_phone_shows_method_and_score_first_and_all_columns_when_asked(browser: object, folder: Path) -> None:
    page = Seen(browser, folder, 390).open("index.html")

    def shown() -> list[str]:
        return page.page.eval_on_selector_all(
            "table.grid th[scope=col]", "heads => heads.filter(h => h.offsetParent).map(h => h.dataset.name)"
        )

    assert shown() == ["Method", "Isolation", "Rank"]
    ends = page.page.eval_on_selector_all(
        "thead th", "heads => Math.max(...heads.map(h => h.getBoundingClientRect().right))"
    )
    assert ends <= 390
    page.page.get_by_role("button", name="All columns").click()
    assert len(shown()) > 10
    page.page.context.close()


def test_two_methods_are_chosen_to_be_compared(seen: Seen) -> None:
    seen.open("compare.html")
    seen.page.get_by_label("First").select_option("random_difference")
    seen.page.get_by_label("Second").select_option("random_difference")
    assert seen.page.get_by_role("button", name="Compare").is_disabled()
    seen.page.get_by_label("Second").select_option("delta")
    seen.page.get_by_role("button", name="Compare").click()
    seen.page.wait_for_url("**/compare/delta/random_difference.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: object, folder: Path, scheme: str) -> None:
    page = Seen(browser, folder, 1440, scheme)
    cell = next(folder.glob("cells/made/one/delta/*.html")).relative_to(folder).as_posix()
    for name in (*SEEN, cell) if scheme == "light" else ("index.html", "methods/delta.html", cell):
        found = axe.Axe().run(page.open(name).page).response["violations"]
        assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")], name
    page.page.context.close()
