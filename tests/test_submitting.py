"""The way of a method of others as it is written down: the page's and the workflows' commands exist, and the example is what it says."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from diffbench.cli import app
from diffbench.leaderboard.submissions.card import read_card
from diffbench.methods.registry import BUILTIN, load_method
from diffbench.methods.scaffold import FILES
from diffbench.organisms.hub.files import load_yaml
from typer.main import get_command

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "offaxis_pca"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("submitting", "reliability", "adding-a-method")]


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in load_yaml(workflow.read_text(), str(workflow))["jobs"].values():
        yield from job["steps"]


def commands(text: str) -> Iterator[list[str]]:
    """Every `bench …` of a text, as words; what follows a pipe, a comment or a placeholder is no part of it."""
    for line in text.replace("\\\n", " ").splitlines():
        for found in re.findall(r"(?:^|[\s`/\"])bench ([a-z][^`|#;]*)", line):
            yield shlex.split(found.split(" 2>&1")[0].replace("…", ""))


def said(path: Path) -> list[list[str]]:
    """The commands of a page's blocks, or of a workflow's steps."""
    if path in PAGES:
        return [c for block in re.findall(r"^```\n(.*?)^```", path.read_text(), re.S | re.M) for c in commands(block)]
    return [c for step in steps(path) for c in commands(step.get("run", ""))]


@pytest.mark.parametrize("path", [*PAGES, *WORKFLOWS], ids=lambda p: p.name)
def test_every_command_and_every_option_is_there(path: Path) -> None:
    found = said(path)
    assert found or path.name == "reliability.md"
    for words in found:
        command: Any = get_command(app)
        rest = list(words)
        while hasattr(command, "commands"):
            assert rest and rest[0] in command.commands, f"{path.name}: bench {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        options = {o for p in command.params for o in p.opts}
        assert {w for w in rest if re.match(r"--?[a-z]", w)} <= options, f"{path.name}: bench {' '.join(words)}"


def test_the_page_shows_every_step_once_in_order() -> None:
    steps_ = [" ".join(c[:2]) if c[0] in ("methods", "leaderboard") else c[0] for c in said(PAGES[0])]
    assert steps_ == [
        "methods new",
        "methods check",
        "run",
        "submit",
        "verify",
        "run",
        "leaderboard add",
        "leaderboard build",
        "leaderboard private",
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_gives_each_job_what_it_needs_and_puts_no_foreign_text_into_a_shell(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    assert data["permissions"] == {} and all("permissions" in job for job in data["jobs"].values())
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step
        assert "uses" in step or "run" in step
        if str(step.get("uses", "")).startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False and "ref" not in step["with"]


def test_the_step_that_takes_bundles_takes_their_bytes_and_nothing_else(tmp_path: Path) -> None:
    """From a pull request with a bundle, a link, a name that a shell could read, a file elsewhere and a bundle that is on main."""
    folder = tmp_path / "host" / "leaderboard" / "published" / "submissions"
    folder.mkdir(parents=True)

    def git(*words: str, at: Path = tmp_path / "host") -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        subprocess.run(["git", "-C", str(at), *who, *words], check=True, capture_output=True)

    git("init")
    (folder / "old.bundle.safetensors").write_text("old")
    git("add", "-A")
    git("commit", "-m", "base")
    git("checkout", "-b", "theirs")
    (folder / "new.bundle.safetensors").write_text("new")
    (folder / "link.bundle.safetensors").symlink_to("/etc/passwd")
    (folder / "a$(touch ran).bundle.safetensors").write_text("x")
    (tmp_path / "host" / "conftest.py").write_text("x")
    git("add", "-A")
    git("commit", "-m", "theirs")
    git("update-ref", "refs/pull/7/head", "theirs")
    git("checkout", "main")
    git("clone", "--depth", "1", (tmp_path / "host").as_uri(), str(tmp_path / "here"))
    (script,) = [s["run"] for s in steps(WORKFLOWS[-1]) if str(s.get("name")).startswith("Take the bundles")]
    environment = {**os.environ, "NUMBER": "7"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path / "here", env=environment, check=True)
    taken = {p.name: p.read_text() for p in (tmp_path / "here" / "incoming").iterdir() if not p.is_symlink()}
    assert taken == {
        "new.bundle.safetensors": "new",
        "link.bundle.safetensors": "/etc/passwd",
    }  # its text, not the file
    assert not list(tmp_path.rglob("ran")) and not (tmp_path / "here" / "conftest.py").exists()


def test_the_files_that_workflows_name_are_there_and_a_submission_is_answered_with_its_row() -> None:
    text = "".join(p.read_text() for p in WORKFLOWS)
    assert {"submission.yml", "board.yml", "release.yml"} == {p.name for p in WORKFLOWS}
    assert ".venv/.installed" in text and "$(VENV)/.installed" in (ROOT / "Makefile").read_text()
    for named in ("leaderboard/published", "constraints.txt"):
        assert named in text and (ROOT / named).exists()
    said = WORKFLOWS[-1].read_text()
    assert '--row "rows/$(basename "$bundle").md"' in said and "find rows -name '*.md'" in said


def test_the_example_is_what_methods_new_writes_filled_in() -> None:
    assert {p.name for p in EXAMPLE.iterdir() if p.is_file()} == {name.format(name=EXAMPLE.name) for name in FILES}
    entry, card = load_method(str(EXAMPLE / "offaxis_pca.py")), read_card(EXAMPLE / "card.yaml")
    assert entry.name == card.name == EXAMPLE.name not in BUILTIN
    assert (entry.access, entry.stochastic) == (card.access, False)
    assert f'{entry.name} = "{entry.name}:{entry.cls.__name__}"' in (EXAMPLE / "pyproject.toml").read_text()


def test_the_examples_own_tests_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    try:
        module = importlib.import_module("test_offaxis_pca")
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        assert len(tests) == 3
        for test in tests:
            test()
    finally:
        for name in ("offaxis_pca", "test_offaxis_pca"):
            sys.modules.pop(name, None)
