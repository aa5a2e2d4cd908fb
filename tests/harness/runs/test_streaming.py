"""A cell that streams: within its budget, killed and resumed with the same findings, and with sources that its record names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.records.reading import prompts_sha256, text_read
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.coder import checkpoint
from diffbench.methods.contract import Budget, DiffResult
from diffbench.methods.registry import load_method
from diffbench.organisms.hub.user_pair import UserPair, user_organism
from diffbench.organisms.organism import Organism

from ...conftest import save_pair

METHOD = load_method("batch_topk")
CONFIG = METHOD.configure(
    {"memory_bytes": 2**20, "stream": True, "steps": 60, "batch": 128, "expansion": 2, "patching_tokens": 0}
)
TOKENS = 5000


class Killed(BaseException):
    pass


def test_a_method_killed_twice_finds_the_same(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)

    def found(scratch: str, killed_at: int | None = None) -> tuple[DiffResult, Problem]:
        def progress(phase: str, done: int, total: int) -> None:
            if phase == "fit" and done == killed_at:
                raise Killed

        budget = Budget(tokens=TOKENS)
        p = Problem(stage.pair, stage.texts, [], METHOD.access, 0, budget, progress, tmp_path / scratch)
        return METHOD.run(CONFIG, p), p

    straight, whole = found("straight")
    for step in (20, 40):
        with pytest.raises(Killed):
            found("killed", step)
    again, resumed = found("killed")
    for one, other in zip(straight.findings, again.findings, strict=True):
        assert torch.equal(one.direction, other.direction) and one.score == other.score
    read = straight.diagnostics["harvest_tokens"]
    assert read == again.diagnostics["harvest_tokens"] and set(read) == {"neutral", "chat"}
    assert whole.tokens_used == resumed.tokens_used == sum(read.values()) <= TOKENS


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A pair of one's own whose texts a file names."""
    base, adapter, behaviour = save_pair(tmp_path / "pair", "qwen2")
    words = ["count from one to two", "say the word again", "the gold is old", "and the silver is new"]

    def made(repeats: int = 60, **kinds: Any) -> Organism:
        rows = [{"text": f"{words[i % 4]} {i} " * 3} for i in range(repeats)]
        (tmp_path / "plain.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        texts = tmp_path / "texts.yaml"
        texts.write_text(json.dumps(kinds or {"neutral": [{"path": "plain.jsonl", "licence": "CC0"}]}))
        pair = UserPair(base=str(base), adapter=str(adapter), behaviour=str(behaviour), texts=str(texts))
        return user_organism(pair)

    return made


def test_the_record_names_the_sources_and_what_they_gave(own: Any) -> None:
    organism = own()
    pair = load_pair(organism.pair, layer=organism.layer)
    p = Problem(pair, organism.make_texts(pair.tokenizer), [], "activations", 0, Budget(tokens=50_000))
    given = sum(len(batch.ids) for batch in p.activations("neutral", tokens=20_000))
    text = text_read(p.ended, p.losses, pair.tokenizer)
    (source,) = text.sources
    assert (source.name, source.licence, source.kind, source.rows) == ("plain.jsonl", "CC0", "neutral", 60)
    assert source.revision.startswith("sha256:")
    assert "Read 60 rows of plain.jsonl (neutral, licence CC0)." in text.sentences
    assert f"Asked for 20,000 tokens of neutral text, the texts hold {given:,}." in text.sentences


def test_what_the_sources_hold_is_in_the_identity(own: Any) -> None:
    hashes = {prompts_sha256(own()), prompts_sha256(own(61))}
    assert len(hashes) == 2 and prompts_sha256(own()) in hashes
    assert prompts_sha256(own(neutral=[{"path": "plain.jsonl", "licence": "MIT"}])) not in hashes
