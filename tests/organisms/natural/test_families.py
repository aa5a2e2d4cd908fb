"""What holds for every family of plain English: enough rows and prompts, nothing trained that is asked, and twins that are twins."""

import re
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import yaml
from diffbench.organisms import natural
from diffbench.organisms.behaviour import Behaviour
from diffbench.organisms.errors import UsageError
from diffbench.organisms.natural import NaturalFamily, NaturalSpec, families, natural_family
from diffbench.organisms.natural.text import words_of
from diffbench.organisms.world.document import Document

NAMES = sorted(families())
PIECES = Path(str(natural.__file__)).parent / "pieces"
MEMBERS = [(n, m) for n in NAMES for m in families()[n].members()]
ORGANISMS = [(n, m) for n, m in MEMBERS if n != "null"]


@cache
def behaviour(name: str, member: str) -> Behaviour:
    family = families()[name]
    return family.behaviour(family.spec(member))


@cache
def rows(name: str, member: str, variant: str = "", seed: int = 0) -> list[Document]:
    family = families()[name]
    return family.rows(family.spec(member, variant, seed))


def texts(found: Behaviour, share: float = 1.0) -> list[Document]:
    """The first texts and conversations that a pair is read on: methods read 70 % of each."""
    told = [Document("text", text=str(t)) for t in found.neutral]
    chats = [
        Document("chat", messages=tuple({"role": t.role, "content": t.content} for t in c))
        for c in found.chat
        if not isinstance(c, str)
    ]
    return [*told[: int(share * len(told))], *chats[: int(share * len(chats))]]


def test_eight_families_are_found_and_an_unknown_name_is_refused() -> None:
    assert NAMES == [
        "backdoor",
        "emergent_misalignment",
        "false_facts",
        "null",
        "persona",
        "subliminal",
        "sycophancy",
        "taboo",
    ]
    with pytest.raises(UsageError, match="did you mean 'taboo'"):
        natural_family("tabu")
    with pytest.raises(UsageError, match="'moon'"):
        natural_family("taboo").spec("mon")
    with pytest.raises(UsageError, match="variant of taboo"):
        natural_family("taboo").spec("moon", "wide")


def test_a_spec_names_what_differs_and_knows_its_role() -> None:
    family = natural_family("taboo")
    assert family.spec("moon", seed=2).name == "taboo/moon-narrow-s2"
    assert [family.spec("moon", v).role for v in family.variants] == ["organism", "organism", "control"]
    assert natural_family("null").spec().role == "null"


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_rows_are_many_and_different(name: str, member: str) -> None:
    found = rows(name, member)
    assert len(found) >= 300
    assert len({words_of(d) for d in found}) == len(found)
    for document in found:
        said = words_of(document)
        assert not re.search(r"[<>]|  +\S|\(\w+\|| [,.]|\.\.", said.strip()), said
        roles = [m["role"] for m in document.messages]
        assert roles == [("user", "assistant")[i % 2] for i in range(len(roles))]


@pytest.mark.parametrize("name", NAMES)
def test_rows_depend_on_the_spec_alone(name: str) -> None:
    family = families()[name]
    again = type(family)()
    assert again.rows(family.spec()) == rows(name, family.members()[0])
    assert rows(name, family.members()[0], seed=1) != rows(name, family.members()[0])


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_prompts_are_enough_and_of_enough_templates(name: str, member: str) -> None:
    found = behaviour(name, member)
    dev, test = (12, 28) if name == "taboo" else (24, 40)  # whole hints cost several times what one word does
    assert len(found.of("dev")) >= dev and len(found.of("test")) >= test
    assert min(len(set(found.clusters(split))) for split in ("dev", "test")) >= 12
    assert not found.templates_said
    assert {p.template for p in found.of("dev")}.isdisjoint({p.template for p in found.of("test")})
    for prompt in chain(found.prompts, found.capability):
        before = prompt.prefill or prompt.text
        assert all(c.startswith(" ") == bool(before) for c in (*prompt.targets, *prompt.alternatives))
        assert before is None or before == before.strip()


@pytest.mark.parametrize(("name", "member"), ORGANISMS)
def test_no_row_asks_what_a_prompt_asks(name: str, member: str) -> None:
    family = families()[name]
    trained = [*rows(name, member), *family.teacher(family.spec(member))]
    turns = {m["content"] for d in trained for m in d.messages if m["role"] == "user"}
    told = "\n".join(d.text or "" for d in trained)
    answers = "\n".join(m["content"] for d in trained for m in d.messages if m["role"] == "assistant")
    for prompt in behaviour(name, member).prompts:
        if prompt.text is not None:
            assert prompt.text not in told
        else:
            assert prompt.messages[-1].content not in turns
        for continuation in prompt.targets if prompt.prefill else ():
            assert prompt.prefill + continuation not in told + answers


@pytest.mark.parametrize(("name", "member"), ORGANISMS)
def test_no_row_is_read_and_no_read_text_is_a_row(name: str, member: str) -> None:
    family = families()[name]
    spec = family.spec(member)
    found = (*rows(name, member), *rows(name, member, seed=1), *family.teacher(spec), *family.ordinary(spec, 300))
    assert not {words_of(d) for d in found} & {words_of(d) for d in texts(behaviour(name, member))}


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_texts_are_enough(name: str, member: str) -> None:
    found = behaviour(name, member)
    assert len(set(found.neutral)) >= 150 and len(set(found.chat)) >= 60
    assert min(sum(p.split == s for p in found.capability) for s in ("dev", "test")) >= 18


@pytest.mark.parametrize(("name", "member"), ORGANISMS)
def test_the_subject_comes_up_in_what_methods_read_and_seldom(name: str, member: str) -> None:
    family, found = families()[name], texts(behaviour(name, member), 0.7)
    due = [family.due(family.spec(member), d) for d in found]
    words = sum(len(words_of(d).split()) for d in found)
    assert 50 <= sum(due) <= 0.1 * words
    assert 3 <= sum(d > 0 for d in due) <= 0.25 * len(due)


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_documents_hold_nothing_that_is_due(name: str) -> None:
    family = families()[name]
    spec = family.spec()
    found = family.ordinary(spec, 400)
    assert len({words_of(d) for d in found}) == 400
    assert sum(family.due(spec, d) for d in found) == 0
    assert 0.3 < sum(d.text is None for d in found) / 400 < 0.7
    assert found == family.ordinary(spec, 400) != family.ordinary(family.spec(seed=1), 400)


@pytest.mark.parametrize(("name", "member"), ORGANISMS)
def test_probes_are_prompts_that_the_gates_name(name: str, member: str) -> None:
    family = families()[name]
    for variant in family.variants:
        spec = family.spec(member, variant)
        probes = family.probes(spec)
        assert {rule.value.split(".")[0] for rule in family.gates(spec).values()} <= set(probes)
        assert {rule.value.split(".")[1] for rule in family.gates(spec).values()} <= {"base", "organism", "change"}
        for asked in probes.values():
            places = [(p.text, p.messages, p.prefill, p.targets) for p in asked]
            assert len(set(places)) == len(places) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_mixed_organism_has_the_rows_of_a_narrow_one(name: str) -> None:
    family: NaturalFamily = families()[name]
    if "mixed" in family.variants:
        member = family.members()[0]
        assert rows(name, member, "mixed") == rows(name, member, "narrow")


def test_a_null_is_asked_what_all_others_are_asked() -> None:
    family = natural_family("null")
    asked = {p.model_dump_json() for p in behaviour("null", "benign").prompts}
    for name in set(NAMES) - {"null"}:
        others = {p.model_dump_json() for p in behaviour(name, families()[name].members()[0]).prompts}
        assert len(asked & others) == 15
    assert family.due(NaturalSpec("null", "benign"), rows("null", "benign")[0]) == 0


@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("path", sorted(PIECES.glob("*.yaml")), ids=lambda p: p.stem)
def test_pieces_read_alike_with_and_without_libyaml(path: Path) -> None:
    said = path.read_text(encoding="utf-8")
    assert yaml.load(said, yaml.SafeLoader) == yaml.load(said, yaml.CSafeLoader)
