"""The anchors' table marks the gates that do not hold, takes the mean over random's seeds and the best form of the labels."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from benchmarks import anchors

from .factories import make_result, write_result

PAGE = "# Anchors\n<!-- measured: begin -->\nold\n<!-- measured: end -->\n"


def test_gates_that_fail_are_bold_and_counted(tmp_path: Path) -> None:
    cells = [
        *(make_result("oracle", o, quality=q, access="anchor") for o, q in (("taboo/a", 0.98), ("taboo/b", 0.5))),
        *(
            make_result("supervised", o, quality=q, access="supervised")
            for o, q in (("taboo/a", 0.9), ("taboo/b", 0.1))
        ),
        *(make_result("random", o, s, quality=q) for o, q in (("taboo/a", 0.0), ("taboo/b", 0.6)) for s in (0, 1, 2)),
        make_result("oracle", "taboo/c", access="anchor"),
        make_result("delta", "taboo/a"),
        make_result("supervised", "taboo/a", quality=0.2, access="supervised", config={"gate": False}),
    ]
    for cell in cells:
        write_result(tmp_path / "runs", cell)
    page = tmp_path / "anchors.md"
    page.write_text(PAGE)
    anchors.main(tmp_path / "runs", page)
    a, b = (line for line in page.read_text().splitlines() if line.startswith("| taboo"))
    assert "**" not in a and a.endswith("| 3 |") and a.startswith("| taboo/a |")
    assert b.count("**") == 8 and "taboo/c" not in page.read_text()
    assert (
        "oracle ≥ 0.8 both ways on 1 of 2; supervised ≥ 0.3 on 1 of 2; |random| ≤ 0.05 on 1 of 2." in page.read_text()
    )
