import json
from pathlib import Path

import numpy as np
import pytest
from diffbench.cli import app
from diffbench.harness.protocol.intervals import Array, bootstrap, point
from diffbench.leaderboard.pages.power_view import power_data, power_markdown
from diffbench.leaderboard.statistics.power import Components, Size, components, decompose, noncentrality, pseudo_values
from diffbench.leaderboard.statistics.resample import family, lineage
from diffbench.organisms.errors import PrerequisiteError
from scipy import stats
from typer.testing import CliRunner

from ...factories import make_result, make_samples, repeat, write_result

ORGANISMS = [f"f{f}/o{o}-narrow{seed}" for f in range(6) for o in range(3) for seed in ("", "-s1")]
MAIN = {"family": 0.1, "organism": 0.08, "organism seed": 0.05, "template": 0.2}
CROSSED = {
    "family": 0.06,
    "organism": 0.05,
    "organism seed": 0.04,
    "template": 0.1,
    "method seed": 0.05,
    "method seed × template": 0.15,
}
"""Standard deviations of the simulated worlds."""


def world(
    rng: np.random.Generator, methods: int = 4, seeds: int = 3, templates: int = 12
) -> dict[str, dict[str, Array]]:
    """Scores with known components; the first method is deterministic and has one seed. All methods are equally good."""
    drawn: dict[tuple[str, ...], float] = {}

    def effect(scale: float, *unit: str) -> float:
        return drawn.setdefault(unit, float(rng.normal(0, scale)))

    def sum_of(scales: dict[str, float], organism: str, *method: str) -> float:
        units = {"family": family(organism), "organism": lineage(organism), "organism seed": organism}
        return sum(effect(scales[level], level, unit, *method) for level, unit in units.items())

    blocks: dict[str, dict[str, Array]] = {}
    for o in ORGANISMS:
        common = sum_of(MAIN, o) + rng.normal(0, MAIN["template"], templates)
        blocks[o] = {}
        for m in map(str, range(methods)):
            own = common + sum_of(CROSSED, o, m) + rng.normal(0, CROSSED["template"], templates)
            n = 1 if m == "0" else seeds
            noise = rng.normal(0, CROSSED["method seed"], (n, 1)) + rng.normal(
                0, CROSSED["method seed × template"], (n, templates)
            )
            blocks[o][m] = own + (noise if n > 1 else 0)
            blocks[o][m] = np.atleast_2d(blocks[o][m])
    return blocks


@pytest.fixture(scope="module")
def worlds() -> list[dict[str, dict[str, Array]]]:
    return [world(np.random.default_rng(i)) for i in range(100)]


def test_known_components_are_recovered_without_bias(worlds: list[dict[str, dict[str, Array]]]) -> None:
    """The mean over 100 worlds lies within 3.5 of its standard errors of the truth, for each of ten components."""
    found = [decompose(blocks) for blocks in worlds]
    for truth, estimates in ((MAIN, [c.main for c in found]), (CROSSED, [c.interaction for c in found])):
        for name, deviation in truth.items():
            values = np.array([e[name] for e in estimates], dtype=np.float64)
            error = values.std() / np.sqrt(len(values))
            assert abs(values.mean() - deviation**2) < 3.5 * error, name
            assert error < deviation**2 / 3, f"{name}: too noisy to say"


def test_the_standard_error_is_that_of_simulated_differences(worlds: list[dict[str, dict[str, Array]]]) -> None:
    """Means of equally good methods over a set differ as much as the true components say."""
    means = np.array([[np.mean([b[m].mean() for b in blocks.values()]) for m in "123"] for blocks in worlds])
    between = 2 * means.var(1, ddof=1).mean()  # the variance of a difference of two of them
    true = Components(
        {}, {n: d**2 for n, d in CROSSED.items()}, ("1", "2"), 2, Size(tuple(ORGANISMS), seeds=3, templates=12)
    )
    assert between == pytest.approx(true.variance(true.size, on_this_set=False), rel=0.25)


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    for families in (3, 7, 40):
        shift = noncentrality(families - 1) / families**0.5
        draws = np.random.default_rng(families).normal(shift, 1, (4000, families))
        assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)
    assert noncentrality(np.inf) == pytest.approx(1.95996 + 0.84162, abs=1e-4)


def test_more_of_anything_sees_smaller_differences_and_needed_is_the_smallest_that_does() -> None:
    c = Components({}, {n: d**2 for n, d in CROSSED.items()}, ("1", "2"), 2, Size(tuple(ORGANISMS[:4]), 1, 6))
    here = c.detectable(c.size, True)
    assert here is not None
    for what in ("seeds", "templates"):
        target = 0.9 * here
        n = c.needed(what, target)
        assert n is not None
        sizes = [Size(c.size.organisms, **{"seeds": 1, "templates": 6, what: k}) for k in (n - 1, n)]
        before, after = (c.detectable(s, True) for s in sizes)
        assert before is not None and after is not None and before > target >= after
    assert c.needed("templates", 0.05) is None, (
        "the method seed's own variance is left however many templates there are"
    )
    more = Components(c.main, c.interaction, c.methods, 2, Size(tuple(ORGANISMS), 1, 6))
    asked: dict[int, int] = power_data(more)["templates_needed_with_seeds"]
    assert asked[1] > asked[2] >= asked[10] > 1
    before, after = (more.detectable(Size(more.size.organisms, 2, k), True) for k in (asked[2] - 1, asked[2]))
    assert before is not None and after is not None and before > 0.05 >= after
    assert (c.needed("seeds", 0.9 * here, pairs=136) or 0) > (c.needed("seeds", 0.9 * here) or 0)
    wanted = c.needed("organisms", 0.05)
    assert wanted is not None and wanted % 4 == 0 and wanted > 4


def test_one_cluster_says_nothing_about_others() -> None:
    c = decompose({"taboo/gold-narrow": world(np.random.default_rng(0))[ORGANISMS[0]]})
    assert [c.interaction[n] for n in ("family", "organism", "organism seed")] == [None] * 3
    assert c.detectable(c.size, False) is None and (c.detectable(c.size, True) or 0) > 0
    assert "| – |" in power_markdown(c)


def test_without_seeds_their_variance_is_unknown_and_goes_upwards() -> None:
    blocks = {o: {m: y[:1] for m, y in b.items()} for o, b in world(np.random.default_rng(0)).items()}
    c = decompose(blocks)
    assert c.interaction["method seed"] is None and c.interaction["method seed × template"] is None and c.seeded == 0
    assert c.interaction["template"] == pytest.approx(0.75 * 0.15**2 + 0.1**2, rel=0.2)  # 3 of 4 methods have it


def test_pseudo_values_have_the_score_as_mean_and_the_bootstraps_error() -> None:
    """Controls held fixed, and one prompt a template, where resampling twice adds nothing."""
    drawn = make_samples(0.5, np.random.default_rng(0), prompts=60)
    fixed = drawn.model_copy(update={"mitigation_controls": [0.02], "templates": list(range(60))})
    for side in (fixed.constant.sufficiency, fixed.constant.necessity):
        side.null_controls = [float(np.mean(side.null_controls))]
    for name in ("isolation", "sufficiency", "mitigation"):
        values = pseudo_values(fixed, name)
        n = sum(fixed.scored)
        assert len(values) == n and values.mean() == pytest.approx(getattr(point(fixed), name)[0])
        spread = getattr(bootstrap(fixed, 4000, 0), name)
        assert values.std(ddof=1) / n**0.5 == pytest.approx(np.std(spread), rel=0.15)


def test_copies_of_prompts_are_no_more_templates() -> None:
    """Each prompt four times: four times the prompts, the same templates and the same noise."""
    once = make_samples(0.5, np.random.default_rng(0))
    for name in ("isolation", "mitigation"):
        assert pseudo_values(repeat(once, 4), name) == pytest.approx(pseudo_values(once, name))


def test_organisms_that_cannot_be_solved_are_not_decomposed() -> None:
    cells = [make_result(m, f"f{i}/a-narrow", 0, 0.5) for m in "ab" for i in range(3)]
    cells += [make_result("supervised", f"f{i}/a-narrow", 0, 0.9 if i else 0.1) for i in range(3)]
    found = components(cells)
    assert found.size.organisms == ("f1/a-narrow", "f2/a-narrow") and found.not_counted == ("f0/a-narrow",)
    assert "Not counted in isolation: f0/a-narrow." in power_markdown(found)


def test_a_failed_cell_is_zero_and_holes_and_anchors_stay_out() -> None:
    names = ("taboo/a-narrow", "planted/b-narrow")
    cells = [make_result(m, o, s, 0.5) for m in ("a", "b") for o in names for s in (0, 1)]
    cells += [make_result("late", names[0]), *(make_result("oracle", o, access="anchor", quality=1) for o in names)]
    whole = components(cells)
    assert whole.methods == ("a", "b")
    dead = [
        make_result("a", names[0], 1, status="failed")
        if (r.identity.method, r.identity.organism) == ("a", names[0]) and r.identity.seeds["method"]
        else r
        for r in cells
    ]
    ruined = components(dead).interaction["method seed"]
    assert ruined is not None and ruined > 10 * max(whole.interaction["method seed"] or 0, 1e-3)
    with pytest.raises(PrerequisiteError, match="1 method with every cell"):
        components([r for r in cells if r.identity.method != "b"])


def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    cells = [make_result(m, f"f{i}/a-narrow", s) for m in "ab" for i in range(4) for s in (0, 1)]
    for cell in cells:
        write_result(tmp_path, cell)
    text = CliRunner().invoke(app, ["leaderboard", "power", str(tmp_path)])
    data = json.loads(CliRunner().invoke(app, ["leaderboard", "power", str(tmp_path), "--json"]).stdout)
    assert text.exit_code == 0 and text.stdout.strip() == power_markdown(components(cells)).strip()
    assert data == json.loads(json.dumps(power_data(components(cells))))
    assert data["clusters"] == 4 and set(data["needed"]) == {"seeds", "templates", "organisms"}
