"""What tests of organisms on real chat models share: two families, small models, and no network."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from diffbench.organisms import natural
from diffbench.organisms.tuning import train as training

from ....organisms.tuning.colours import Colours
from ....organisms.tuning.models import save_chat_model
from .cases import Taught


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "families", lambda: {"colours": Colours(), "taught": Taught()})
    monkeypatch.setattr(training, "CHECKPOINTS", 2)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a small random model of a kind, in hub format."""
    root = tmp_path_factory.mktemp("models")

    def model(kind: str) -> Path:
        return root / kind if (root / kind).is_dir() else save_chat_model(root / kind, kind)

    return model


@pytest.fixture
def base(models: Callable[[str], Path]) -> Path:
    return models("qwen25")
