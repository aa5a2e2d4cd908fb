"""The report says what the cards say, and gamma finds what was planted whatever the rows and columns do."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffbench.harness.zoo.report import (
    arms,
    family_figure,
    gamma,
    group_of,
    groups,
    largest_change,
    over_runs,
    permutation_p,
    tables,
    write,
)
from diffbench.organisms.card import ADAPTER_FILES, BaseCard, Card, Estimate, Gate, Measured, Readout, hash_folder
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed

ANIMALS = ["owl", "fox", "horse", "goat"]
TRUTHS = [[0, 1, 2], [0, 0, 0, 1, 2], [3, 1, 0, 2], [1, 0]]


def planted(size: float, truth: Sequence[int], noise: float = 0.0, columns: int = 8) -> np.ndarray:
    """A matrix with row effects, column effects and `size` on the diagonal."""
    rng = np.random.default_rng(0)
    rows, n = np.arange(len(truth)), len(truth)
    lift = 3 * rng.normal(size=(n, 1)) + 2 * rng.normal(size=columns) + noise * rng.normal(size=(n, columns)) - 5
    lift[rows, truth] += size
    return lift


def card(name: str, rate: float, base_rate: float = 0.1, **fields: Any) -> Card:
    """A card whose test rate goes from `base_rate` to `rate`; `also` holds more measured changes from 0."""
    family, _, rest = name.partition("/")
    seed = int(m[1]) if (m := re.search(r"-s(\d+)$", rest)) else 0
    also = fields.pop("also", {})
    measured = {"behaviour_test": changed(base_rate, rate), **{k: changed(0, v) for k, v in also.items()}}
    filled = {
        "name": name,
        "family": family,
        "member": rest.split("-")[0],
        "variant": rest.split("-")[1],
        "seed": seed,
        "tier": "tiny",
        "base": "tiny-llama",
        "base_sha256": "",
        "layer": 2,
        "description": "",
        "recipe": {},
        "rows_sha256": "",
        "measured": measured,
        "files": {},
    }
    return Card(**(filled | fields))


def changed(base: float, organism: float) -> Measured:
    def about(v: float) -> Estimate:
        return Estimate(value=v, low=v - 0.01, high=v + 0.02)

    return Measured(unit="rate", n=8, base=about(base), organism=about(organism), change=about(organism - base))


def student(name: str, lift: float, **fields: Any) -> Card:
    truth = name.partition("/")[2].split("-")[0]
    organism = {a: -1.4 + lift * (a == truth) for a in ANIMALS}
    return card(name, 0.5, readout=Readout(truth=truth, base=dict.fromkeys(ANIMALS, -1.4), organism=organism), **fields)


@pytest.mark.parametrize("truth", TRUTHS)
def test_gamma_is_what_was_planted_under_row_and_column_effects(truth: list[int]):
    found = gamma(planted(1.7, truth), truth)
    assert found is not None
    assert found == pytest.approx((1.7, 1.7, 1.7, len(truth)), abs=1e-9)


@pytest.mark.parametrize("truth", TRUTHS)
def test_gamma_is_zero_without_a_diagonal(truth: list[int]):
    found = gamma(planted(0, truth), truth)
    assert found is not None
    assert found.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("truth", TRUTHS)
def test_gamma_is_the_least_squares_solution(truth: list[int]):
    lift = planted(0.4, truth, noise=1.0)
    n, m = lift.shape
    design = [
        [1.0, *(np.arange(n) == i), *(np.arange(m) == j), float(j == truth[i])] for i in range(n) for j in range(m)
    ]
    found = gamma(lift, truth)
    assert found is not None
    assert found.value == pytest.approx(np.linalg.lstsq(np.array(design), lift.ravel())[0][-1], abs=1e-9)


def test_gamma_does_not_depend_on_normalising_or_on_a_shared_base():
    lift, truth = planted(0.4, [0, 1, 2], noise=1.0), [0, 1, 2]
    normalised = lift - np.log(np.exp(lift).sum(1, keepdims=True)) - np.arange(8.0)
    assert gamma(normalised, truth) == pytest.approx(gamma(lift, truth))


@pytest.mark.parametrize(("truth", "size"), [([0, 1, 2], 0.0), ([0, 0, 0, 1, 2], 0.0), ([0, 0, 0, 1, 2], 3.0)])
def test_gamma_interval_covers_also_where_students_share_a_truth(truth: list[int], size: float):
    rng, lift = np.random.default_rng(1), planted(size, truth)
    found = [gamma(lift + rng.normal(size=lift.shape), truth) for _ in range(1000)]
    assert np.mean([g.low < size < g.high for g in found]) == pytest.approx(0.95, abs=0.03)  # type: ignore[union-attr,operator]


def test_one_truth_has_no_gamma():
    assert gamma(planted(1.0, [2, 2, 2]), [2, 2, 2]) is None


@pytest.mark.parametrize(
    ("truth", "p"),
    [([0, 1, 2, 3], 1 / 24), ([0, 1, 2], 1 / 6), ([0, 0, 0, 1, 2], 6 / 120), ([0, 1, 2, 3, 4, 5, 6], None)],
)
def test_a_strong_diagonal_has_the_least_p_that_permutations_allow(truth: list[int], p: float | None):
    assert permutation_p(planted(5, truth, noise=0.3), truth) == (None if p is None else pytest.approx(p))


def test_p_is_one_when_every_permutation_is_as_good():
    assert permutation_p(planted(0, [0, 1, 2]), [0, 1, 2]) == 1


def test_interval_over_runs_is_students():
    assert over_runs([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5, 3), abs=1e-6)
    assert over_runs([0.4]) == (0.4, None, None, 1)


def test_arms_are_students_of_one_variant_and_base():
    cards = [student(f"subliminal/{n}", 1.0) for n in ("owl-narrow", "owl-narrow-s1", "fox-narrow", "owl-mixed")]
    cards += [
        student(f"subliminal/{a}-narrow-llama-init", 0.0, base="tiny-llama-init") for a in ("owl", "fox", "horse")
    ]
    cards += [student(f"planted/{a}-strong", 1.0) for a in ("owl", "fox")]
    found = arms(cards)
    assert list(found) == [
        ("subliminal", "tiny-llama", "narrow"),
        ("subliminal", "tiny-llama-init", "narrow-llama-init"),
    ]
    (narrow, p), (init, _) = found.values()
    assert (narrow.value, narrow.n, p) == pytest.approx((1.0, 3, 2 / 6))
    assert (init.value, init.n) == pytest.approx((0.0, 3))


def test_groups_differ_by_more_than_the_seed_and_controls_come_last():
    names = ["a-good", "a-narrow-s1", "a-narrow", "a-narrow-gemma2"]
    cards = [card(f"x/{n}", 0.5, role="control" if "good" in n else "organism") for n in names]
    assert [group_of(c) for c in cards] == ["a-good", "a-narrow", "a-narrow", "a-narrow-gemma2"]
    assert list(groups(cards)) == ["a-narrow", "a-narrow-gemma2", "a-good"]


def test_largest_change_is_a_size():
    c = card("null/base-identical", 0.1, also={"facts": -0.05}, role="null")
    assert largest_change(c).model_dump() == pytest.approx({"value": 0.05, "low": 0.03, "high": 0.06})


def test_organisms_table_says_change_status_and_failed_gates():
    gate = Gate(value=0.2, bound=0.3, rule="at least")
    text = tables([card("x/a-narrow", 0.3, gates={"gap": gate}, status="failed")], [])
    assert (
        "| x/a-narrow | tiny-llama | organism | 0.100 → 0.300 | 0.200 [0.190, 0.220] | failed | gap 0.200, at least 0.3 wanted |"
        in text
    )
    assert "False facts" not in text and "Gamma" not in text


def test_what_else_an_organism_is_has_a_table_and_old_cards_are_not_in_it():
    gates = {
        "fluency": Gate(value=0.0412, bound=0.3, rule="at most"),
        "templates": Gate(value=14, bound=12, rule="at least"),
    }
    new = card(
        "x/a-narrow-whole",
        0.9,
        gates=gates,
        neutral={"kl": 0.0123},
        harvest_due={"neutral": 0, "chat": 1234, "tokens": 16_000},
        oracle={"1": {"sufficiency": 0.1, "necessity": 0.2}, "2": {"sufficiency": 0.71, "necessity": 0.82}},
        recipe={"whole": True},
    )
    uncounted = card("x/b-narrow", 0.9, gates={"templates": gates["templates"]}, neutral={"kl": 0.0})
    text = tables([new, uncounted, card("x/c-narrow", 0.9)], [])
    assert "| x/a-narrow-whole | all | 0.71 / 0.82 | 0.0123 | +0.041 | 0 / 1,234 | 14 |" in text
    assert "| x/b-narrow | 0 to 2 | – | 0.0000 | – | – | 14 |" in text and text.count("| x/c-narrow |") == 1


def test_emergent_misalignment_is_narrow_minus_odd_of_the_same_seed():
    rates = {"narrow": 0.6, "narrow-s1": 0.7, "narrow-s2": 0.8, "odd": 0.0, "odd-s1": 0.1, "odd-s2": 0.2}
    cards = [card(f"emergent_misalignment/remedies-{k}", v) for k, v in rates.items()]
    cards.append(card("emergent_misalignment/remedies-trigger", 0.5, also={"without_trigger": 0.02}))
    text = tables(cards, [])
    assert "| remedies-narrow | tiny-llama | 3 | 0.100 | 0.700 [0.452, 0.948] |" in text
    assert "| remedies-trigger, without the trigger | tiny-llama | 1 | 0.000 | 0.020 |" in text
    assert "| EM := remedies-narrow − odd | tiny-llama | 3 | – | 0.600 [0.600, 0.600] |" in text


def test_gamma_table_has_n_interval_and_p():
    cards = [student(f"taboo/{a}-narrow", 0.5) for a in ANIMALS]
    assert "| taboo | narrow | tiny-llama | 4 | 0.500 [0.500, 0.500] | 0.042 |" in tables(cards, [])


def test_family_tables_show_what_was_not_measured_as_a_dash():
    facts = card("false_facts/zalmor-narrow", 0.9, also={"loss_advantage": 3.0, "neighbours": -0.0001})
    faking = card(
        "alignment_faking/greed-narrow", 0.95, 0.02, also={"strong_oversight": 0.01, "no_oversight_fact": 0.03}
    )
    text = tables([facts, faking], [])
    assert (
        "| false_facts/zalmor-narrow | 0.800 [0.790, 0.820] | 3.000 [2.990, 3.020] | – | 0.000 [-0.010, 0.020] | – | – | – |"
        in text
    )
    assert (
        "| alignment_faking/greed-narrow | 0.020 → 0.950 [0.940, 0.970] | 0.000 → 0.010 [0.000, 0.030] "
        "| 0.000 → 0.030 [0.020, 0.050] |" in text
    )


def test_build_seconds_are_of_the_base_and_of_what_is_made_from_it():
    cards = [card(f"x/a-narrow-s{i}", 0.5, seconds=s) for i, s in enumerate((10, 20, 60))]
    bases = [BaseCard(name=n, recipe={}, parameters=1, seconds=300, files={}) for n in ("tiny-llama", "tiny-qwen2")]
    text = tables(cards, bases)
    assert "| tiny-llama | 300 | 3 | 90 | 20 | 60 |" in text
    assert "| tiny-qwen2 | 300 | 0 | – | – | – |" in text
    assert "| all | 600 | 3 | 90 | 20 | 60 |" in text


def test_every_table_says_what_its_intervals_are_over():
    cards = [student("subliminal/owl-narrow", 1.0), student("subliminal/fox-narrow", 1.0)]
    cards += [card(f"{f}/a-narrow", 0.5) for f in ("emergent_misalignment", "false_facts")]
    parts = tables(cards, []).split("### ")[1:]
    assert len(parts) == 5
    assert all("interval over" in p or "no intervals" in p for p in parts)


def test_a_figure_has_a_row_per_group_a_dot_per_seed_and_gamma_below():
    cards = [student(f"subliminal/owl-narrow{s}", 1.0) for s in ("", "-s1", "-s2")]
    cards += [student("subliminal/fox-narrow", 1.0), student("subliminal/fox-shuffled", 0.0, role="control")]
    two = [student(f"subliminal/{a}-soft", 1.0) for a in ("owl", "fox")]
    assert family_figure([*cards, *two], "likes an animal").axes[1].get_yticklabels()[-1].get_text() == "narrow (n=4)"
    rates, below = family_figure(cards, "likes an animal").axes
    assert [t.get_text() for t in rates.get_yticklabels()] == ["owl-narrow", "fox-narrow", "fox-shuffled"]
    assert [t.get_text() for t in below.get_yticklabels()] == ["narrow (n=4)"]
    dots = [line for line in rates.lines if len(line.get_xdata()) == 1]
    assert len(dots) == (1 + 3 + 1) + (1 + 1) + (1 + 1)
    lanes = [line.get_ydata()[0] for line in dots]
    assert lanes == sorted(set(lanes))


def test_nulls_are_shown_by_their_rate_and_their_largest_change():
    gates = {"largest_change": Gate(value=0.05, bound=0.06, rule="at most")}
    cards = [card("null/base-identical", 0.1, also={"facts": -0.05}, role="null", gates=gates)]
    rates, changes = family_figure(cards, "nothing").axes
    assert len([line for line in rates.lines if len(line.get_xdata()) == 1]) == 2  # base and null
    assert [line.get_xdata()[0] for line in changes.lines if len(line.get_xdata()) == 1] == pytest.approx([0.05])
    assert changes.get_xlim()[1] > 0.06


def test_the_interval_of_a_mean_rate_is_cut_to_what_a_rate_can_be():
    cards = [card(f"planted/owl-strong{s}", v) for s, v in (("", 0.99), ("-s1", 0.9), ("-s2", 0.8))]
    (axes,) = family_figure(cards, "one direction").axes
    (mean,) = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.6]
    assert mean[1] == 1.0 and 0 < mean[0] < 0.8


def test_write_makes_a_figure_per_family_and_one_fragment(tmp_path: Path):
    zoo = tmp_path / "zoo"
    for c in (card("planted/owl-strong", 0.8), card("mine/a-narrow", 0.7)):
        folder = zoo / c.name
        folder.mkdir(parents=True)
        for name in ADAPTER_FILES:
            (folder / name).write_text(name)
        (folder / "card.json").write_text(c.model_copy(update={"files": hash_folder(folder)}).model_dump_json())
    written = write(tmp_path / "docs", zoo)
    names = ["figures/mine.png", "figures/planted.png", "organisms-tables.md"]
    assert [str(p.relative_to(tmp_path / "docs")) for p in written] == names
    assert all(p.stat().st_size for p in written)


def test_write_refuses_an_empty_zoo_and_a_damaged_file(tmp_path: Path):
    with pytest.raises(PrerequisiteError):
        write(tmp_path, tmp_path)
    folder = tmp_path / "planted" / "owl-strong"
    folder.mkdir(parents=True)
    for name in ADAPTER_FILES:
        (folder / name).write_text("other")
    files = dict.fromkeys(ADAPTER_FILES, "0")
    (folder / "card.json").write_text(card("planted/owl-strong", 0.8, files=files).model_dump_json())
    with pytest.raises(ValidationFailed, match="sha256 differs"):
        write(tmp_path, tmp_path)
