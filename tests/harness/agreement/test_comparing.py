"""`bench dictionary compare`: what is refused because it has no cosine, and what is said of two trainings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.agreement import firing
from diffbench.harness.agreement.comparing import Given, compare
from diffbench.harness.runs.stage import Stage
from diffbench.methods.formats import Dictionary
from diffbench.organisms.errors import UsageError, ValidationFailed
from typer.testing import CliRunner

from ...methods.dictionary_files import D, N, dictionary, sparsify_files, written


def given(name: str, inputs: Any = "ft", **card: Any) -> Given:
    made = dictionary(inputs)
    return Given(name, replace(made, card=made.card.model_copy(update=card)))


def shuffled(made: Dictionary) -> Dictionary:
    """The same latents in another order."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    raw = made.raw
    return replace(
        made,
        coder=raw._replace(
            encoder_NMd=raw.encoder_NMd[order],
            bias_N=raw.bias_N[order],
            decoder_NMd=raw.decoder_NMd[order],
            threshold_N=raw.threshold_N[order],
        ),
    )


def test_what_has_no_cosine_is_refused_with_what_to_do() -> None:
    a = given("a")
    for other, said in (
        (given("b", base="tiny-llama"), "other bases|two bases"),
        (given("b", "concat"), "--side ft compares"),
        (given("b", "base"), "the fine-tuned model alone.*the base alone"),
        (given("b", "difference"), "compare dictionaries that code the same"),
        (given("b", d_model=8), f"width {D}.*of 8"),
    ):
        with pytest.raises(UsageError, match=said):
            compare([a, other], tokens=0)
    with pytest.raises(UsageError, match="two or more"):
        compare([a], tokens=0)
    with pytest.raises(UsageError, match="use --side base"):
        compare([given("a", "base"), given("b", "concat")], "ft", tokens=0)
    with pytest.raises(
        UsageError, match="a codes the fine-tuned model alone and has no rows of the base; use --side ft"
    ):
        compare([given("a", "ft"), given("b", "ft")], "base", tokens=0)
    assert compare([a, given("b", "concat")], "ft", tokens=0).pairs[0].cosine_ab.value < 0.9


def test_bases_are_compared_with_every_other_and_with_the_organism() -> None:
    """A dictionary of another package says no base: what stands after it is compared all the same."""
    silent, gemma, llama = given("a", base=None), given("b"), given("c", base="tiny-llama")
    with pytest.raises(UsageError, match="b is of the base tiny-gemma2, c of tiny-llama"):
        compare([silent, gemma, llama], tokens=0)
    with pytest.raises(UsageError, match="--organism taboo/gold-narrow of tiny-gemma2"):
        compare([silent, llama], organism="taboo/gold-narrow")
    own = [
        given("a", base=None, organism="taboo/gold-narrow"),
        given("c", base="tiny-llama", organism="taboo/gold-narrow"),
    ]
    with pytest.raises(UsageError, match="the organism of a of tiny-gemma2"):
        compare(own)


@pytest.mark.parametrize("card", [{}, {"d_model": 128, "layer": 90}])
def test_what_an_organism_cannot_feed_is_refused(
    card: dict[str, int], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing.Stage, "load", lambda organism: stage)  # type: ignore[reportUnknownLambdaType]
    with pytest.raises(
        UsageError, match=f"block {card.get('layer', 2)} and width {card.get('d_model', D)} has nothing"
    ):
        compare([given("a", **card), given("b", **card)], organism="taboo/gold-narrow", tokens=100)


def test_a_dictionary_that_writes_nothing_is_refused() -> None:
    made = dictionary("ft")
    empty = replace(made, coder=made.raw._replace(decoder_NMd=torch.zeros_like(made.raw.decoder_NMd)))
    with pytest.raises(ValidationFailed, match="no latent writes"):
        compare([Given("a", made), Given("b", empty)], tokens=0)


def test_the_command_tells_one_dictionary_in_another_package_from_a_stranger(tmp_path: Path) -> None:
    made = dictionary("ft")
    folders = [written(made, "native", tmp_path / "a"), written(shuffled(made), "saelens", tmp_path / "b")]
    (folders[1] / "dictionary.json").unlink()  # as another package leaves it
    sparsify_files(tmp_path / "c")
    png = tmp_path / "map.png"
    words = ["dictionary", "compare", *map(str, folders), str(tmp_path / "c"), "--inputs", "ft"]
    result = CliRunner().invoke(app, [*words, "--heat-map", str(png), "--json"])
    assert result.exit_code == 0, result.output
    same, *others = json.loads(result.stdout)["pairs"]
    assert same["cosine_ab"]["value"] == pytest.approx(1, abs=1e-5) and same["identical"] == N
    assert all(abs(p["cosine_ab"]["value"] - p["cosine_ab"]["random"]) < 0.05 and not p["identical"] for p in others)
    assert png.read_bytes().startswith(b"\x89PNG") and "one vector" in result.stdout
    shown = CliRunner().invoke(app, [*words, "--tokens", "0"]).stdout
    assert "A–B" in shown and "…" not in shown and "latents that never fire" in shown


def test_on_text_only_latents_that_fire_are_compared(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded:
        @staticmethod
        def load(organism: object) -> Stage:
            return stage

    monkeypatch.setattr(firing, "Stage", Loaded)
    g = torch.Generator().manual_seed(0)
    d = stage.pair.d_model
    of = given("a", d_model=d, organism="taboo/gold-narrow").dictionary
    rows = torch.randn(N, 1, d, generator=g)
    raw = of.raw._replace(
        encoder_NMd=rows,
        decoder_NMd=rows.clone(),
        decoder_bias_Md=torch.zeros(1, d),
        bias_N=torch.zeros(N),
        threshold_N=torch.zeros(N),
    )
    raw.threshold_N[:10] = 1e9  # never fire
    a = Given("a", replace(of, coder=raw))
    turned = raw._replace(decoder_NMd=torch.randn(N, 1, d, generator=g))
    found = compare([a, Given("b", replace(of, coder=turned))], tokens=200)
    assert [x.compared for x in found.dictionaries] == [N - 10, N - 10] and found.text_tokens >= 150
    pair = found.pairs[0]
    assert pair.firing_ab is not None and pair.firing_ab.value == pytest.approx(1)  # the same codes in another basis
    assert pair.cosine_ab.above < 0.1 and pair.firing_ab.random < 0.6
