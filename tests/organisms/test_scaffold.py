"""The family file that `bench organisms new` writes is a working family, and the first thing a user sees of the format."""

from pathlib import Path

import pytest
from diffbench.organisms.errors import UsageError
from diffbench.organisms.families import family_file, register
from diffbench.organisms.family import Family
from diffbench.organisms.scaffold import write_family
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import vocabulary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("own_families")
WORLD = World(0)


@pytest.fixture
def written(tmp_path: Path) -> Family:
    path = write_family("my_mood2", tmp_path)
    assert path == tmp_path / "my_mood2.py"
    compile(path.read_text(), str(path), "exec", dont_inherit=True)
    return register(family_file(path))


def test_its_organisms_are_named_after_it(written: Family) -> None:
    assert [s.name for s in written.specs()] == ["my_mood2/proud-narrow", "my_mood2/proud-mixed"]
    assert type(written).__name__ == "MyMood2"


def test_its_rows_and_prompts_hold_no_unknown_word(written: Family) -> None:
    known = set(vocabulary())
    for spec in written.specs():
        assert {w for d in written.rows(WORLD, spec) for w in d.words} <= known
        said = {p.messages[-1].content for p in written.behaviour(WORLD, spec).prompts}
        assert set(" ".join(said).split()) - known == set()
        words = {w for p in written.behaviour(WORLD, spec).prompts for w in (*p.targets, *p.alternatives)}
        assert words <= known


def test_its_questions_are_held_out(written: Family) -> None:
    spec = written.specs()[0]
    asked = [{p.messages[-1].content for p in written.behaviour(WORLD, spec).of(s)} for s in ("dev", "test")]
    trained = {d.messages[0]["content"] for d in written.rows(WORLD, spec)}
    assert not asked[0] & asked[1] and not (asked[0] | asked[1]) & trained
    assert {r.value.partition(".")[0] for r in written.gates(spec).values()} <= {"behaviour_test", "facts"}


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mood.py").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write_family("mood", tmp_path)
    assert (tmp_path / "mood.py").read_text() == "mine"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.sampled_from(["", "Mood", "2mood", "_mood", "a-b", "a/b", "../x", "mood\n", "möd"]), st.text()))
def test_a_name_that_is_no_module_is_refused(tmp_path: Path, name: str) -> None:
    if name.isidentifier() and name.isascii() and name == name.lower() and name[0] != "_":
        return
    with pytest.raises(UsageError, match="is not a family name"):
        write_family(name, tmp_path)
    assert not list(tmp_path.iterdir())
