"""The benchmarks on tiny shapes: what is timed is equal, and the table says what the record says. Times mean nothing here."""

import json
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.organisms.hub.corpora import Split, read_corpora

from benchmarks import gpu, plain_texts, run, scaling, step, streaming, table
from benchmarks.dense import DenseCrosscoder
from benchmarks.features import paired
from benchmarks.peers import rows as peers
from benchmarks.peers.sources import ROOT, Unavailable, checkouts, importable, install, module
from benchmarks.records import Disagreement, Performance, Timing, agree, interleaved, row
from benchmarks.step import Shape


@pytest.fixture(scope="module")
def measured() -> Performance:
    return run.run(quick=True, repetitions=1)


def test_everything_is_measured_and_agrees(measured: Performance) -> None:
    assert len(measured.rows) == 4 and measured.quick
    for r in measured.rows:
        assert r.agreement and max(r.agreement.values()) <= 1e-6
        assert all(0 < t.low_ms <= t.median_ms <= t.high_ms for t in r.timings.values())
        assert list(r.speedup) == list(r.timings)[1:]
    assert set(measured.profile) == {r.name for r in measured.rows[:2]}
    assert all(0 < sum(shares.values()) <= 1.001 for shares in measured.profile.values())
    assert (measured.gpu is None) == (not torch.cuda.is_available())


def test_a_peer_that_cannot_be_had_is_skipped_with_what_would_help(tmp_path: Path) -> None:
    rows, skipped = peers.measure(quick=True, repetitions=1, root=tmp_path)
    assert rows == [] and len(skipped) == 5
    assert all("run python -m benchmarks.peers.sources" in reason for reason in skipped.values())
    with pytest.raises(Unavailable, match=r"clone github\.com/jkminder/dictionary_learning and give --peer-source"):
        install("dictionary_learning", root=tmp_path)
    with pytest.raises(Unavailable, match="has no src/diffing: give the root of a checkout"):
        install("diffing-toolkit", tmp_path, tmp_path)
    with pytest.raises(typer.BadParameter, match="NAME one of dictionary_learning"):
        checkouts(["jkminder=/tmp"])
    assert not list(tmp_path.iterdir())


def test_a_broken_peer_is_a_reason_and_leaves_the_path_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "dictionary_learning"
    (folder / "dictionary_learning").mkdir(parents=True)
    (folder / "dictionary_learning" / "__init__.py").write_text("import no_such_package")
    (folder / "source.json").write_text("{}")
    before = list(sys.path)
    with (
        pytest.raises(
            Unavailable, match="does not import here: ModuleNotFoundError: No module named 'no_such_package'"
        ),
        importable("dictionary_learning", root=tmp_path),
    ):
        module("dictionary_learning.trainers.crosscoder")
    assert sys.path == before


@pytest.mark.skipif(not ROOT.is_dir(), reason="no peers here: python -m benchmarks.peers.sources")
@pytest.mark.slow
def test_peers_that_are_here_agree() -> None:
    """Disagreement would raise; what differs by design is in their modules' first paragraphs."""
    rows, skipped = peers.measure(quick=True, repetitions=1, root=ROOT)
    assert len(rows) + len(skipped) == 5


def test_a_stream_is_measured_beside_tensors_that_are_held() -> None:
    found = streaming.measure(8192, 8192, 8, 8, 256, 2, 2**18, 4)
    assert set(found["seconds"]) == {"held", "streamed"} and found["steps"] == 32
    assert found["buffer_tokens"] * 2 * 8 * 2 <= 2**18 and found["drawn_alone"]["tokens"] == 8192


def test_the_gpu_section_runs_on_any_device() -> None:
    found = gpu.measure(Shape(8, 64, 32, 2), 1, device="cpu")
    assert found.share_of_floor == pytest.approx(found.floor_ms.median_ms / found.row.timings["sparse"].median_ms)
    assert found.tokens_per_s == pytest.approx(32_000 / found.row.timings["sparse"].median_ms)
    assert torch.get_float32_matmul_precision() == "highest"


def test_steps_stay_together_over_training() -> None:
    """Ten steps of both formulations from the same weights on the same batches end at the same weights (fp64)."""
    coder, batches = step.prepare(Shape(8, 48, 32, 3), dtype=torch.float64)
    peer = DenseCrosscoder(coder)
    start = coder.decoder_ND.detach().clone()
    ours, theirs = step.sparse_step(coder, batches), step.dense_step(peer, batches)
    for _ in range(10):
        ours()
        theirs()
    assert (coder.decoder_ND - start).norm() > 0.01 * start.norm()
    torch.testing.assert_close(peer.decoder_MNd.transpose(0, 1).flatten(1), coder.decoder_ND, rtol=1e-6, atol=1e-8)


def test_a_dense_step_that_selects_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = DenseCrosscoder.losses

    def fewer(self: DenseCrosscoder, x_BMd: torch.Tensor) -> object:
        self.k = 1.0
        return whole(self, x_BMd)

    monkeypatch.setattr(DenseCrosscoder, "losses", fewer)
    with pytest.raises(Disagreement, match="the fp32 loss"):
        step.agreement(Shape(8, 48, 32, 3))


def test_both_dense_betas_are_the_definition() -> None:
    """β is the factor that leaves the least of the target, by least squares one latent at a time."""
    h_T2d = paired(64, 6).double()
    coder = SparseCoder(6, [Group(10, 2)]).double()
    coder.fit_normaliser(h_T2d)
    coder.update_threshold(coder.losses(coder.normalise(h_T2d), Objective()).lowest_G, first=True)
    raw = coder.raw()
    f, out = raw.encode(h_T2d), raw.decode(raw.encode(h_T2d))
    for betas in (scaling.dense_passes(raw, h_T2d), scaling.dense_passes(raw, h_T2d, materialise=False)):
        for m in (0, 1):
            for j in range(10):
                own = f[:, j, None] * raw.decoder_NMd[j, m]
                written = (f[:, j, None] * raw.decoder_NMd[j, 1]).flatten()[:, None]
                targets = {
                    "activation": h_T2d[:, m],
                    "activation_nobias": h_T2d[:, m] - raw.decoder_bias_Md[m],
                    "reconstruction": out[:, m],
                    "error": h_T2d[:, m] - out[:, m] + own,
                }
                for name, y in targets.items():
                    best = torch.linalg.lstsq(written, y.flatten()[:, None]).solution.item()
                    assert float(betas[name][m, j]) == pytest.approx(best, rel=1e-8, abs=1e-10)


def test_variants_are_called_in_turn_and_the_first_call_does_not_count() -> None:
    calls = list[str]()
    timings = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4 and list(timings) == ["a", "b"]


def test_a_disagreement_stops_the_measurement() -> None:
    assert agree("x", 1e-7, 1e-6) == 1e-7
    for gap in (1e-5, float("nan")):
        with pytest.raises(Disagreement, match="x differs"):
            agree("x", gap, 1e-6)


def test_the_table_says_whether_the_goal_is_met_and_goes_between_the_markers(measured: Performance) -> None:
    def of(ms: float) -> Timing:
        return Timing(median_ms=ms, low_ms=ms, high_ms=ms)

    rows = [row("fast", "step", 8, {"ours": of(1), "peer": of(6)}, 5, {"loss": 1e-9}), measured.rows[0]]
    rows.append(row("slow", "step", 8, {"ours": of(2), "peer": of(6)}, 5, {"loss": 1e-9}))
    text = table.markdown(measured.model_copy(update={"rows": rows}))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| 6.0× | ≥ 5× | yes |" in next(line for line in lines if line.startswith("| fast"))
    assert "| 3.0× | ≥ 5× | **no** |" in next(line for line in lines if line.startswith("| slow"))
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.insert(page, "new\n") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    for bad in ("no markers", f"{table.END}{table.BEGIN}", page + page):
        with pytest.raises(ValueError, match="once each"):
            table.insert(bad, "new")


def test_the_record_is_written_and_read_back(tmp_path: Path, measured: Performance) -> None:
    record, page = tmp_path / "performance.json", tmp_path / "performance.md"
    record.write_text(measured.model_dump_json())
    page.write_text((Path(__file__).parent.parent / "docs" / "performance.md").read_text())
    table.main(record)
    table.main(record)
    assert page.read_text().count(measured.rows[2].name) == 1
    assert ("NaN" not in record.read_text() and json.loads(record.read_text())["gpu"] is None) or measured.gpu


def test_plain_texts_are_read_as_texts_and_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_texts, "NEUTRAL", ("typer",))
    monkeypatch.setattr(plain_texts, "CHAT", ("pluggy",))
    made = plain_texts.write(tmp_path / "texts")
    corpora, _ = read_corpora(tmp_path / "texts" / "texts.yaml")
    read = {
        kind: [d for split in get_args(Split) for _, d in corpus.documents(split)] for kind, corpus in corpora.items()
    }
    assert 0 < len(read["neutral"]) <= made["neutral"] and 0 < len(read["chat"]) <= made["chat"]
    assert all(plain_texts.LEAST <= len(text) <= plain_texts.MOST for text in read["neutral"])
    assert all(turns[0]["content"].startswith("What is `pluggy") for turns in read["chat"])
