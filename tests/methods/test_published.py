"""Methods with the settings of their papers, where our defaults are others: asked for by name, run beside ours, and told apart."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from diffbench.harness.commands.settings import names_of_methods, resolve, run_file
from diffbench.harness.runs.run import plan
from diffbench.harness.store.labels import row_labels
from diffbench.harness.store.selection import Filter
from diffbench.harness.views import layers
from diffbench.harness.views.render import method as shown
from diffbench.harness.worker import foreign
from diffbench.leaderboard.board.account import BUDGET, command_of, runs
from diffbench.leaderboard.board.cell import Cell
from diffbench.methods.catalogue import AS_PUBLISHED, BUILTIN, OF_TIER, PUBLISHED, row_of
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import UsageError
from diffbench.organisms.registry import load_card

from ..factories import make_result
from ..test_cli import bench

ROWS = [f"{m}{AS_PUBLISHED}" for m in PUBLISHED]


@pytest.mark.parametrize("row", ROWS)
def test_it_runs_with_the_options_of_its_paper_and_else_with_ours(row: str) -> None:
    entry, ours = load_method(row), load_method(row.partition("@")[0])
    theirs, usual = (e.configure({}).model_dump() for e in (entry, ours))
    assert theirs == usual | PUBLISHED[ours.name]
    assert {k: v for k, v in theirs.items() if usual[k] != v} == ours.departures, "nothing else, and all of it"
    assert (entry.name, entry.row, ours.row) == (ours.name, row, ours.name), "the same method, another row"
    assert replace(entry, published={}) == ours
    for option, value in PUBLISHED[ours.name].items():
        with pytest.raises(UsageError, match=f"{option} of {row} is its paper's, {value}; set it for {ours.name}"):
            entry.configure({option: value})


@pytest.mark.parametrize("option", PUBLISHED["delta"])
def test_a_record_is_a_papers_only_if_all_that_the_paper_decides_is(option: str) -> None:
    """Also what our default has of it: Delta without Dual-K is not the paper's Delta."""
    whole = load_method("delta@published").configure({"k": 3}).model_dump()
    assert row_of("delta", whole) == "delta@published"
    assert row_of("delta", {k: v for k, v in whole.items() if k != option}) == "delta"
    assert row_of("delta", whole | {option: None}) == "delta"


def test_what_has_no_such_row_is_said_and_the_nearest_name_given() -> None:
    for find in (load_method, foreign.load):
        with pytest.raises(UsageError, match=r"our defaults of pca are no others than its paper's.*; use pca"):
            find("pca@published")
        with pytest.raises(UsageError, match="did you mean 'delta@published'"):
            find("delta@publshed")


def test_both_of_a_method_run_together_with_options_of_their_own() -> None:
    asked = {"method": ["delta", "delta@published"], "organism": ["taboo/gold-narrow"]}
    file = run_file(asked | {"set": {"delta@published": {"k": 8}, "delta": {"rank": "rdn"}}})
    (ours, mine), (paper, theirs) = resolve(file).methods
    assert (ours.row, paper.row) == ("delta", "delta@published")
    k, rank = ([getattr(c, name) for c in (mine, theirs)] for name in ("k", "rank"))
    assert k == [16, 8] and rank == ["rdn", "rdn"]
    with pytest.raises(UsageError, match="no method of this run 'l1@published'"):
        resolve(run_file(asked | {"set": {"l1@published": {"k": 8}}}))


def test_groups_are_spelt_out_once_each_and_beside_names() -> None:
    names = names_of_methods(run_file({"method": ["all", "published", "delta", "mine.py"]}))
    assert names == [*BUILTIN, *ROWS, "mine.py"]


def test_records_of_both_are_filtered_tabulated_and_made_again_apart() -> None:
    on = "taboo/gold-narrow"
    layer = load_card(on).layer
    configs = {row: load_method(row).configure({}).model_dump(mode="json") for row in ("delta", "delta@published")}
    made = {row: make_result("delta", on, config=c, layer=layer, budget=BUDGET) for row, c in configs.items()}
    assert row_labels([*made.values()]) == {r.id: row for row, r in made.items()}
    for row, result in made.items():
        cell = Cell.of(result)
        assert result.identity.row == row
        assert [Filter.of(m, None, None, None, None).takes(result) for m in made] == [m == row for m in made]
        command = command_of(cell)
        assert command == f"bench run -m {row} -o {on} --seed 0 --out runs" and runs(command, cell)


def test_the_list_of_options_says_which_are_the_papers() -> None:
    text = bench("methods", "show", "l1")
    assert "l1@published runs with its paper's settings, where ours are others: rank rdn, sparsity 2.0" in text
    assert shown(load_method("l1")) and "l1@published.OPTION=VALUE" in bench("methods", "show", "l1@published")
    ours, paper = (json.loads(bench("methods", "show", row, "--json")) for row in ("l1", "l1@published"))
    assert ours["published"] == paper["published"] == {"rank": "rdn", "sparsity": 2.0}
    assert [x["options"]["properties"]["sparsity"]["default"] for x in (ours, paper)] == [1.0, 2.0]
    assert [x["row"] for x in (ours, paper)] == ["l1", "l1@published"]


def test_a_sweep_of_layers_keeps_both_apart() -> None:
    found = [
        make_result("delta", layer=layer, quality=quality, config=config)
        for layer in (1, 2)
        for quality, config in ((0.8, {}), (0.2, PUBLISHED["delta"]))
    ]
    points = layers.points(found, "sufficiency")
    assert set(points) == {"delta", "delta@published"}
    assert points["delta"][1].value > points["delta@published"][1].value > 0  # type: ignore[operator]


def test_the_small_tier_has_the_defaults_that_were_chosen_there() -> None:
    """What is shared by all dictionary methods and was chosen with three of them; an organism of another tier has the usual ones."""
    chosen = json.loads((Path(__file__).parents[2] / "docs" / "tuning-small.json").read_text())["chosen"]
    for method, settings in chosen.items():
        entry = load_method(method)
        here, there = (entry.on(entry.configure({}), t).model_dump() for t in ("small", "tiny"))
        assert {k: here[k] for k in settings} == settings
        assert there == entry.configure({}).model_dump()
        assert {k for k in here if here[k] != there[k]} == set(entry.of_tier("small")), "nothing else"
        said = " ".join(bench("methods", "show", method).split())
        assert f"On organisms of the tier small the default is another: steps {settings['steps']}" in said
    passes = {
        m: load_method(m).of_tier("small")["steps"] * (2 if m in ("sae_pair", "sae_stagewise") else 1)
        for m in OF_TIER["small"]
    }
    assert set(passes.values()) == {chosen["delta"]["steps"]}, "alike for all that train"


def test_a_default_of_a_tier_yields_to_what_was_asked_for() -> None:
    entry, small = load_method("delta"), SimpleNamespace(name="taboo/x", tier="small")
    steps = [
        c.config.model_dump()["steps"]
        for options in ({}, {"steps": 900}, {"k": 32})
        for c in plan(
            [small, SimpleNamespace(name="taboo/y", tier="tiny")], [(entry, entry.configure(options))], [0], Path()
        ).cells  # type: ignore[list-item]
    ]
    assert steps == [1800, 900, 900, 900, 1800, 900]
    assert not replace(entry, origin="file mine.py").of_tier("small"), "of our methods alone"
