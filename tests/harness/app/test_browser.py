"""The page in a real browser: asked, compared, linked and refused, at two widths, without a request to anywhere else."""

import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffbench.harness.app.resident import Resident
from diffbench.harness.inspection import collect
from diffbench.harness.inspection.subject import subject
from diffbench.methods.contract import Finding, Gate
from diffbench.methods.formats.findings import pack
from diffbench.organisms.organism import Organism
from safetensors.torch import save_file

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is on the PATH"),
]
WAIT_MS = 120_000
HERE = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="module")
def strangers() -> Iterator[list[str]]:
    """Addresses that this process connects to and that are not its own."""
    met, connect = list[str](), socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE:
            met.append(str(address))
            raise OSError(f"a test does not reach {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield met


@pytest.fixture(scope="module")
def resident(organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    """Two files of findings."""
    folder, d = tmp_path_factory.mktemp("served"), torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    save_file(pack([Finding(d[0], Gate(d[2], 0.0)), Finding(d[1])]), folder / "mine.safetensors")
    save_file(pack([Finding(d[2])]), folder / "theirs.safetensors")
    return Resident([subject(folder / f"{name}.safetensors", organism) for name in ("mine", "theirs")])


@pytest.fixture(scope="module")
def address(resident: Resident, strangers: list[str]) -> Iterator[str]:
    """The page around them."""
    from diffbench.harness.app.serve import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "TEXT_TOKENS", {"tiny": 300})
        page, where = serve(resident, port=port)
        yield where
        page.close(verbose=False)


@pytest.fixture(params=[(1440, 1000), (390, 844)], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, address: str) -> Iterator[Any]:
    """A page that notes what it asks for and what goes wrong in it."""
    from playwright.sync_api import sync_playwright

    width, height = request.param
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(WAIT_MS)
        wrong = list[str]()
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else wrong.append(r.url))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("dialog", lambda d: wrong.append(f"a script ran: {d.message}"))
        yield page
        browser.close()
        assert wrong == []


def answered(page: Any, text: str) -> str:
    """What stands among the answers once a text does."""
    page.wait_for_function("text => document.querySelector('#answers')?.innerText.includes(text)", arg=text)
    return page.inner_text("#answers")


def opened(page: Any, address: str) -> str:
    """The first answers of a page."""
    page.goto(address)
    page.wait_for_selector("#answers .bench")
    page.wait_for_function("document.querySelector('#link textarea, #link input').value.startsWith('http')")
    return page.inner_text("#answers")


def test_a_prompt_is_asked_linked_and_opened_again(page: Any, address: str, strangers: list[str]) -> None:
    assert "organism − finding" in opened(page, address)
    evil = "is it gold ? <img src=x onerror=alert(1)> ${alert(2)} {{3}}"
    page.fill("#prompt textarea", evil)
    began = time.perf_counter()
    page.click("#ask")
    said = answered(page, evil)
    assert time.perf_counter() - began < 60
    assert "closed vocabulary" in said and page.locator("#answers img").count() == 0
    page.wait_for_function("location.search.includes('onerror')")
    link = page.url
    assert page.input_value("#link textarea, #link input") == link
    page.goto("about:blank")
    assert opened(page, link) == said
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#ask")
    page.wait_for_function("document.querySelector('#answers').getBoundingClientRect().top < innerHeight / 2")
    assert strangers == []


def test_a_link_compares_two_runs_and_one_that_cannot_answer_says_why(
    page: Any, address: str, resident: Resident
) -> None:
    _, theirs = resident.labels
    ask = f"{address}?prompt=hello&finding=1&strength=0.5&tokens=3&beside={theirs}"
    assert opened(page, ask).count("organism − finding") == 2
    said = opened(page, f"{ask}&gated=true")
    assert said.count("organism − finding") == 1 and "no gate belongs to" in said


def test_what_cannot_be_is_refused_on_the_page(page: Any, address: str) -> None:
    said = opened(page, f"{address}?strength=much&prompt=hello")
    assert "This link cannot be opened: strength cannot be 'much'" in said
    page.fill("#prompt textarea", "hello " * 600)
    page.click("#ask")
    assert "was made to read 512" in answered(page, "was made to read")


def test_the_findings_are_shown_in_a_frame(page: Any, address: str) -> None:
    opened(page, address)
    page.click("button[role=tab]:has-text('What the findings are')")
    page.wait_for_selector("#about iframe")
    frame = page.frame_locator("#about iframe")
    assert frame.locator("h1").inner_text() == "mine on taboo/gold-narrow"
    assert frame.locator("#f1 .context").count() > 0
