"""What comes back from disk is what was kept, or nothing: damage, full disks, kills and neighbours cost time, never a number."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness import cache as cache_module
from diffbench.harness.cache import SCRATCH, Cache, Kept
from diffbench.organisms.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from typer.testing import CliRunner

KEY = {"of": {"organism": "a" * 64, "layer": 2}, "rows": "b" * 64}
TENSORS = {"residuals": torch.arange(24.0).view(3, 2, 4), "ids": torch.arange(3)}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def keep(cache: Cache, key: dict[str, Any] = KEY, version: str = "1", size: int = 0) -> Path:
    """Keep something; where it stands."""
    before = set(files(cache))
    tensors = {"residuals": torch.ones(size, dtype=torch.uint8)} if size else TENSORS
    cache.put("residuals", version, key, tensors, {"seconds": 0.1}, "taboo/gold-narrow")
    return next(iter(set(files(cache)) - before), next(iter(before), Path()))


def files(cache: Cache) -> list[Path]:
    return [s.path for s in cache.stored()]


def test_what_was_kept_comes_back_bit_by_bit_as_memory_maps(cache: Cache) -> None:
    odd = {
        "bf16": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(3),
        "turned": torch.arange(6.0).view(2, 3).T,
    }
    cache.put("residuals", "1", KEY, odd, {"a": [0.1, float("inf"), None]})
    entry = cache.get("residuals", "1", KEY)
    assert entry is not None and entry.facts == {"a": [0.1, float("inf"), None]}
    for name, tensor in odd.items():
        kept = entry.tensors[name]
        assert kept.dtype == tensor.dtype and kept.shape == tensor.shape
        assert torch.equal(kept.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    (path,) = files(cache)
    assert str(path) in Path("/proc/self/maps").read_text() or sys.platform != "linux"
    entry.tensors["turned"].zero_()
    again = cache.get("residuals", "1", KEY)
    assert again is not None and torch.equal(again.tensors["turned"], odd["turned"])


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.floats(0, 1), st.integers(0, 7))
def test_a_damaged_file_is_no_answer_and_goes(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: float, bit: int
) -> None:
    """Cut short, a bit turned anywhere, bytes behind the end, or something else altogether."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    whole = keep(cache).read_bytes()
    place = int(at * (len(whole) - 1))
    turned = bytearray(whole)
    turned[place] ^= 1 << bit
    for damaged in (whole[:place], bytes(turned), junk, whole + b"x"):
        (path,) = files(cache)
        path.write_bytes(damaged)
        found = cache.get("residuals", "1", KEY)
        if found is not None:  # a bit of the pair's name, which is for people, or of white space
            assert found.facts == {"seconds": 0.1} and all(torch.equal(found.tensors[n], t) for n, t in TENSORS.items())
        else:
            assert not files(cache)
        keep(cache)


def test_another_version_is_no_answer_and_goes(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(cache, version="1")
    assert cache.get("residuals", "2", KEY) is None and not files(cache)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "FORMAT", "0")
        path = keep(cache)
    assert cache.get("residuals", "1", KEY) is None and not path.exists()


def test_a_file_of_another_key_in_its_place_is_no_answer(cache: Cache) -> None:
    """So that not even a collision of hashes, or a file that was moved, gives another pair's number."""
    mine, other = keep(cache), keep(cache, KEY | {"rows": "c"})
    assert mine != other
    os.replace(other, mine)
    assert cache.get("residuals", "1", KEY) is None and not mine.exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_is_said_once_and_what_is_there_is_still_read(
    cache: Cache, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep(cache)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "save_file", lambda *_: (_ for _ in ()).throw(error))
        keep(cache, KEY | {"rows": "c"})
        keep(cache, KEY | {"rows": "d"})
    assert cache.trouble is not None and "No space left" in cache.trouble and "bench cache clear" in cache.trouble
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert cache.get("residuals", "1", KEY) is not None
    assert sorted(p.name for p in cache.folder.rglob("*") if p.is_file()) == [files(cache)[0].name], (
        "no scratch is left"
    )


def test_room_is_left_for_what_the_run_writes(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": cache_module.FREE_BYTES - 1}))
    keep(cache)
    assert not files(cache) and cache.trouble is not None and "less than 1 GB is free" in cache.trouble


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    keep(cache)
    assert cache.trouble is not None and cache.get("residuals", "1", KEY) is None and not files(cache)


def test_the_least_recently_used_go_first_and_the_bound_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=50_000)
    paths = [keep(cache, KEY | {"rows": str(i)}, size=10_000) for i in range(4)]
    for age, path in enumerate(paths):
        os.utime(path, (time.time() - 100 + age,) * 2)
    assert cache.get("residuals", "1", KEY | {"rows": "0"}) is not None
    keep(cache, KEY | {"rows": "4"}, size=10_000)
    assert [p.exists() for p in paths] == [True, False, True, True]
    assert sum(s.bytes for s in cache.stored()) <= 50_000
    keep(cache, KEY | {"rows": "huge"}, size=30_000)
    assert len(files(cache)) == 4, "one thing does not push out all others"


def test_a_size_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for given_size in ("ten", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("BENCH_CACHE_GB", given_size)
        with pytest.raises(UsageError, match="BENCH_CACHE_GB is"):
            Cache.of_user()
    monkeypatch.setenv("BENCH_CACHE_GB", "0.5")
    assert Cache.of_user().most_bytes == 500_000_000


NEIGHBOURS = """
import multiprocessing, sys, torch
from pathlib import Path
from diffbench.harness.cache import Cache

folder, room, fork = Path(sys.argv[1]), int(sys.argv[2]), multiprocessing.get_context("fork")

def write(rounds, busy):
    cache = Cache(folder, room)
    for i in range(rounds):
        key = {"of": {"organism": "a"}, "rows": i % 40}
        found = cache.get("residuals", "1", key)
        assert found is None or bool((found.tensors["x"] == i % 40).all())
        cache.put("residuals", "1", key, {"x": torch.full((2000,), float(i % 40))}, i % 40)
        if i == 40:
            busy.set()
    assert cache.trouble is None, cache.trouble

busy = [fork.Event() for _ in range(3)]
killed, *two = [fork.Process(target=write, args=(n, e)) for n, e in zip((10**9, 200, 200), busy)]
for p in (killed, *two):
    p.start()
assert busy[0].wait(60)
killed.kill()
for p in (killed, *two):
    p.join(60)
assert [p.exitcode for p in two] == [0, 0]
"""
"""Processes that keep 40 things in a folder too small for them, again and again; forked in a process that has no threads yet."""


def test_two_processes_fill_one_cache_and_a_third_that_is_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Each reads what the others replace and remove."""
    room = 20 * 9_000
    command = [sys.executable, "-c", NEIGHBOURS, str(tmp_path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    cache = Cache(tmp_path, room)
    assert 0 < sum(s.bytes for s in cache.stored()) <= room * 1.1
    for i in range(40):
        found = cache.get("residuals", "1", {"of": {"organism": "a"}, "rows": i})
        assert found is None or (found.facts == i and bool((found.tensors["x"] == i).all()))


def test_an_entry_that_another_process_removes_while_it_is_opened_is_not_there(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*given: Any, **options: Any) -> None:
        raise RuntimeError("unable to open file <x.safetensors> in read-only mode: No such file or directory (2)")

    keep(cache)
    monkeypatch.setattr("diffbench.harness.cache.safe_open", gone)
    assert cache.get("residuals", "1", KEY) is None and [s.about() for s in cache.stored()] == [("", "")]
    monkeypatch.undo()
    assert cache.get("residuals", "1", KEY) is not None


def test_scratch_of_a_killed_writer_goes_when_it_is_old(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=10_000)
    keep(cache)
    old, young = (tmp_path / "residuals" / f"{SCRATCH}{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    keep(cache, KEY | {"rows": "c"})
    assert (old.exists(), young.exists()) == (False, True)


def test_every_ingredient_of_a_key_is_another_entry(cache: Cache) -> None:
    kept = Kept(cache, "taboo", {"organism": "a", "layer": 2})
    kept.put("residuals", "1", TENSORS, rows="r")
    assert kept.get("residuals", "1", rows="r") is not None
    others = [kept.but(layer=3), kept.but(organism="b"), kept.but(prompts="p")]
    assert not any(other.get("residuals", "1", rows="r") for other in others)
    assert kept.get("residuals", "1", rows="s") is None and kept.get("controls", "1", rows="r") is None


def bench(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["cache", *words], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_the_command_shows_what_is_kept_of_which_pair_and_removes_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert bench("show")[0] == 0
    cache = Cache.of_user()
    for kind, pair, sha in (("residuals", "taboo", "a"), ("residuals", "planted", "b"), ("controls", "planted", "b")):
        for i in range(2):
            cache.put(kind, "1", {"of": {"organism": sha * 64}, "i": i}, TENSORS, pair=pair)
    broken = cache.folder / "residuals" / "broken.safetensors"
    broken.write_bytes(b"half")
    os.utime(broken, (time.time() - 10 * 86_400,) * 2)
    told = json.loads(bench("show", "--json")[1])
    rows = [(k["pair"], k["kind"], k["entries"]) for k in told["kept"]]
    assert rows == [
        ("", "residuals", 1),
        ("planted", "controls", 2),
        ("planted", "residuals", 2),
        ("taboo", "residuals", 2),
    ]
    shown = bench("show")[1]
    assert "unreadable" in shown and "10 d ago" in shown and "at most 10 GB" in shown
    assert bench("clear")[0] == bench("clear", "--all", "--kind", "controls")[0] == 2
    assert "removed 2 entries" in bench("clear", "--pair", "planted", "--kind", "residuals")[1]
    assert "removed 1 entries" in bench("clear", "--older-than", "1")[1]
    assert "removed 2 entries" in bench("clear", "--pair", "aaaaaa")[1]
    assert "removed 2 entries" in bench("clear", "--all")[1] and not list(cache.stored())
