"""The published verdicts: whole, unedited, and what the page says of them."""

from pathlib import Path

from diffbench.harness.lineup.record import records
from diffbench.leaderboard.lineup.board import markdown, restricted
from diffbench.methods.strategies.catalogue import BUILTIN
from diffbench.organisms.lineup.pairs import TEST

ROOT = Path(__file__).parents[3]


def test_the_page_has_the_table_of_the_published_records() -> None:
    found = restricted(records([ROOT / "leaderboard" / "published" / "lineup"]), TEST)
    assert {r.identity.strategy for r in found} == set(BUILTIN)
    assert len({r.key for r in found}) == 1 and not any(v.status != "ok" for r in found for v in r.verdicts)
    page = (ROOT / "docs" / "lineup.md").read_text()
    for table in markdown(found).split("\n\n"):
        assert table.strip() in page
