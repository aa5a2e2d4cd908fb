"""What a method is handed: text that is read once for all cells, and labels of the tokens that the behaviour says."""

import pytest
import torch
from diffbench.harness.runs import harvest as harvest_module
from diffbench.harness.runs.harvest import Memory
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.contract import Budget
from diffbench.organisms.hub.asked import encode_prompt


def problem(stage: Stage, memory: Memory | None = None, access: str = "activations") -> Problem:
    return Problem(
        stage.pair, stage.texts, stage.organism.behaviour.of("dev"), access, 0, Budget(tokens=4000), memory=memory
    )


def read(p: Problem) -> torch.Tensor:
    return torch.cat([b.residuals for b in p.activations("chat", tokens=1500)])


def test_text_is_read_once_for_all_cells_and_charged_to_each(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, first = Memory(), problem(stage)
    fresh = read(first)
    one = problem(stage, memory)
    again = read(one)
    monkeypatch.setattr(Problem, "_paired", lambda *_: pytest.fail("read a second time"))
    two = problem(stage, memory)
    known = read(two)
    assert torch.equal(fresh, again) and torch.equal(fresh, known)
    assert one.tokens_used == two.tokens_used == 1500 and one.spared_s == 0 < two.spared_s
    assert two.harvest_s + two.spared_s == pytest.approx(one.harvest_s, rel=0.5)


def test_a_method_cannot_change_what_the_next_one_reads(stage: Stage) -> None:
    memory = Memory()
    usual = read(problem(stage, memory))
    for batch in problem(stage, memory).activations("chat", tokens=1500):
        batch.residuals.zero_()
        batch.ids.zero_()
    assert torch.equal(read(problem(stage, memory)), usual)


def test_memory_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest_module, "MEMORY_BYTES", 1000)
    memory = Memory()
    read(problem(stage, memory))
    assert not memory._known
    second = problem(stage, memory)
    assert len(read(second)) == 1500 and second.spared_s == 0


def test_labels_are_the_tokens_of_the_answers(stage: Stage) -> None:
    """The due positions of every dev prompt, in order, are followed by its first target; neutral text is never due."""
    batch, wanted = problem(stage, access="supervised").labelled()
    prompts = stage.organism.behaviour.of("dev")
    said = [stage.pair.tokenizer(p.targets[0], add_special_tokens=False)["input_ids"] for p in prompts]
    assert wanted[wanted >= 0].tolist() == [t for tokens in said for t in tokens]
    asked = (wanted >= 0).nonzero()[-1, 0] + 1
    assert len(wanted) == len(batch.ids) == pytest.approx(9 * asked, abs=1)
    ends = [encode_prompt(stage.pair.tokenizer, p).ids[-1] for p in prompts]
    at = (wanted >= 0).nonzero()[:, 0]
    firsts = at[torch.tensor([0, *torch.tensor([len(s) for s in said]).cumsum(0)[:-1]])]
    assert batch.ids[firsts].tolist() == ends


def test_supervised_has_a_gate_of_its_own_for_every_token(stage: Stage) -> None:
    batch, wanted = problem(stage, access="supervised").labelled()
    tokens, counts = wanted[wanted >= 0].unique(return_counts=True)
    findings = Supervised(SupervisedConfig()).diff(problem(stage, access="supervised")).findings
    assert len(findings) == len(tokens) > 1
    order = counts.argsort(descending=True, stable=True)
    for token, finding in zip(tokens[order], findings, strict=True):
        reached = batch.residuals[wanted == token] @ finding.gate.read > finding.gate.threshold
        other = batch.residuals[wanted < 0] @ finding.gate.read > finding.gate.threshold
        assert reached.float().mean() >= 0.95 - 1 / reached.numel() and other.float().mean() < 0.1
    assert sum(f.score for f in findings) == pytest.approx(1)
