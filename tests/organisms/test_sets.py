"""Sets are frozen: a changed list, an organism that is tuned on and tested on, or a set of nobody is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.organisms import registry, sets
from diffbench.organisms.card import sha256_text
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families import families, specs
from diffbench.organisms.registry import expand, load_card
from typer.testing import CliRunner

from ..factories import write_organism

SHIPPED = ("tune-v2", "core-v2", "tune-small", "small-v2", "core-hub-v2")


def entry(*organisms: str, **fields: Any) -> dict[str, Any]:
    return {"about": "for a test", "organisms": organisms, "sha256": sha256_text("\n".join(organisms))} | fields


def write(folder: Path, **found: dict[str, Any]) -> Path:
    path = folder / "sets.json"
    path.write_text(json.dumps({name.replace("_", "-"): each for name, each in found.items()}))
    return path


def test_the_shipped_sets_are_there_and_whole() -> None:
    assert tuple(sets.sets()) == SHIPPED
    assert {sets.HEADLINE, sets.TUNING} <= {name for name, each in sets.sets().items() if each.organisms}
    assert sets.holding("taboo/leaf-held") == ["core-v2"] and sets.holding("taboo/moon-held-qwen2") == ["tune-v2"]


@pytest.mark.parametrize("old", sets.RETIRED)
def test_a_set_of_v1_is_answered_with_where_it_is(old: str) -> None:
    answer = rf"{old} is a set of protocol v1.* at commit 0823e26; take {sets.RETIRED[old]}$"
    for ask in (lambda: sets.members(old), lambda: expand([old])):
        with pytest.raises(UsageError, match=answer):
            ask()
    for command in ("run -m random -o", "leaderboard show --set", "organisms list --set", "organisms verify"):
        result = CliRunner().invoke(app, [*command.split(), old])
        assert result.exit_code == 2 and "at commit 0823e26" in " ".join(result.output.split()), command


def test_sets_of_version_2_hold_its_gates_and_every_family_is_tuned_on_once_and_tested_on_twice() -> None:
    of = {name: sets.members(name) for name in ("tune-v2", "core-v2")}
    behaviours = sorted(f for f in families() if f != "null")
    assert [o.split("/")[0] for o in of["tune-v2"]] == behaviours and 28 <= len(of["core-v2"]) <= 40
    tested = Counter(o.split("/")[0] for o in of["core-v2"])
    assert min(tested[f] for f in behaviours) >= 2 and tested["null"] == 5
    for name in (n for n in (*of["tune-v2"], *of["core-v2"]) if not n.startswith("null/")):
        card = load_card(name)
        assert {"side_damage", "fluency", "templates"} <= card.gates.keys()
        assert card.role == "organism" and all(g.passed for g in card.gates.values()), name
    order = [s.name for s in specs()]
    for last in of["tune-v2"]:
        rest = [o for o in of["core-v2"] if o.split("/")[0] == last.split("/")[0]]
        assert max(map(order.index, rest)) < order.index(last), "the one that is declared last is tuned on"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {"core_v2": entry("a/b", sha256="0" * 64)},
            'core-v2 is not the set that was frozen: sha256 says "000.* and its names have',
        ),
        ({"core_v2": entry("a/b", sha256=None)}, "sha256 says null"),
        ({"core_v2": {"about": "", "organisms": [], "sha256": "0" * 64}}, "and its names have null"),
        ({"core_v2": entry("a/b", "a/b")}, "a/b stands twice in core-v2"),
        (
            {"core_v2": entry("a/b"), "tune_v2": entry("c/d", "a/b")},
            "a/b is in tune-v2 and in core-v2: what is tuned on",
        ),
        ({"small_v2": entry("a/b"), "tune_small": entry("a/b")}, "a/b is in tune-small and in small-v2"),
        ({"core_v2": entry("a/b", colour=1)}, "core-v2.colour: Extra inputs"),
    ],
)
def test_a_file_of_sets_that_cannot_be_believed_says_why(
    tmp_path: Path, found: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValidationFailed, match=message):
        sets.sets(write(tmp_path, **found))


def test_order_counts_and_sets_of_other_versions_may_share(tmp_path: Path) -> None:
    path = write(tmp_path, core_v1=entry("a/b", "c/d"), tune_v2=entry("c/d", "a/b"))
    first, second = sets.sets(path).values()
    assert first.hash != second.hash


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two organisms, which are a set, and a set that nobody is in yet."""
    path = write(
        tmp_path,
        core_v2=entry("taboo/gold-narrow", "taboo/moon-narrow"),
        small_v2={"about": "of the small tier", "organisms": []},
    )
    monkeypatch.setattr(sets, "sets", lambda found=sets.sets(path): found)
    monkeypatch.setattr(registry, "sets", sets.sets)
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    for name in ("taboo/gold-narrow", "taboo/moon-narrow", "taboo/leaf-narrow"):
        write_organism(tmp_path, name)
    return tmp_path


def test_a_set_is_its_organisms_wherever_names_are_given(zoo: Path) -> None:
    both = ["taboo/gold-narrow", "taboo/moon-narrow"]
    assert expand(["core-v2"]) == both and expand(["taboo/moon-narrow", "core-v2"]) == both[::-1]
    listed = CliRunner().invoke(app, ["organisms", "list", "--set", "core-v2", "--json"])
    assert [c["name"] for c in json.loads(listed.stdout)] == both
    table = CliRunner().invoke(app, ["organisms", "list", "--set", "core-v2"]).output
    assert "2 organisms" in table and sets.sets()["core-v2"].sha256 in table.replace("\n", "")


def test_a_set_of_nobody_a_wrong_one_and_a_part_of_one_are_refused(zoo: Path) -> None:
    with pytest.raises(
        UsageError, match=r"the set small-v2 has no organisms yet: of the small tier.* take one of core-v2"
    ):
        expand(["small-v2"])
    with pytest.raises(UsageError, match="no organism 'core-v3'; did you mean 'core-v2'"):
        expand(["core-v3"])
    with pytest.raises(UsageError, match="no set 'core-v3'; did you mean 'core-v2'\\? sets: core-v2, small-v2"):
        sets.members("core-v3")
    for command in (["organisms", "list", "--set", "taboo"], ["organisms", "verify", "small-v2"]):
        assert CliRunner().invoke(app, command).exit_code == 2
    (zoo / "taboo" / "moon-narrow" / "card.json").unlink()
    with pytest.raises(
        PrerequisiteError, match=r"1 of the 2 organisms of core-v2 are not in .*first: taboo/moon-narrow"
    ):
        expand(["core-v2"])
