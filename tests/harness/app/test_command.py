"""`bench app` as a user starts it: what it needs, what it says, and what it refuses before anything is loaded."""

import importlib
import importlib.util
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.app import serve
from diffbench.methods.contract import Finding
from diffbench.methods.formats.findings import pack
from safetensors.torch import save_file

from ...test_cli import bench

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


def test_without_gradio_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.import_module

    def missing(name: str, *args: Any) -> Any:
        if name == "gradio":
            raise ImportError("No module named 'gradio'")
        return found(name, *args)

    monkeypatch.setattr(serve.importlib, "import_module", missing)
    assert "pip install 'diffbench[app]'" in bench("app", "runs", code=3)


@needs_gradio
def test_refusals_come_before_models_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no nothing" in bench("app", "nothing", "--port", str(free()), code=3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in bench("app", "nothing", "--port", str(port), code=3)


@needs_gradio
@pytest.mark.slow
def test_the_command_serves_at_the_address_that_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(pack([Finding(torch.randn(128))]), "mine.safetensors")
    served = list[str]()

    def look(page: Any) -> None:
        with urllib.request.urlopen(page.local_url) as answer:
            served.append(answer.read().decode())
        page.close(verbose=False)

    monkeypatch.setattr(serve, "wait", look)
    port = free()
    said = bench("app", "mine.safetensors", "-o", "taboo/gold-narrow", "--port", str(port))
    assert "mine on taboo/gold-narrow" in said and f"open http://127.0.0.1:{port}/ (Ctrl-C ends it)" in said
    (page,) = served
    assert "diffbench" in page and not re.findall(r"""(?:src|href)=["'](?:https?:)?//(?!127\.0\.0\.1)[^"']*""", page)


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
