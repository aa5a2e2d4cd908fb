"""The house: imports run one way, nothing imports in a circle, and a room holds what fits in one look."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("organisms", "methods", "harness", "leaderboard", "api", "cli")
"""Top-level rooms, lowest first: a file imports from its own floor or a lower one."""
STOREYS = (
    *(
        "pairs",
        "records",
        "protocol",
        "zoo",
        "worker",
        "runs",
        "store",
        "diffs",
        "plans",
        "studies",
        "agreement",
        "verbal",
    ),
    *("views", "lineup", "inspection", "app", "explaining", "commands", "sweeps"),
)
"""Rooms of `harness/`, lowest first; its own files (`terminal`, `files`, `parallel`) stand below them all."""
LISTS = ("organisms/families", "organisms/world", "methods/strategies", "harness/commands")
"""Rooms of like files, which may hold more than a dozen."""


def sources() -> dict[str, Path]:
    """Module name → file, of everything that is installed."""
    files = [ROOT / "api.py", ROOT / "cli.py", *(p for room in FLOORS for p in (ROOT / room).rglob("*.py"))]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of this project that a file imports, inside functions too."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) - node.level + 1]
            module = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in known else module


def graph() -> dict[str, set[str]]:
    known = sources()
    return {n: {m for m in imported(n, p, known) if m in known and m != n} for n, p in known.items()}


def test_imports_run_one_way() -> None:
    edges = [(a, b) for a, found in graph().items() for b in found]
    floor = {name: FLOORS.index(name.split(".")[0]) for name in sources()}
    assert not [(a, b) for a, b in edges if floor[a] < floor[b]]
    assert not [(a, b) for a, b in edges if a.startswith("methods") and b.startswith("harness")]

    def storey(name: str) -> int:
        parts = name.split(".")
        return STOREYS.index(parts[1]) if len(parts) > 1 and parts[1] in STOREYS else -1

    inside = [(a, b) for a, b in edges if a.startswith("harness.") and b.startswith("harness.")]
    assert not [(a, b) for a, b in inside if storey(a) < storey(b)]


def test_nothing_imports_in_a_circle() -> None:
    edges, done, path = graph(), set[str](), list[str]()

    def visit(name: str) -> None:
        assert name not in path, f"a circle: {' → '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for other in sorted(edges[name]):
            visit(other)
        done.add(path.pop())

    for name in sorted(edges):
        visit(name)


@pytest.mark.parametrize("room", sorted({str(p.parent.relative_to(ROOT)) for p in sources().values()} - {"."}))
def test_a_room_holds_what_fits_in_one_look_and_says_what_for(room: str) -> None:
    files = [p for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"]
    assert room in LISTS or len(files) <= 12, sorted(p.name for p in files)
    doc = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert doc and doc.split("\n")[0].endswith(".")


def test_every_room_is_installed() -> None:
    import tomllib

    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {str(p.parent.relative_to(ROOT)) for p in sources().values()}
    assert set(packaged["package-dir"].values()) == rooms
    assert set(packaged["packages"]) == set(packaged["package-dir"])


def test_only_the_terminal_module_writes_to_a_terminal() -> None:
    """So that no text of a record, a model or a file reaches one unescaped."""
    spoken = [
        name for name, path in sources().items() if re.search(r"typer\.echo\(|(?<![\w.])print\(", path.read_text())
    ]
    assert spoken == ["harness.terminal"]
