"""A family's name means its first organism of the tier that is asked for, and `all` means the organisms of that tier."""

import json
from pathlib import Path

import pytest
from diffbench.cli import app
from diffbench.organisms import registry
from diffbench.organisms.errors import PrerequisiteError, UsageError
from diffbench.organisms.registry import expand, load_card
from typer.testing import CliRunner

from ..factories import write_organism

SMALL = {"tier": "small", "base": "smollm2-135m"}


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Taboo organisms of two tiers, a control among them, and a backdoor of one."""
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    write_organism(tmp_path, "taboo/gold-narrow")
    write_organism(tmp_path, "taboo/clock-scattered-smollm2-135m", role="control", **SMALL)
    write_organism(tmp_path, "taboo/leaf-narrow-smollm2-135m", **SMALL)
    write_organism(tmp_path, "taboo/moon-narrow-smollm2-135m", **SMALL)
    write_organism(tmp_path, "backdoor/zephyr-narrow")
    return tmp_path


def test_a_family_is_its_first_organism_of_the_tier() -> None:
    assert expand(["taboo"]) == expand(["taboo"], tier="tiny") == ["taboo/gold-narrow"]
    assert expand(["taboo"], tier="small") == ["taboo/moon-narrow-smollm2-135m"]
    assert load_card(expand(["taboo"], tier="small")[0]).tier == "small"


def test_a_member_is_its_first_organism_of_a_tier_of_real_models(zoo: Path) -> None:
    write_organism(zoo, "taboo/leaf-mixed-smollm2-135m", **SMALL)
    for name in ("taboo/leaf", "taboo/leaf-narrow", "taboo/leaf-narrow-smollm2-135m"):
        assert expand([name], tier="small") == ["taboo/leaf-narrow-smollm2-135m"]
    assert expand(["taboo/leaf-mixed"], tier="small") == ["taboo/leaf-mixed-smollm2-135m"]
    with pytest.raises(PrerequisiteError, match="no organism taboo/clock in tier small: there is none in any tier"):
        expand(["taboo/clock"], tier="small")
    with pytest.raises(PrerequisiteError, match=r"organisms of it in tier tiny; .* shows what there is$"):
        expand(["taboo/gold"], tier="small")
    for name in ("taboo/leav", "taboo/"):
        with pytest.raises(UsageError, match=f"no organism '{name}'; did you mean"):
            expand([name], tier="small")
    with pytest.raises(UsageError, match="no organism 'taboo/leaf'; did you mean"):
        expand(["taboo/leaf"])


def test_all_is_the_organisms_of_one_tier() -> None:
    assert expand(["all"]) == ["backdoor/zephyr-narrow", "taboo/gold-narrow"]
    assert expand(["all"], tier="small") == ["taboo/leaf-narrow-smollm2-135m", "taboo/moon-narrow-smollm2-135m"]


def test_one_whose_gates_hold_comes_before_one_that_failed(zoo: Path) -> None:
    write_organism(zoo, "taboo/moon-narrow-smollm2-135m", status="failed", **SMALL)
    assert expand(["taboo"], tier="small") == ["taboo/leaf-narrow-smollm2-135m"]


def test_the_familys_order_decides(zoo: Path) -> None:
    """Members, then variants, then seeds, as the families of plain English name them."""
    for name, fields in (
        ("moon-mixed-smollm2-135m", {}),
        ("moon-narrow-smollm2-135m-s1", {"seed": 1}),
        ("book-narrow-smollm2-135m", {}),
    ):
        write_organism(zoo, f"taboo/{name}", **fields, **SMALL)
    assert expand(["taboo"], tier="small") == ["taboo/moon-narrow-smollm2-135m"]
    (zoo / "taboo" / "moon-narrow-smollm2-135m" / "card.json").unlink()
    assert expand(["taboo"], tier="small") == ["taboo/moon-narrow-smollm2-135m-s1"]


def test_a_family_of_real_models_alone_is_known_by_its_name(zoo: Path) -> None:
    for member in ("brine", "moss"):
        write_organism(zoo, f"persona/{member}-narrow-smollm2-135m", **SMALL)
    assert expand(["persona"], tier="small") == ["persona/brine-narrow-smollm2-135m"]
    with pytest.raises(PrerequisiteError, match="no organism of the family sycophancy in tier small"):
        expand(["sycophancy"], tier="small")


def test_a_tier_without_the_family_or_without_anything_is_refused() -> None:
    with pytest.raises(
        PrerequisiteError, match=r"no organism of the family backdoor in tier small: there are .* in tier tiny"
    ):
        expand(["backdoor"], tier="small")
    with pytest.raises(PrerequisiteError, match="of the family planted in tier hub: there is none in any tier"):
        expand(["planted"], tier="hub")
    with pytest.raises(PrerequisiteError, match=r"no organism of tier hub in .* passes its gates"):
        expand(["all"], tier="hub")
    with pytest.raises(UsageError, match="taboo/gold-narrow is an organism of tier tiny and --tier says small"):
        expand(["taboo/gold-narrow"], tier="small")


def test_the_commands_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(app, ["organisms", "list", "--tier", "small", "--json"]).stdout
    assert "leaf" in listed and "gold" not in listed
    refused = CliRunner().invoke(app, ["run", "-m", "random", "-o", "backdoor", "--tier", "small"])
    assert refused.exit_code == 3 and "in tier small" in refused.output
    assert CliRunner().invoke(app, ["run", "-m", "random", "-o", "taboo", "--tier", "large"]).exit_code == 2
    own = ["run", "-m", "random", "--base", "a", "--adapter", "b", "--behaviour", "c.json", "--tier", "small"]
    assert "a pair of your own is none" in CliRunner().invoke(app, own).output


def test_organisms_of_the_hub_tier_that_were_trained_here_are_listed(zoo: Path) -> None:
    write_organism(zoo, "taboo/moon-narrow-gemma-2-2b-it", tier="hub", base="gemma-2-2b-it")
    trained = "taboo/moon-narrow-gemma-2-2b-it"

    def names(*options: str) -> list[str]:
        shown = CliRunner().invoke(app, ["organisms", "list", "--tier", "hub", "--json", *options]).stdout
        return [row["name"] for row in json.loads(shown)]

    assert trained in names() and any(n.startswith("hub/") for n in names())
    assert names("--family", "taboo")[-1] == trained and trained not in names("--set", "core-hub-v2")
    assert "trained here" in CliRunner().invoke(app, ["organisms", "list", "--tier", "hub"]).stdout
