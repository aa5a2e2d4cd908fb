"""A method finds in its own process what it finds in the scorer's, to the last bit, and what it spends is counted the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.harness.worker.host import run_method
from diffbench.methods.contract import Budget, DiffResult, check_findings
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method

from .written import method

SMALL: dict[str, Any] = {"steps": 20, "expansion": 1, "k": 4, "batch": 256}


def problem(stage: Stage, entry: MethodEntry, scratch: Path | None = None) -> Problem:
    dev = stage.organism.behaviour.of("dev")
    return Problem(stage.pair, stage.texts, dev, entry.access, 3, Budget(tokens=2000), scratch=scratch)


def facts(result: DiffResult) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {k: v for k, v in result.diagnostics.items() if k != "stream" and not k.endswith(("_s", "seconds"))}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mean_diff", {}),
        ("random", {}),
        ("random_difference", {}),
        ("supervised", {}),
        ("dw_svd", {}),
        ("adl", {}),
        ("logit_diff", {"tokens": 600}),
        ("batch_topk", SMALL | {"patching_tokens": 200}),
        ("sae_ft", SMALL | {"stream": True, "memory_bytes": 2**20, "readout_tokens": 500}),
        ("oracle", {}),
    ],
)
def test_the_numbers_are_the_same(stage: Stage, name: str, options: dict[str, Any]) -> None:
    entry = load_method(name)
    config = entry.configure(options)
    here, there = problem(stage, entry), problem(stage, entry)
    torch.manual_seed(3)
    one = check_findings(entry.run(config, here), here.d_model)
    other = check_findings(run_method(entry, config, there), there.d_model)
    assert len(one.findings) == len(other.findings) and one.patch == other.patch
    for a, b in zip(one.findings, other.findings, strict=True):
        assert torch.equal(a.direction, b.direction) and (a.score, a.evidence) == (b.score, b.evidence)
        assert (a.gate is None) == (b.gate is None)
        if a.gate and b.gate:
            assert torch.equal(a.gate.read, b.gate.read) and a.gate.threshold == b.gate.threshold
    assert facts(one) == facts(other)
    assert (one.dictionary or {}).keys() == (other.dictionary or {}).keys()
    assert all(torch.equal(t, (other.dictionary or {})[k]) for k, t in (one.dictionary or {}).items())
    assert (here.tokens_used, here.left_out, here.ended) == (there.tokens_used, there.left_out, there.ended)


def test_every_handle_answers_with_what_the_problem_says(stage: Stage, tmp_path: Path) -> None:
    """In the method's process the answers are compared with what the same questions gave here."""
    entry = load_method("random")
    here = problem(stage, entry)
    rows = torch.eye(here.d_model)[:3]
    torch.save(
        [here.lens(rows), here.patchscope(rows), here.divergence([lambda h: h[:, :, 0]], tokens=100)], tmp_path / "said"
    )
    body = f"""
lens, scope, nats = torch.load({str(tmp_path / "said")!r})
rows = torch.eye(problem.d_model)[:3]
assert torch.equal(problem.lens(rows), lens) and torch.equal(problem.patchscope(rows), scope)
assert problem.divergence([lambda h: h[:, :, 0]], tokens=100) == nats
try: problem.divergence([lambda h: h.no_such_thing])
except AttributeError as e: assert "no_such_thing" in str(e)
else: raise AssertionError("an edit that raises")
try: problem.divergence([lambda h: h[0, 0, 0]])
except ValueError as e: assert "an edit gives residuals" in str(e)
else: raise AssertionError("an edit of another shape")
try: problem.lens(torch.ones(2, 3))
except ValueError as e: assert "takes directions" in str(e)
else: raise AssertionError("directions of another width")
inner = problem.divergence([lambda h: h[:, :, 0] + 0 * problem.lens(rows).sum()], tokens=100)
assert inner == nats, "a question within an edit"
first = next(problem.activations("chat", tokens=300))
del first
for batch in problem.activations("chat", tokens=300, start=100): assert len(batch.ids) == 200
assert problem.tokenizer.decode(problem.tokenizer("the")["input_ids"]) and not problem.tokenizer.name_or_path
assert (problem.seed, problem.layer, problem.device, problem.budget.tokens) == (3, {here.layer}, "cpu", 2000)
return DiffResult([Finding(rows[0])])
"""
    mine = method(tmp_path, body)
    assert run_method(mine, mine.configure({}), problem(stage, mine)).findings


def test_a_method_goes_on_from_its_checkpoint(stage: Stage, tmp_path: Path) -> None:
    body = """
place = problem.scratch / "state"
if not place.exists():
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("half")
    os._exit(1)
return DiffResult([Finding(torch.ones(problem.d_model))], {"state": place.read_text()})
"""
    mine = method(tmp_path, body)
    with pytest.raises(Exception, match="exit status 1"):
        run_method(mine, mine.configure({}), problem(stage, mine, tmp_path / "scratch"))
    assert run_method(mine, mine.configure({}), problem(stage, mine, tmp_path / "scratch")).diagnostics == {
        "state": "half"
    }
