"""What the page asks for is what the terminal has, each pair loaded once; what is refused there is refused here; text is only text."""

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffbench.harness.app.face import answered, findings, refused
from diffbench.harness.app.resident import Resident
from diffbench.harness.app.serve import check_free
from diffbench.harness.app.settings import Settings
from diffbench.harness.inspection import collect
from diffbench.harness.inspection.subject import Subject, subject
from diffbench.harness.inspection.trial import Trial, trial
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate
from diffbench.methods.formats.findings import pack
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError
from diffbench.organisms.organism import Organism
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def subjects(organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """Two files of findings in one organism; the first finding of one has a gate."""
    folder, d = tmp_path_factory.mktemp("two"), torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    save_file(pack([Finding(d[0], Gate(d[2], 0.0)), Finding(d[1])]), folder / "mine.safetensors")
    save_file(pack([Finding(d[2])]), folder / "theirs.safetensors")
    return [subject(folder / f"{name}.safetensors", organism) for name in ("mine", "theirs")]


@pytest.fixture(scope="module")
def resident(subjects: list[Subject]) -> Resident:
    return Resident(subjects)


def test_two_runs_answer_one_prompt_as_the_terminal_does_and_share_the_models(
    subjects: list[Subject], resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = list[str]()
    load = Stage.load

    def counted(organism: Organism, *args: Any, **kwargs: Any) -> Stage:
        loaded.append(organism.name)
        return load(organism, *args, **kwargs)

    monkeypatch.setattr("diffbench.harness.app.resident.Stage.load", counted)
    mine, theirs = resident.labels
    s = Settings(run=mine, finding=(1,), beside=theirs, prompt="one clue for me .", strength=0.5, tokens=4)
    first, second = resident.trials(s)
    assert isinstance(first, Trial) and isinstance(second, Trial) and len(loaded) == 1
    assert first == trial(subjects[0], s.prompt, [1], 0.5, "both", False, False, 4, None)
    assert (first.method, second.method, second.read[0].gated) == ("mine", "theirs", False)
    assert first.answer.base == second.answer.base


def test_a_run_on_few_prompts_shows_those_and_the_other_all(
    subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(subjects[1], organism=subjects[1].organism.at(subjects[1].organism.layer, 1))
    both, used = Resident([subjects[0], few]), list[int]()

    class Loaded:
        @staticmethod
        def load(organism: Organism, *args: Any, **kwargs: Any) -> Any:
            used.append(len(organism.behaviour.prompts))
            return SimpleNamespace(organism=organism)

    monkeypatch.setattr("diffbench.harness.app.resident.Stage", Loaded)
    mine, theirs = both.labels
    assert both._at(mine).stage is not both._at(theirs).stage  # pyright: ignore[reportPrivateUsage]
    assert used[0] > used[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "hello " * 600}, "was made to read 512"),
        ({"finding": (9,)}, "there is no finding 9"),
        ({"run": "nothing"}, "nothing"),
        ({"gated": True, "finding": (2,)}, "no gate"),
    ],
)
def test_refusals_are_the_terminals(resident: Resident, change: dict[str, Any], said: str) -> None:
    settings = Settings(run=next(iter(resident.labels)), prompt="hello", tokens=2).model_copy(update=change)
    (refusal,) = resident.trials(settings)
    assert isinstance(refusal, DiffbenchError) and said in str(refusal)
    assert 'role="alert"' in answered([refusal])


def test_one_run_that_cannot_answer_does_not_silence_the_other(resident: Resident) -> None:
    mine, theirs = resident.labels
    s = Settings(run=mine, finding=(1,), beside=theirs, prompt="hello", gated=True, tokens=2)
    first, second = resident.trials(s)
    assert isinstance(first, Trial) and isinstance(second, DiffbenchError)
    shown = answered([first, second])
    assert 'role="alert"' in shown and "no gate belongs to" in shown and "organism − finding" in shown


def test_markup_stands_on_the_page_as_text_and_unknown_words_are_named(resident: Resident) -> None:
    evil = '<img src=x onerror=alert(1)> "quoted" \u202e'
    t = resident.trials(Settings(run=next(iter(resident.labels)), prompt=evil, tokens=2))
    shown = answered(t)
    assert "<img" not in shown and "&lt;img src=x" in shown and "\u202e" not in shown and "\\u202e" in shown
    assert "closed vocabulary" in shown
    assert refused("<script>alert(1)</script>").count("<script") == 0


def test_the_report_is_the_page_of_bench_show_in_a_frame_that_runs_nothing(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "TEXT_TOKENS", {"tiny": 200})
    key = next(iter(resident.labels))
    shown = findings([(resident.report(key), (2,))])
    assert 'sandbox=""' in shown and "&lt;h2&gt;Finding 2&lt;/h2&gt;" in shown and "<h2>" not in shown
    assert resident.report(key) is resident.report(key)


def test_a_port_in_use_is_refused_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=f"cannot listen on 127.0.0.1:{port}.*--port {port + 1}"):
            check_free("127.0.0.1", port)


def test_a_run_without_findings_is_no_run_to_try(subjects: list[Subject]) -> None:
    from diffbench.methods.contract import DiffResult

    with pytest.raises(PrerequisiteError, match="has no findings here"):
        Resident([replace(subjects[0], findings=DiffResult([]))])


def test_a_folder_gives_all_its_runs(tmp_path: Path) -> None:
    from diffbench.harness.inspection.naming import all_named

    with pytest.raises(DiffbenchError, match="there is no"):
        all_named([str(tmp_path / "runs")], tmp_path)
