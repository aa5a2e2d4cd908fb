"""The GPU suite at small shapes on the processor: what it measures agrees, sections fail alone, time is kept. Figures mean nothing here."""

import json
import sys
from pathlib import Path

import pytest
import torch
import typer

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from benchmarks import gpu_sections, gpu_suite
from benchmarks.gpu_models import GEMMA_2_2B, GEMMA_2_9B, SMALL, planted
from benchmarks.gpu_sections import FULL, QUICK, Sizes
from benchmarks.gpu_suite import Suite


def test_the_shapes_are_the_published_models() -> None:
    """Parameters of Gemma 2 2B and 9B, embeddings tied."""
    from transformers import AutoModelForCausalLM

    for shape, billions in ((GEMMA_2_2B, 2.614), (GEMMA_2_9B, 9.242)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
        assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=1e-3)
        assert shape.config().layer_types == type(shape.config())().layer_types[:2] * (shape.blocks // 2)


def test_quick_sections_give_tables_a_record_and_a_page(tmp_path: Path) -> None:
    out, page = tmp_path / "gpu.json", tmp_path / "page.md"
    page.write_text(f"before\n{gpu_suite.BEGIN}\n{gpu_suite.END}\nafter\n")
    gpu_suite.main(out, page, "b,c,d", 480, True, "cuda")
    suite = Suite.model_validate_json(out.read_text())
    assert [(s.letter, s.status) for s in suite.sections] == [(x, "ok") for x in "bbccd"] and suite.quick
    harvest, step = suite.sections[0].rows[0], suite.sections[2].rows[0]
    assert harvest["base differs by"] == 0 and 0 < float(harvest["fine-tuned differs by"] or 0) < 0.1
    assert float(harvest["GB"] or 1) < float(harvest["two models, GB"] or 0)
    assert step["share of floor"] == pytest.approx(float(step["floor, ms"] or 0) / float(step["ms a step"] or 1))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "the figures mean nothing" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 5 * 2 + sum(len(s.rows) for s in suite.sections)


def test_the_planted_word_is_said_by_the_fine_tuned_side(tmp_path: Path) -> None:
    organism, pair, texts = planted(SMALL, "cpu", tmp_path)
    from diffbench.harness.protocol.prompts import choices, rates

    c = choices(pair, organism.behaviour.of("test"))
    base, tuned = (rates(pair.logits(c.ids, side, c.keep)[None], c) for side in ("base", "tuned"))
    gap = tuned - base
    assert gap.mean() > 0.1
    assert next(texts.rows("chat", "harvest")) == next(texts.rows("chat", "harvest")) != next(texts.rows("chat", "dev"))


def works(sizes: Sizes, device: str) -> gpu_sections.Found:
    return [{"x": 1.5, "n": 12345, "met": True, "none": None}], ["said"]


def breaks(sizes: Sizes, device: str) -> gpu_sections.Found:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_section_fails_alone_and_late_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    three = [gpu_suite.Part(x, x, 100, w) for x, w in (("a", breaks), ("b", works), ("c", works))]
    three[2] = gpu_suite.Part("c", "c", 1000, works)
    monkeypatch.setattr(gpu_suite, "parts", lambda _: three)
    saved = list[Suite]()
    suite = gpu_suite.run(FULL, "cpu", save=saved.append)
    assert [s.status for s in suite.sections] == ["failed", "ok", "left out"]
    assert suite.sections[0].reason == "OutOfMemoryError: CUDA out of memory"
    assert "may take 1000 s" in (suite.sections[2].reason or "")
    assert [len(s.sections) for s in saved] == [1, 2, 3], "written after each, so that a kill loses one"
    text = gpu_suite.markdown(suite)
    assert "failed: OutOfMemoryError" in text and "| 1.5 | 12,345 | yes |  |" in text and "left out: " in text
    assert not json.loads(suite.model_dump_json())["quick"]


def test_all_of_it_fits_into_eight_minutes() -> None:
    assert sum(part.needs_s for part in gpu_suite.parts(FULL)) < 480


def test_without_a_gpu_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(typer.Exit) as stopped:
        gpu_suite.main(tmp_path / "gpu.json", None, "a", 480, False, "cuda")
    assert stopped.value.exit_code == 3 and "--cpu" in capsys.readouterr().err
    with pytest.raises(typer.BadParameter, match="no section z; sections: a, b, c, d, e, f"):
        gpu_suite.main(tmp_path / "gpu.json", None, "a,z", 480, True, "cuda")


@pytest.mark.slow
def test_the_whole_suite_runs_at_small_shapes() -> None:
    suite = gpu_suite.run(QUICK, "cpu")
    assert [s.letter for s in suite.sections] == list("abbccdef")
    assert [s.reason for s in suite.sections] == [None] * 8
    cell = suite.sections[-2].rows[0]
    assert isinstance(cell["tokens"], int) and cell["tokens"] > 0 and "Extrapolated" in suite.sections[-2].notes[1]
    assert cell["oracle's"] == pytest.approx(1, abs=0.05)
    trained = suite.sections[-1].rows[0]
    assert trained["steps"] == QUICK.training_steps and float(trained["s a step"] or 0) > 0
