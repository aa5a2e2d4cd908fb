"""Options of `bench run`: what is refused before anything runs, what becomes part of a cell's name, and what a quick look is worth."""

import json
from pathlib import Path

import pytest
from diffbench.harness.commands import settings
from diffbench.harness.commands.settings import find_organisms, named_organism, run_file
from diffbench.methods.contract import Budget
from diffbench.organisms.errors import UsageError

from .test_cli import bench, short  # noqa: F401


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--layer", "5"], 2, "taboo/gold-narrow has blocks 0 to 4"),
        (["--layer", "-1"], 2, "greater than or equal to 0"),
        (["--tokens", "99"], 2, "greater than or equal to 100"),
        (["--limit", "0"], 2, "greater than or equal to 1"),
        (["--dtype", "fp16"], 2, "'float32', 'bfloat16' or 'float16'"),
        (["--device", "gpu"], 2, "did you mean cuda? use cpu, cuda, cuda:N or mps"),
        (["--device", "GPU:0"], 2, "did you mean cuda?"),
        (["--device", "cpus"], 2, "did you mean cpu?"),
        (["--device", "cuda:99"], 3, "CUDA device"),
        (["--device-map", "bogus"], 2, "option device_map: use auto, balanced"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_options_that_mean_nothing_here_are_refused_before_anything_runs(
    tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    assert message in bench("run", "-m", "random", "-o", "taboo", *options, code=code)
    assert not list(tmp_path.rglob("result.json"))


def test_a_layer_that_one_of_several_organisms_lacks_is_said_with_its_name(own: str) -> None:
    assert "user-llama has blocks 0 to 2" in bench("run", "-m", "random", "-o", f"taboo,{own}", "--layer", "3", code=2)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A YAML card of a pair with three blocks."""
    from .conftest import save_pair

    save_pair(tmp_path, "llama")
    (tmp_path / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: behaviour.json\n")
    return "own.yaml"


@pytest.mark.slow
def test_what_changes_a_number_is_in_the_identity_and_the_same_in_a_config_file(tmp_path: Path) -> None:
    def identity(*arguments: str) -> dict[str, object]:
        return json.loads(bench("run", "-m", "random", "-o", "taboo", *arguments, "--json"))["identity"]

    whole = identity()
    some = identity("--layer", "1", "--tokens", "500", "--limit", "9", "--dtype", "bfloat16")
    changed = {k: some.get(k) for k in some if some[k] != whole.get(k)}
    assert {k: v for k, v in changed.items() if k != "prompts_sha256"} == {
        "layer": 1,
        "budget": {"tokens": 500, "seconds": 600},
        "limit": 9,
        "dtype": "bfloat16",
    }
    (tmp_path / "run.yaml").write_text("layer: 1\ntokens: 500\nlimit: 9\ndtype: bfloat16\n")
    assert identity("--config", "run.yaml") == some


def test_help_tells_the_budget_that_is_used() -> None:
    assert f"[default: {Budget().tokens}]" in bench("run", "--help")


@pytest.mark.slow
def test_a_partial_result_says_so_and_is_in_no_table_and_in_no_pack() -> None:
    assert "partial: the first 9 prompts of each split" in bench("run", "-m", "random", "-o", "taboo", "--limit", "9")
    assert "partial" not in bench("run", "-m", "random,oracle", "-o", "taboo")
    line = next(r for r in json.loads(bench("results", "list", "--json")) if r["limit"])
    assert line["limit"] == 9 and "first 9 prompts" in bench("results", "list")
    assert "partial: 9 prompts a split" in bench("results", "show", line["folder"])
    bench("leaderboard", "build")
    assert "a partial result (9 prompts a split" in Path("leaderboard-out/leaderboard.md").read_text()
    assert "which is not published" in bench("results", "pack", code=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"seed: 2024-01-01", "option seed"),
        (b"2024-01-01: 1", "no run option '2024-01-01'"),
        (b"seed: \xff\xfe", "not UTF-8"),
        (b"a: &a [x, x]\nseed: *a", "write the value out"),
        (b"seed: " + b"[" * 5000, "nested too deeply"),
        (b"seed: !!int x", "not what its tag says"),
        (b"seed: !!timestamp x", "not what its tag says"),
        (b"seed: !!python/object/apply:os.getpid []", "is not YAML"),
        (b"[seed]: 1", "is not YAML"),
    ],
    ids=lambda v: str(v)[:24],
)
def test_a_config_file_that_is_no_plain_text_of_options_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "run.yaml").write_bytes(text)
    assert message in bench("run", "-m", "random", "-o", "taboo", "--config", "run.yaml", code=2)


@pytest.mark.slow
def test_a_date_in_a_config_file_is_the_text_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("out: 2024-01-01\nmethod: random\norganism: taboo\nlimit: 9\n")
    bench("run", "--config", "run.yaml")
    assert list((tmp_path / "2024-01-01").rglob("result.json"))


@pytest.mark.parametrize(
    ("given", "layers"), [(None, []), ((3, 1), [3, 1]), (range(2, 4), [2, 3]), ("2,3", [2, 3]), (4, [4])], ids=str
)
def test_no_layer_is_the_organisms_and_several_are_given_as_python_has_them(given: object, layers: list[int]) -> None:
    assert run_file({"layer": given}).layer == layers


@pytest.mark.parametrize("given", [True, [1, False]])
@pytest.mark.parametrize("option", ["layer", "seed"])
def test_a_truth_value_is_no_number(option: str, given: object) -> None:
    with pytest.raises(UsageError, match=f"option {option}: give numbers, not true or false"):
        run_file({option: given})


HUB = "hub/taboo-moon-qwen25-7b"


def test_options_of_a_public_organism_reach_it_beside_a_record_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[tuple[object, ...]]()
    monkeypatch.setattr(settings, "hub_organism", lambda *given: asked.append(given))
    options = dict.fromkeys(("base", "adapter", "on", "tuned", "behaviour", "texts"))
    named_organism(HUB, options | {"texts": Path("t.yaml")}, True)
    assert asked == [(HUB, Path("t.yaml"), True)]
    with pytest.raises(UsageError, match=f"--base is not for -o {HUB}"):
        named_organism(HUB, options | {"base": "b"}, False)
    with pytest.raises(UsageError, match="--texts is not for -o taboo/gold-narrow"):
        named_organism("taboo/gold-narrow", options | {"texts": Path("t.yaml")}, False)
    with pytest.raises(UsageError, match="--allow-other-base is not for -o taboo/gold-narrow"):
        named_organism("taboo/gold-narrow", options, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"organism": HUB, "tier": "small"}, f"{HUB} is a public organism of tier hub and --tier says small"),
        ({"organism": "core-hub-v2", "tier": "tiny"}, "is a public organism of tier hub and --tier says tiny"),
        ({"organism": f"{HUB},taboo/gold-narrow", "texts": "t.yaml"}, "taboo/gold-narrow has texts of its own"),
    ],
)
def test_what_does_not_go_with_a_public_organism_is_refused_with_its_cause(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_organisms(run_file(given), {})
