"""Where a dictionary holds the behaviour, and what rankings make of it."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.organisms.errors import PrerequisiteError, UsageError

from benchmarks import seeds

from .factories import make_result

E = torch.eye(4)


def write(folder: Path, method: str, directions: torch.Tensor, rank: str = "rdn") -> None:
    """A run folder whose dictionary has one shared latent, one that grew, and one that turned towards the first axis."""
    result = make_result(method, config={"rank": rank}).model_copy(update={"diagnostics": {"n_shared": 1}})
    own = folder / f"{method}-{rank}"
    own.mkdir(parents=True)
    (own / "result.json").write_text(result.model_dump_json())
    save_file({"direction": directions}, own / "findings.safetensors")
    decoder_N2d = torch.stack(
        [torch.stack([E[1], 9 * E[0]]), torch.stack([E[1], 3 * E[1]]), torch.stack([-E[0], E[0]])]
    )
    save_file({"decoder_NMd": decoder_N2d}, own / "dictionary.safetensors")


def test_a_latent_that_turned_is_in_the_dictionary_and_passed_over_by_its_norm(tmp_path: Path) -> None:
    write(tmp_path, "supervised", E[:1])
    write(tmp_path, "delta", torch.stack([2 * E[1], torch.zeros(4)]))
    write(tmp_path, "delta", torch.stack([2 * E[1], E[0] + E[2]]), rank="contribution")
    named = {r.rank: r for r in seeds.read(tmp_path, "delta")}
    for row in named.values():
        assert row.held[2:] == (
            pytest.approx(1),
            pytest.approx(0.29, abs=0.2),
            0.5,
            2,
            2,
        )  # the shared one is no finding
    assert named["rdn"].chosen == 0 and named["contribution"].chosen == pytest.approx(0.5**0.5)
    gain = f"{named['rdn'].isolation:.2f}"
    lines = seeds.table([*named.values()]).strip().splitlines()
    assert len(lines) == 3 and f"| 0.50 | 2 of 2 | 0.71, {gain} | 0.00, {gain} |" in lines[2]


def test_runs_without_the_labelled_anchor_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "delta", E[:1])
    with pytest.raises(PrerequisiteError, match="no finished run of delta on an organism on which supervised ran"):
        seeds.read(tmp_path, "delta")


def test_a_method_without_a_dictionary_of_both_models_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "supervised", E[:1])
    for shape in ((3, 1, 4), None):
        write(tmp_path / str(shape), "sae_ft", E[:1])
        (dictionary,) = (tmp_path / str(shape)).rglob("dictionary.safetensors")
        if shape:
            save_file({"decoder_NMd": torch.ones(shape)}, dictionary)
        else:
            dictionary.unlink()
        with pytest.raises(UsageError, match="holds no dictionary of both models"):
            seeds.read(tmp_path, "sae_ft")
        dictionary.with_name("result.json").unlink()
