"""The documents say what the code says: every method has its section, the example is a method, every handle is in the table."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.commands.score import Declared
from diffbench.methods.contract import DiffProblem
from diffbench.methods.formats.findings import OWN
from diffbench.methods.registry import BUILTIN, load_method

from benchmarks.table import BEGIN, END, insert

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md")


def test_every_method_has_a_section_and_its_access_in_the_table() -> None:
    page = (DOCS / "methods.md").read_text()
    assert re.findall(r"^## `(\w+)`$", page, re.M) == list(BUILTIN)
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(#\1\) \| (\S+) \|", page, re.M))
    assert rows == {name: load_method(name).access for name in BUILTIN}


def test_the_example_is_a_documented_method(tmp_path: Path) -> None:
    page = (DOCS / "adding-a-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code
    path = tmp_path / "my_method.py"
    path.write_text(code[1])
    entry = load_method(str(path))
    assert entry.summary and entry.access == "activations"
    assert all(field.description for field in entry.config_class.model_fields.values())


def test_every_handle_is_in_the_table() -> None:
    page = (DOCS / "adding-a-method.md").read_text()
    table = page[page.index("| handle |") : page.index("A handle beyond")]
    names = {n for n in (*vars(DiffProblem), *DiffProblem.__annotations__) if not n.startswith("_")}
    missing = {
        name for name in names if not re.search(rf"\b{name}\b", "".join(re.findall(r"^\| `([^|]*)", table, re.M)))
    }
    assert not missing and {"divergence", "scratch"} < names


def test_the_page_of_findings_files_has_every_tensor_and_every_word() -> None:
    page = (DOCS / "scoring-findings.md").read_text()
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", page, re.M))))
    assert named == {*OWN, "name", "layer", "claims", "method"}
    assert all(f"`{tier.value}`" in page for tier in Declared)


def test_links_between_documents_lead_somewhere() -> None:
    for page in (
        DOCS / f"{n}.md" for n in ("methods", "recovery", "adding-a-method", "scoring-findings", "python", "hub")
    ):
        text = page.read_text()
        anchors = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
        for file, anchor in re.findall(r"\]\(([\w.-]*\.md)?(?:#([\w-]+))?\)", text):
            assert not file or (DOCS / file).exists(), f"{page.name}: {file}"
            assert not anchor or file or anchor in anchors, f"{page.name}: #{anchor}"


def test_blocks_that_are_generated_can_be_filled() -> None:
    """Each once and in order; and no page holds a picture that is not there."""
    filled = [page for page in PAGES if BEGIN in page.read_text()]
    assert len(filled) > 8
    for page in filled:
        assert f"{BEGIN}\nnew\n{END}" in insert(page.read_text(), "new\n"), page.name
    for page in PAGES:
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text()):
            assert (page.parent / picture).is_file(), f"{page.name}: {picture}"


def test_what_v1_measured_is_one_commit_and_on_no_page() -> None:
    """The changelog names the commit; a page without a number of v2 names it too, and how to get the number."""
    changes = (DOCS.parent / "CHANGELOG.md").read_text()
    commits = re.findall(
        r"\*\*v1 ends\.\*\* Its code, records and tables belong together at commit ([0-9a-f]{7})\b", changes
    )
    assert len(commits) == 1
    for page in PAGES:
        text = page.read_text()
        if re.search(r"[Nn]ot\s+(been\s+)?measured\s+under\s+protocol\s+v2", text):
            assert commits[0] in text, page.name
            assert re.search(r"^(time )?(bench|python -m benchmarks)\b", text, re.MULTILINE), page.name
        assert "protocol v1" not in text.partition(BEGIN)[2].partition(END)[0], page.name
