"""`python -m benchmarks.peers.sources`: peers' code into a folder of its own, one subfolder each; never vendored.

The idea: pip says what a peer needs beyond this environment, and exactly that goes into the peer's folder without touching the
environment. What is not on PyPI comes from a checkout on this machine. A peer that cannot be had is a sentence, not an error.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "diffbench" / "peers"
"""Where peers are kept."""


@dataclass(frozen=True)
class Peer:
    """Where a peer's code is."""

    package: str
    """Folder that is imported, in a checkout relative to its root."""
    address: str
    """Repository."""
    requirements: tuple[str, ...]
    """What pip is asked for: the peer, or for a checkout what it needs."""
    on_pypi: bool = True


PEERS = {
    "dictionary_learning": Peer(
        "dictionary_learning",
        "github.com/jkminder/dictionary_learning",
        ("einops", "nnsight", "datasets", "zstandard", "tqdm"),
        on_pypi=False,  # the package of that name is another fork, without crosscoders
    ),
    "diffing-toolkit": Peer(
        "src/diffing",
        "github.com/science-of-finetuning/diffing-toolkit",
        ("einops", "loguru", "omegaconf", "pandas"),
        on_pypi=False,
    ),
    "sparsify": Peer("sparsify", "github.com/EleutherAI/sparsify", ("eai-sparsify",)),
    "saelens": Peer("sae_lens", "github.com/decoderesearch/SAELens", ("sae-lens",)),
}


class Unavailable(Exception):
    """A peer cannot be had; the message says why and what would help."""


def install(name: str, checkout: Path | None = None, root: Path = ROOT) -> Path:
    """Put a peer and what it needs beyond this environment into `root / name`, and return that folder.

    Args:
        name: one of PEERS.
        checkout: a copy of the repository on this machine; without it the peer comes from PyPI.
        root: folder of all peers.

    Raises:
        Unavailable: not on PyPI and no checkout, the checkout lacks the package, or pip fails.
    """
    peer, folder = PEERS[name], root / name
    if checkout is None and not peer.on_pypi:
        raise Unavailable(f"not on PyPI; clone {peer.address} and give --peer-source {name}=PATH")
    if checkout is not None and not (checkout / peer.package / "__init__.py").is_file():
        raise Unavailable(f"{checkout} has no {peer.package}: give the root of a checkout of {peer.address}")
    shutil.rmtree(folder, ignore_errors=True)
    plan = json.loads(_pip("--dry-run", "--quiet", "--report", "-", *peer.requirements))
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in plan["install"]}
    if checkout is not None:
        shutil.copytree(checkout / peer.package, folder / Path(peer.package).name)
        found = {
            package: version
            for package, version in found.items()
            if package not in peer.requirements or not peer.on_pypi
        }
    missing = [f"{package}=={version}" for package, version in found.items()]
    if missing:
        _pip("--quiet", "--no-deps", "--target", str(folder), *missing)
    (folder / "source.json").write_text(json.dumps({"from": str(checkout or "PyPI"), "beside": missing}, indent=1))
    return folder


def _pip(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "pip", "install", *arguments], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Unavailable(f"pip could not install it: {(lines or ['no message'])[-1].removeprefix('ERROR: ')}")
    return done.stdout


@contextmanager
def importable(*names: str, root: Path = ROOT) -> Iterator[None]:
    """Let peers be imported while this lasts; what they import of their own is theirs afterwards too.

    Raises:
        Unavailable: one is not installed.
    """
    for name in names:
        if not (root / name / "source.json").is_file():
            raise Unavailable(f"{name} is not installed; run python -m benchmarks.peers.sources")
    before = list(sys.path)
    sys.path[:0] = [str(root / name) for name in names]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def module(name: str) -> Any:
    """A peer's module.

    Raises:
        Unavailable: it does not import here.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise Unavailable(f"{name} does not import here: {type(error).__name__}: {error}") from error


def checkouts(given: list[str]) -> Mapping[str, Path]:
    """NAME=PATH options.

    Raises:
        typer.BadParameter: no such peer or no path.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if name not in PEERS or not path:
            raise typer.BadParameter(f"{text!r} is not NAME=PATH with NAME one of {', '.join(PEERS)}")
        found[name] = Path(path).expanduser().resolve()
    return found


def main(
    peer_source: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH: a checkout on this machine; may be repeated.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of the peers.")] = ROOT,
) -> None:
    """Install every peer that can be had; `make bench` then measures against it."""
    given = checkouts(peer_source or [])
    for name in PEERS:
        try:
            typer.echo(f"{name}: {install(name, given.get(name), root)}")
        except Unavailable as reason:
            typer.echo(f"{name}: skipped: {reason}")


if __name__ == "__main__":
    typer.run(main)
