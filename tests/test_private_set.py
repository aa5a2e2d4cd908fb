"""A private set follows from its secret and from nothing else, and tells nobody who is in it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

import typer
from diffbench.organisms import registry
from diffbench.organisms.card import Card, read_card
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families import families
from diffbench.organisms.family import Spec
from diffbench.organisms.registry import expand
from diffbench.organisms.sets import sets
from typer.testing import CliRunner

from benchmarks import private_lineup, private_set
from benchmarks.private_set import Draw, make, pool, read_secret

from .factories import write_organism

SECRET, OTHER = b"sixteen bytes or more", b"another secret of that size"


def drawn(secret: bytes, n: int = 40) -> list[Spec]:
    return list(islice(Draw(secret, list(families().values())), n))


def test_a_secret_means_one_set_and_another_secret_another() -> None:
    first = [s.name for s in drawn(SECRET)]
    assert first == [s.name for s in drawn(SECRET)] and len(set(first)) == 40
    assert not set(first) & {s.name for s in drawn(OTHER)}


def test_families_take_turns_and_everything_drawn_is_an_organism_that_is_published_nowhere() -> None:
    specs = drawn(SECRET, 42)
    counts = Counter(s.family for s in specs)
    assert set(counts) == {f for f, k in families().items() if any(s.role == "organism" for s in k.specs())}
    assert max(counts.values()) - min(counts.values()) <= 1
    public = {name for each in sets().values() for name in each.organisms} | {
        s.name for f in families().values() for s in f.specs()
    }
    assert not {s.name for s in specs} & public and all(s.role == "organism" and s.seed > 0 for s in specs)
    for s in specs:
        families()[s.family].recipe(s)


def test_a_member_that_the_zoo_has_is_drawn_only_where_the_family_makes_no_other() -> None:
    members = {name: {s.member for shape in pool(kind) for s in shape} for name, kind in families().items()}
    known = {name: {s.member for s in kind.specs()} for name, kind in families().items()}
    assert len(members["taboo"]) == 16 and not members["taboo"] & known["taboo"]
    assert members["planted"] == {"owl", "fox"}, "it makes no others"
    assert members["null"] == set()


def test_every_member_of_the_zoo_is_in_the_pool_of_a_family_that_makes_no_others() -> None:
    class Two(type(families()["planted"])):
        def specs(self) -> list[Spec]:
            return [*self.grid("owl", ("strong",)), *self.grid("fox", ("strong",))]

        def member(self, name: str) -> None:
            return None

    (shape,) = pool(Two())
    assert {s.member for s in shape} == {"owl", "fox"}


def fake(failing: int = 0, said: list[str] | None = None) -> private_set.Build:
    """Writes a card for each spec but every `failing`-th fails its gates."""
    count = 0

    def build(specs: Sequence[Spec], out: Path) -> None:
        nonlocal count
        for s in specs:
            count += 1
            (said if said is not None else []).append(s.name)
            status = "failed" if failing and count % failing == 0 else "calibrated"
            write_organism(out, s.name, seed=s.seed, status=status)

    return build


def test_two_private_lineups_of_a_place_have_seeds_whose_aligned_twins_stand_in_one() -> None:
    found = private_lineup.draw(SECRET, 60)
    assert len({s.name for s in found}) == 60 and min(s.seed for s in found) >= 6
    assert found[0] not in private_lineup.draw(OTHER, 60) and found == private_lineup.draw(SECRET, 60)
    here = {(s.base, s.domain, s.seed) for s in found}
    mates = [s for s in found if s.seed % 2 == 0 and (s.base, s.domain, s.seed + 1) in here]
    assert len(mates) == 20  # of 20 places two pairs are mates, a third has none yet


def test_failed_organisms_are_replaced_and_the_folder_is_a_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, lines = list[str](), list[str]()
    good = make(SECRET, tmp_path, 8, fake(4, names), lines.append)
    assert len(good) == 8 and names == [s.name for s in drawn(SECRET, len(names))] and len(names) == 10
    assert lines == [
        "6 of 8 organisms hold their gates, 2 do not or could not be built",
        "8 of 8 organisms hold their gates, 2 do not or could not be built",
    ]
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    assert expand(["all"]) == sorted(c.name for c in good)


def test_a_set_that_cannot_be_filled_is_not_called_one(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="of 12 organisms that were drawn 0 hold their gates, 4 were asked for"):
        make(SECRET, tmp_path, 4, fake(1), lambda line: None)
    with pytest.raises(ValidationFailed, match="of 6 organisms that were drawn 0"):
        make(SECRET, tmp_path / "nothing", 2, lambda specs, out: None, lambda line: None)


def test_nothing_is_printed_but_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.setattr(private_set, "built", lambda specs, out, jobs: fake()(specs, out))
    app = typer.Typer()
    app.command()(private_set.main)
    made = CliRunner().invoke(app, ["--secret", str(tmp_path / "secret"), "--out", str(tmp_path / "zoo"), "--n", "7"])
    assert made.exit_code == 0 and "7 organisms of 7 families" in made.output
    assert not any(s.member in made.output.replace(str(tmp_path), "") for s in drawn(SECRET, 7))
    refused = CliRunner().invoke(app, ["--secret", str(tmp_path / "none"), "--out", str(tmp_path / "zoo")])
    assert refused.exit_code == 3 and "cannot read the secret" in refused.output


def test_what_cannot_be_built_is_told_by_its_kind_alone_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [s for s in drawn(SECRET) if s.family == "taboo"][:3]

    def build_organism(spec: Spec, root: Path, overwrite: bool) -> tuple[Card, bool]:
        if spec == specs[1]:
            raise RuntimeError(f"training {spec.name} diverged")
        return read_card(write_organism(root, spec.name)), True

    monkeypatch.setattr("diffbench.harness.zoo.build.build_organism", build_organism)
    private_set.built(specs, tmp_path, 1)
    said = "".join(capsys.readouterr())
    assert "some could not be built (ValidationFailed); others are drawn" in said
    assert not any(s.member in said for s in specs)
    assert [(tmp_path / s.name / "card.json").is_file() for s in specs] == [True, False, True]


def test_a_missing_base_is_told_without_the_organism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZOO", "SHIPPED"):
        monkeypatch.setattr(f"diffbench.organisms.registry.{name}", tmp_path)
    with pytest.raises(PrerequisiteError, match=r"^a base is missing; run `bench organisms build --all` first$"):
        private_set.built(drawn(SECRET, 1), tmp_path, 1)


def test_a_secret_that_can_be_guessed_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"   fifteen bytes..\n")
    with pytest.raises(UsageError, match="has 15 bytes, which can be guessed; write at least 16"):
        read_secret(tmp_path / "short")
    with pytest.raises(PrerequisiteError, match="No such file"):
        read_secret(tmp_path / "none")
    (tmp_path / "long").write_bytes(SECRET + b"\n")
    assert read_secret(tmp_path / "long") == SECRET


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git work tree that ignores `hidden`."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/hidden/\n")
    (tmp_path / "hidden").mkdir()
    for folder in (tmp_path, tmp_path / "hidden"):
        (folder / "secret").write_bytes(SECRET)
    return tmp_path


def test_what_the_next_commit_may_publish_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_secret(tree / "hidden" / "secret") == SECRET
    for path in (tree / "secret", tree / "new-zoo", tree):
        with pytest.raises(UsageError, match="and not ignored, so the next commit may publish it"):
            private_set.check_hidden(path, "it")
    private_set.check_hidden(tree / "hidden" / "zoo", "it")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(PrerequisiteError, match="git, which would say whether it is ignored, does not run"):
        read_secret(tree / "hidden" / "secret")


def test_a_secret_that_was_committed_before_it_was_ignored_is_refused(tree: Path) -> None:
    subprocess.run(["git", "-C", str(tree), "add", "-f", "hidden/secret"], check=True)
    with pytest.raises(UsageError, match="not ignored"):
        read_secret(tree / "hidden" / "secret")
