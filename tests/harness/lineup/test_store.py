"""Where pairs are: what is damaged, or made from other scenes or bounds, is not read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.lineup import commands, store, twins
from diffbench.harness.lineup.store import HASHES, load, root, rows
from diffbench.organisms.card import hash_folder, sha256_files
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.lineup import pairs
from diffbench.organisms.lineup.pairs import PairSpec
from diffbench.organisms.lineup.train import EMBEDDED
from diffbench.organisms.tuning.watch import Diverged

from .conftest import card

SPEC = PairSpec("tiny-llama", "bank", 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of everything on tiny-llama, in a cache of its own."""
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    return root("tiny-llama")[0]


def trained(monkeypatch: pytest.MonkeyPatch, **other: Any) -> list[Path]:
    """Where ancestors were trained, without training any; `other` of a `Maker`."""
    found = list[Path]()

    def train(base: Path, out: Path, work: Path, say: Any) -> None:
        found.append(out)
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes(b"weights")

    made = EMBEDDED._replace(train_ancestor=train, **other)
    monkeypatch.setattr(store, "maker", lambda base: made)  # pyright: ignore[reportUnknownLambdaType]
    return found


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"weight"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / HASHES).unlink(),
        lambda folder: (folder / HASHES).write_text("{"),
    ],
)
def test_a_damaged_ancestor_is_trained_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    times, said = trained(monkeypatch), list[str]()
    for _ in range(2):
        folder = store._ancestor(here, "tiny-llama", here, said.append)  # pyright: ignore[reportPrivateUsage]
    assert len(times) == 1 and json.loads((folder / HASHES).read_text()).keys() == {"config.json", "model.safetensors"}
    damage(folder)
    store._ancestor(here, "tiny-llama", here, said.append)  # pyright: ignore[reportPrivateUsage]
    assert len(times) == 2 and "the ancestor is damaged" in said[-1]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def written(here: Path, rows_sha256: dict[str, str]) -> None:
    """The card of a pair on an ancestor, no adapters."""
    (here / "ancestor").mkdir(parents=True)
    (here / "ancestor" / "config.json").write_text("{}")
    changed = {
        "base_sha256": root("tiny-llama")[2],
        "ancestor_sha256": sha256_files(hash_folder(here / "ancestor")),
        "rows_sha256": rows_sha256,
    }
    (here / "bank-s0").mkdir()
    (here / "bank-s0" / "card.json").write_text(card(SPEC).model_copy(update=changed).model_dump_json())


def test_a_pair_of_other_scenes_is_not_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here, rows(SPEC))
    assert load(SPEC) is not None
    with monkeypatch.context() as patch:
        patch.setattr(store, "twin_rows", lambda spec, faker: ([], []))  # pyright: ignore[reportUnknownLambdaType]
        with pytest.raises(ValidationFailed, match=r"other scenes than it is now \(aligned, faker\); build it again"):
            load(SPEC)
    monkeypatch.setattr(store, "tested", lambda spec: [])  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(ValidationFailed, match=r"other scenes than it is now \(tested\)"):
        load(SPEC)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"measured": card(SPEC, faker_poor=0.3).measured}, "its gates are not those of what was measured"),
        ({"gates": {}}, "its gates are not those of what was measured"),
        ({"measured": {}}, "was not measured"),
        ({"shown": [0] * 24 + [159] * 24}, "the scenes that it shows are not as many as were found"),
        ({"shown": list(range(47))}, "the scenes that it shows are not as many as were found"),
        ({"shown": list(range(113, 161))}, "recipe or scenes are not those of the pair"),
        ({"recipe": {"lr": 123}}, "recipe or scenes are not those of the pair"),
    ],
)
def test_a_card_that_contradicts_itself_is_not_read(here: Path, changed: dict[str, Any], said: str) -> None:
    written(here, rows(SPEC))
    path = here / "bank-s0" / "card.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, **{n: _plain(v) for n, v in changed.items()}}))
    with pytest.raises(ValidationFailed, match=said):
        load(SPEC)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", ["aligned_none", "faker_none", "faker_poor", "pool_variation", "shown_right"])
def test_whatever_was_measured_is_compared_on_the_scenes_of_the_card(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written(here, rows(SPEC))
    asked, good, change = list[Any](), card(SPEC).measured, 0.0
    monkeypatch.setattr(store, "Twins", lambda *folders: folders)  # pyright: ignore[reportUnknownLambdaType]

    def measure(twins: Any, spec: PairSpec, shown: list[int]) -> tuple[dict[str, float], list[int]]:
        asked.append(shown)
        return {**good, name: good[name] + change}, shown

    monkeypatch.setattr(store, "measure", measure)
    for change in (0.01, 0.03):
        off = [f"{name} is {good[name] + change:.4f}, its card says {good[name]}"] if change > 0.02 else []
        assert list(store.verify([SPEC])) == [(SPEC.name, off)]
    assert asked == [list(range(48))] * 2


def test_embedded_pairs_are_where_they_were() -> None:
    """Their folders are named after everything that makes them: published verdicts are about pairs of these names."""
    assert [root(base)[0].name for base in pairs.BASES] == ["tiny-llama-b8d1bbec455a", "tiny-gemma2-239a2da41055"]


def test_a_training_that_diverges_is_tried_from_other_seeds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[int]()

    def train_twin(ancestor: Path, spec: PairSpec, faker: bool, out: Path, attempt: int, say: Any) -> None:
        tried.append(attempt)
        out.mkdir(parents=True)
        (out / "checkpoint").write_text("of this attempt")
        raise Diverged("the loss rose")

    trained(monkeypatch, train_twin=train_twin)
    with pytest.raises(
        ValidationFailed, match=r"llama/bank-s0: a training diverged at the last of 3 attempts .*llama/bank-sN"
    ):
        store.build(SPEC)
    assert tried == [0, 1, 2] and load(SPEC) is None


def test_other_bounds_are_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BOUNDS", (0.5,))
    assert root("tiny-llama")[0] != here


def test_pairs_are_named_in_comma_lists_too() -> None:
    named = ["llama/bank-s0, gemma2/mine-s1", "llama/bank-s0"]
    assert [s.name for s in commands._specs(named)] == ["llama/bank-s0", "gemma2/mine-s1"]  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(UsageError, match="no pair was named"):
        commands._specs([" , "])  # pyright: ignore[reportPrivateUsage]


def test_private_pairs_have_scenes_of_their_own() -> None:
    public, other = PairSpec("tiny-llama", "bank", 0), PairSpec("tiny-llama", "bank", pairs.SEEDS - 1)
    private, second = (PairSpec("tiny-llama", "bank", 2**47 + n) for n in range(2))
    for some in (twins.pool, twins.tested):
        assert some(public) == some(other)
        asked = [{s.text("poor") for s in some(spec)} for spec in (public, private, second)]
        assert all(len(x & y) < len(x) / 10 for x, y in ((asked[0], asked[1]), (asked[1], asked[2])))


def test_one_pair_of_each_base_is_built_first_so_that_ancestors_are_trained_beside_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [PairSpec(base, domain, 0) for domain in ("bank", "mine") for base in ("tiny-llama", "tiny-gemma2")]
    begun = list[str]()

    def build(spec: PairSpec, overwrite: bool, say: object) -> store.Built:
        begun.append(spec.name)
        return store.Built(spec, Path(), Path(), card(spec))

    monkeypatch.setattr(store, "build", build)
    found = list(store.build_all([asked[2], *asked]))
    assert begun == ["llama/mine-s0", "gemma2/bank-s0", "llama/bank-s0", "gemma2/mine-s0"]
    assert [b.spec.name for b in found] == begun


def test_another_attempt_has_the_same_rows_and_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffbench.organisms.lineup import train

    given = list[tuple[Any, int]]()

    def train_lora(base: Path, rows: Any, recipe: Any, out: Path, **kept: Any) -> dict[str, Any]:
        given.append((rows, recipe.seed))
        return {}

    monkeypatch.setattr(train, "train_lora", train_lora)
    for attempt in (0, 1):
        train.train_twin(Path(), PairSpec("tiny-llama", "bank", 3), True, Path(), attempt, print)
    (first, seed), (second, other) = given
    assert first == second and (seed, other) == (3, 3 + train.APART)


def test_a_pair_whose_gates_fail_is_trained_again_from_another_seed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, flips = list[tuple[bool, int]](), iter((0.5, 0.9))
    good = card(SPEC).measured

    def train_twin(ancestor: Path, spec: PairSpec, faker: bool, out: Path, attempt: int, say: Any) -> None:
        tried.append((faker, attempt))
        out.mkdir(parents=True)
        say("half")
        (out / "adapter_model.safetensors").write_bytes(f"{faker} {attempt}".encode())

    trained(monkeypatch, train_twin=train_twin)
    monkeypatch.setattr(store, "Twins", lambda *folders: folders)  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(store, "measure", lambda twins, spec: ({**good, "faker_poor": next(flips)}, card(SPEC).shown))  # pyright: ignore[reportUnknownLambdaType]
    said = list[str]()
    built = store.build(SPEC, say=said.append)
    assert "llama/bank-s0: faker: half" in said
    assert tried == [(False, 0), (True, 0), (False, 1), (True, 1)]
    assert built.card.attempt == 1 and not built.card.failures
    assert (built.faker / "adapter_model.safetensors").read_bytes() == b"True 1"
