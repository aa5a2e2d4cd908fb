"""The commands of docs/hub.md that need no weights end well with networking blocked, and its numbers are those that they print."""

import re
import shlex
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.plans.hub import cost, total_hours
from diffbench.harness.views.hub import METHODS
from diffbench.harness.views.plan import size
from diffbench.harness.views.progress import clock
from diffbench.organisms.hub.registry.load import hub_card, hub_cards
from diffbench.organisms.sets import public, sets
from typer.testing import CliRunner

PAGE = (Path(__file__).parent.parent / "docs/hub.md").read_text()
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)\n```$", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a command reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_ends_well(command: str) -> None:
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0 and (done.stdout or done.stderr), done.output


@pytest.mark.parametrize("command", re.findall(r"^bench run .*-o (hub/\S+|core-hub-v2)", PAGE, re.M))
def test_a_run_names_organisms_that_are_there(command: str) -> None:
    assert command in hub_cards() or public(command)


def test_the_table_of_costs_is_what_is_computed() -> None:
    rows = re.findall(r"^\| \S+ \| `(hub/\S+)` \| (.*) \|$", PAGE, re.M)
    assert len(rows) == 6
    for name, said in rows:
        c = cost(hub_card(name))
        seconds = map(clock, (c.measure_s, c.method_s, c.gated_s + c.train_s))
        assert said == " | ".join([size(c.disk_bytes), size(c.memory_bytes), *seconds]), name
    hours = total_hours((cost(hub_card(n)) for n in sets()["core-hub-v2"].organisms), *METHODS)
    assert f"{hours:.1f} GPU hours" in PAGE and f"all {sum(METHODS)} methods" in PAGE


def test_the_table_of_kinds_counts_what_is_registered() -> None:
    counted = Counter(c.kind for c in hub_cards().values() if c.entry.adapter)
    whole = Counter(c.kind for c in hub_cards().values() if c.entry.tuned)
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (\d+)[^|]*\| [^|]* \|$", PAGE, re.M))
    assert {k: int(n) for k, n in rows.items()} == dict(counted) and whole == {"backdoor": 10}
    assert "and 10 whole models" in PAGE
