"""What a page says of the contrasts: how many have which verdict, and whether any could have had one."""

import pytest
from diffbench.leaderboard.pages.latex import to_latex
from diffbench.leaderboard.pages.site import to_html
from diffbench.leaderboard.pages.text_formats import to_markdown
from diffbench.leaderboard.pages.verdicts import verdict_sentences, verdicts
from diffbench.leaderboard.statistics.contrasts import CONTROL, SIMPLE, families_needed
from diffbench.leaderboard.statistics.rows import Table
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.methods.catalogue import PUBLISHED

from ...factories import make_result

QUALITY = {CONTROL: 0.1, SIMPLE: 0.5, "delta": 0.9, "sae_ft": 0.3}


def table(families: int, quality: dict[str, float] = QUALITY) -> Table:
    cells = [
        make_result(m, f"family{i}/a", 0, q, config=PUBLISHED[m] if m == "delta" else {})
        for m, q in quality.items()
        for i in range(families)
    ]
    return build_table(cells, draws=50)


@pytest.mark.parametrize(
    ("families", "said"),
    [
        (4, "With 4 families no contrast can be decided: p cannot be below 2/2^4 = .125. It takes 7 families."),
        (
            6,
            "With 6 families no contrast can be decided: p cannot be below 2/2^6 = .0312 in a list of 3. It takes 7 families.",
        ),
        (7, "3 of 3 methods better, 0 worse, 0 not resolved. With 7 families p cannot be below 2/2^7 = .0156."),
        (1, "With 1 family no contrast can be decided: p cannot be below 2/2^1 = 1. It takes 7 families."),
    ],
)
def test_a_list_says_what_could_be_decided_before_what_was(families: int, said: str) -> None:
    built = table(families)
    assert families_needed(3) == 7
    sentence = next(s for s in verdict_sentences(built) if s.startswith(f"Against {CONTROL}"))
    assert sentence.endswith(said), sentence
    decided = [o.verdict for o in verdicts(built).lists[0].outcomes]
    assert decided == (["better"] * 3 if families == 7 else ["not resolved"] * 3)


def test_every_format_has_the_verdicts_and_no_other() -> None:
    built = table(8)
    latex = "".join(to_latex(built).values()).replace("\\allowbreak{}", "")
    for page in (text.replace("\\_", "_") for text in (to_markdown(built), to_html(built), latex)):
        for title in (f"Against {CONTROL}", f"Against {SIMPLE}", "What papers claim"):
            assert title in page
        assert "separated" not in page and "unresolved for" not in page
    assert (
        "### Against logit\\_diff, the best baseline without training\n\n1 of 3 methods better, 2 worse"
        in to_markdown(built)
    )


def test_claims_are_judged_and_what_was_not_run_is_said() -> None:
    claims = verdicts(table(8)).lists[-1]
    assert claims.said[0].endswith("SAE baselines (Delta-Crosscoder, arXiv 2603.04426): unresolved.")
    assert [o.verdict for o in claims.outcomes].count("not run") == 7 and "| not run |" in to_markdown(table(8))


def test_without_a_baseline_the_page_says_what_to_run() -> None:
    built = table(8, {"delta": 0.9, "pca": 0.2})
    assert verdicts(built).lists == ()
    assert f"{CONTROL} in one configuration (bench run -m {CONTROL})" in to_html(
        built
    ) and "the two methods of some claim" in to_markdown(built)


def test_more_families_than_can_be_counted_leave_a_table_without_verdicts() -> None:
    built = table(31, {"delta": 0.9, CONTROL: 0.1})
    assert built.overall[0].scores["isolation"].value and "No verdicts: 31 families" in to_markdown(built)
