"""The recovery study on separable atoms and few tokens: the truth is what the generator says, and the table says what the record says."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.methods.contract import DiffProblem

from benchmarks import recovery, table
from benchmarks.planted import COSINE, NOISE, STRETCH, PlantedProblem, Setting, planted
from benchmarks.recovery import CROSSCODERS, METHODS, QUICK, Fit, Recovery

SEPARABLE = QUICK.settings[0]


@pytest.fixture(scope="module")
def measured() -> Recovery:
    return recovery.run(QUICK, quick=True)


def test_every_kind_of_atom_is_what_it_says() -> None:
    truth = planted(SEPARABLE, 64, 8, seed=1)
    base_Nd, ft_Nd = truth.atoms_N2d.unbind(1)
    ratio, cosine = base_Nd.norm(dim=1) / ft_Nd.norm(dim=1), torch.cosine_similarity(base_Nd, ft_Nd, dim=1)
    expected = {
        "unchanged": (1, 1),
        "new": (0, 0),
        "lost": (torch.inf, 0),
        "stretched": (STRETCH, 1),
        "turned": (1, COSINE),
    }
    for kind, (length, angle) in expected.items():
        mine = torch.tensor([k == kind for k in truth.kinds])
        assert int(mine.sum()) == (16 if kind == "unchanged" else 2)
        torch.testing.assert_close(ratio[mine], torch.full((int(mine.sum()),), float(length)), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(cosine[mine], torch.full((int(mine.sum()),), float(angle)), atol=1e-6, rtol=1e-6)
    overlap = ft_Nd @ ft_Nd.T - torch.diag(ft_Nd.square().sum(1))
    assert float(overlap.abs().max()) < 1e-6, "separable"


def test_residuals_are_sparse_sums_of_the_atoms() -> None:
    """What is left of the difference outside the changed atoms is a constant and noise."""
    truth = planted(Setting("sparse", 4, d_model=48), 4000, 100, seed=0)
    assert truth.residuals_T2d.shape == (4000, 2, 48) and len(truth.held_out_T2d) == 100
    delta_Td = truth.residuals_T2d[:, 1] - truth.residuals_T2d[:, 0]
    change_Nd = truth.atoms_N2d[:, 1] - truth.atoms_N2d[:, 0]
    basis_Kd = torch.linalg.qr(change_Nd[change_Nd.norm(dim=1) > 1e-6].T).Q.T
    assert len(basis_Kd) == 16
    rest_Td = delta_Td - delta_Td @ basis_Kd.T @ basis_Kd
    assert float((rest_Td - rest_Td.mean(0)).std()) == pytest.approx(2**0.5 * NOISE * (32 / 48) ** 0.5, rel=0.05)
    assert truth.nearest(torch.cat([change_Nd[60:], -truth.atoms_N2d[:2, 0]])) == [
        *truth.kinds[60:],
        "unchanged",
        "unchanged",
    ]


def test_the_problem_hands_out_residuals_and_nothing_else() -> None:
    truth = planted(SEPARABLE, 200, 8, seed=0)
    problem = PlantedProblem(truth.residuals_T2d, 0)
    assert isinstance(problem, DiffProblem)
    halves = [torch.cat([b.residuals for b in problem.activations(text, 64)]) for text in ("neutral", "chat")]
    assert torch.equal(torch.cat(halves), truth.residuals_T2d)
    assert sum(len(b.ids) for b in problem.activations("contrastive")) == 20
    with pytest.raises(NotImplementedError, match="no model"):
        problem.weights()


def test_k_is_what_is_active_in_what_is_coded() -> None:
    """24 atoms, 3 active: an eighth; two atoms of each changed kind."""
    ks = {name: recovery.configured(name, SEPARABLE, 10, 1.0)[1] for name in METHODS}
    assert ks["l1"] is None and ks["batch_topk"] == ks["delta"] == 3
    assert ks["sae_ft"] == ks["sae_base"] == 22 / 8 and ks["sae_diff"] == 1


@pytest.mark.slow
def test_separable_atoms_are_found(measured: Recovery) -> None:
    of = {f.method: f for f in measured.fits}
    assert list(of) == list(METHODS) and measured.quick
    for name in ("l1", "batch_topk", "dsf", "sae_ft", "sae_diff"):
        assert of[name].recall == 1, name
    best = of["batch_topk"]
    assert best.flagged == {"new": best.ft_only} and best.shrunken == best.decoupled == 0 and best.unchanged == 0
    assert of["sae_base"].recall == 0, "it cannot see what only the other model has"
    for f in measured.fits:
        assert (
            (f.ft_only is None)
            == (f.flagged is None or f.method in ("sae_ft", "sae_pair"))
            == (f.method not in CROSSCODERS)
        )
        assert f.k is None or f.method == "sae_stagewise" or f.l0 == pytest.approx(f.k, rel=0.05)
        assert all(0 < share <= 1 for share in f.explained.values())


def test_the_differences_are_paired_by_draw() -> None:
    def fits(rates: list[float | None]) -> list[Fit]:
        rest = {"method": "l1", "price": 2, "setting": "s", "recall": 1, "flagged": {}, "unchanged": 0}
        rest |= {"explained": {}, "dead": 0, "l0": 1, "k": None}
        return [
            Fit.model_validate(rest | {"seed": i, "ft_only": 1, "shrunken": r, "decoupled": None, "seconds": 1})
            for i, r in enumerate(rates)
        ]

    assert recovery.differences(fits([0.5, None, 1.0]), fits([0.25, 0.0, 0.5])[::-1], "shrunken") == [0.25, 0.5]
    assert recovery.interval([0.0, 1.0, 2.0]) == "1.00 [-1.48, 3.48]"  # t(.975, 2) = 4.303, s/√3 = .577
    assert recovery.interval([0.5]) == "0.50" and recovery.interval([]) == "–"


def test_the_table_holds_every_fit_and_goes_into_the_page(tmp_path: Path, measured: Recovery) -> None:
    text = recovery.markdown(measured)
    lines = [line for line in text.splitlines() if line.startswith("| separable")]
    assert [line.split(" | ")[1] for line in lines] == [
        *(f"`{name}`" for name in METHODS),
        "`l1`, λ 2",
        "`batch_topk`",
        "`delta`",
    ]
    stretched = next(f.flagged for f in measured.fits if f.method == "l1")
    assert stretched and f"{stretched['stretched']} stretched" in lines[0]
    record, page = tmp_path / "recovery.json", tmp_path / "recovery.md"
    record.write_text(measured.model_dump_json())
    page.write_text(f"# Recovery\n{table.BEGIN}\nold\n{table.END}\n")
    recovery.main(record, again=True)
    assert page.read_text() == f"# Recovery\n{table.BEGIN}\n{text}{table.END}\n"


def test_directions_are_units() -> None:
    truth = planted(SEPARABLE, 64, 8, seed=1)
    new_Ed = truth.of("new")
    torch.testing.assert_close(new_Ed, normalize(new_Ed, dim=1))
    assert truth.nearest(3 * new_Ed) == ["new", "new"] and truth.nearest(-truth.of("lost")) == ["lost", "lost"]


def test_the_page_shows_the_record() -> None:
    docs = Path(__file__).parent.parent / "docs"
    kept = Recovery.model_validate_json((docs / "recovery.json").read_text())
    assert (
        not kept.quick and f"{table.BEGIN}\n{recovery.markdown(kept)}{table.END}" in (docs / "recovery.md").read_text()
    )
