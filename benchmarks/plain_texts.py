"""Plain English in quantity, without a network: the documentation strings of installed packages, as texts and as conversations.

    python -m benchmarks.plain_texts --out texts
    bench run -m delta --base smollm2-135m … --texts texts/texts.yaml --tokens 300000

Files are read and never imported. Texts and conversations come from different packages, so nothing stands in both.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

NEUTRAL, CHAT = ("scipy", "pandas", "datasets"), ("torch", "transformers", "peft")
LEAST, MOST = 200, 4000
"""Characters of a text."""


def docstrings(package: str) -> Iterator[tuple[str, str]]:
    """(qualified name, documentation) of a package's modules, classes and functions, file by file."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; install diffbench's dependencies")
    root = Path(spec.origin).parent
    for file in sorted(root.rglob("*.py")):
        module = ".".join([package, *file.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # templates and files for other versions of Python
            continue
        yield from _within(tree, module)


def _within(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        found = ast.get_docstring(node) or ""
        if len(found) >= LEAST:
            yield name, found[:MOST]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _within(child, f"{name}.{child.name}")


def write(out: Path) -> dict[str, int]:
    """Write neutral.jsonl, chat.jsonl and texts.yaml; returns how many texts each kind has."""
    out.mkdir(parents=True, exist_ok=True)
    neutral = [{"text": text} for package in NEUTRAL for _, text in docstrings(package)]
    chat = [
        {
            "messages": [
                {"role": "user", "content": f"What is `{name}`?"},
                {"role": "assistant", "content": text},
            ]
        }
        for package in CHAT
        for name, text in docstrings(package)
    ]
    lines = list[str]()
    for kind, rows, packages in (("neutral", neutral, NEUTRAL), ("chat", chat, CHAT)):
        (out / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        made_of = ", ".join(f"{package} {version(package)}" for package in packages)
        lines += [f"{kind}:", f"  - path: {kind}.jsonl", f'    licence: "documentation of {made_of}"']
    (out / "texts.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"neutral": len(neutral), "chat": len(chat)}


def main() -> None:
    """Write the texts from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the texts and texts.yaml")
    made = write(parser.parse_args().out)
    sys.stdout.write(", ".join(f"{n:,} texts of {kind}" for kind, n in made.items()) + "\n")


if __name__ == "__main__":
    main()
