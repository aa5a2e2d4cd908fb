"""A small site of made records: two families, gates, a failure, a missing cell, a report, line-ups, and text that would be markup."""

from pathlib import Path

from diffbench.harness.inspection.recorded import of_record
from diffbench.harness.inspection.report import Answer, Answers, Context, Reading, Report, Shown, Token
from diffbench.leaderboard.board.build import Ask
from diffbench.leaderboard.site.build import Built, site

from ...factories import make_result, write_result
from ..lineup.made import record, write

NASTY = "<script>alert('x')</script><img src=x onerror=alert(1)>"
ORGANISMS = ("made/one", "made/two", "other/one")
METHODS = {"delta": 0.6, "l1": 0.3, "mean_diff": 0.2, "random_difference": 0.1}


def make(folder: Path) -> Path:
    """Run folders; one of them has a report beside it."""
    for organism in ORGANISMS:
        for method, quality in METHODS.items():
            for seed in (0, 1):
                gates = 0.1 if method == "delta" else None
                write_result(folder, make_result(method, organism, seed, quality, constant=gates))
        write_result(folder, make_result("oracle", organism, 0, 1.0, access="anchor"))
    write_result(folder, make_result("late", "made/one"))
    write_result(folder, make_result("flaky", "made/one", status="oom", reason=NASTY))
    for strategy, right, access in (
        ("noise", 0.9, "activations"),
        ("log_prob", 0.5, "activations"),
        ("ceiling", 1.0, "anchor"),
    ):
        write(record(strategy, right, access=access), folder)
    result = make_result("delta", "made/one", 0, METHODS["delta"], constant=0.1)
    (write_result(folder, result).parent / "report.json").write_text(told(of_record(result)).model_dump_json())
    return folder


def told(report: Report) -> Report:
    """With what models said, and texts that a page must not obey."""
    token = Token(text=f" {NASTY}", base=0.0, organism=1.0, shade_base=0, shade_organism=4)
    window = Context(
        kind="chat", rank=1, sample=False, quantile=1, base=0.0, organism=1.0, cut=(True, False), tokens=[token]
    )
    answers = Answers(
        seed=0,
        tokens=24,
        added=None,
        removed=None,
        rows=[Answer(asked=f"one clue {NASTY}", base="tin", added=None, organism="it is gold", removed=None)],
    )
    finding = Shown(
        number=1,
        score=0.5,
        gated=True,
        length=1.0,
        readings=[Reading(name="lens", promotes=["gold", NASTY], suppresses=["tin"])],
        facts={},
        active=None,
        silent=False,
        scale=1.0,
        histogram=None,
        contexts=[window],
        places=[],
    )
    return report.model_copy(update={"findings": [finding], "answers": answers})


def build(folder: Path, out: Path, most_cells: int = 2000, extra: Path | None = None) -> Built:
    """Its site, with records of one more place; few draws, because no number is looked at."""
    return site([folder, *([extra] if extra else [])], out, Ask(draws=50), most_cells, use_cache=False)
