"""What an adapter says of the model it was trained on: its name, and the tokenizer it brings."""

import json
from pathlib import Path

import pytest
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.loading import load_pair
from diffbench.organisms.hub.pretrained import CARD
from diffbench.organisms.hub.sources import PairSource, locate
from diffbench.organisms.hub.tokens import TokenError
from diffbench.organisms.world.tokenizer import build_tokenizer

from .kinds import edit, save_adapter, save_base


@pytest.mark.parametrize(
    ("declared", "given", "accepted"),
    [
        ("google/gemma-2-2b-it", "google/gemma-2-2b-it", True),
        ("unsloth/gemma-2-2b-it", "google/gemma-2-2b-it", True),
        ("google/gemma-2-2b-it", "google/gemma-2-2b-it@main", True),
        ("google/gemma-2-2b-it", "google/gemma-2-2b", False),
        ("google/gemma-2-2b-it", "google/gemma-2-9b-it", False),
        ("/somebody/disk/model", "google/gemma-2-2b", True),
        ("outputs/run/checkpoint-100", "google/gemma-2-2b", True),
        ("C:\\\\models\\\\llama", "google/gemma-2-2b", True),
        ("/home/a/.cache/hub/models--google--gemma-2-2b-it/snapshots/0123", "unsloth/gemma-2-2b-it", True),
        ("google/gemma-2-2b-it", "/cache/models--google--gemma-2-2b-it/snapshots/0123", True),
        ("google/gemma-2-2b-it", "/cache/models--google--gemma-2-2b/snapshots/0123", False),
        ("gpt2", "openai-community/gpt2", True),
        ("gpt2", "openai-community/gpt2-medium", False),
        ("openai-community/gpt2", "/cache/models--gpt2/snapshots/0123", True),
        ("org/several", "org/several/step-100@main", True),
        ("other/step-100", "org/several/step-100", True),
        ("org/one", "org/several/step-100", False),
        (None, "google/gemma-2-2b", True),
    ],
)
def test_the_declared_base_is_compared_with_the_given_one(
    tmp_path: Path, declared: str, given: str, accepted: bool
) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", base_model_name_or_path=declared)
    source = PairSource(base, adapter, base_name=given)
    if accepted:
        assert load_pair(source, layer=2).layer == 2
    else:
        with pytest.raises(
            PairError, match=f"trained on {declared}, and the base given is {given}.*--allow-other-base"
        ):
            load_pair(source, layer=2)
        allowed = PairSource(base, adapter, base_name=given, allow_other_base=True)
        assert load_pair(allowed, layer=2).layer == 2


@pytest.mark.parametrize(
    ("declared", "accepted"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("unsloth/smollm2-135m-instruct", True),
        ("smollm2-135m", True),
        ("HuggingFaceTB/SmolLM2-135M", False),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", False),
        ("gpt2", False),
        ("/somebody/disk/model", True),
    ],
)
@pytest.mark.parametrize("given", ["smollm2-135m", "", "a-copy-of-it"])
def test_a_fetched_base_goes_by_the_model_it_was_made_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str, declared: str, accepted: bool
) -> None:
    base = save_base(tmp_path / "base")
    (base / CARD).write_text('{"name": "smollm2-135m", "made_from": "HuggingFaceTB/SmolLM2-135M-Instruct"}')
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", base_model_name_or_path=declared)
    source = PairSource(locate(str(base), "model", "base").folder, adapter, base_name=given)
    if accepted:
        assert load_pair(source, layer=2).layer == 2
        assert ("dequantised" in caplog.text) == (declared != "smollm2-135m")
    else:
        with pytest.raises(PairError, match=f"trained on {declared}.*--allow-other-base"):
            load_pair(source, layer=2)


def with_tokenizer(folder: Path, change: dict[str, int]) -> Path:
    """The tokenizer of the embedded tier in a folder, some of its words with other ids."""
    build_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"] |= change
    path.write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.json"])
def test_an_adapter_whose_own_tokenizer_numbers_tokens_otherwise_is_refused(tmp_path: Path, file: str) -> None:
    base = save_base(tmp_path / "base")
    vocab = build_tokenizer().get_vocab()
    one, two = "anna", "gold"
    adapter = save_adapter(tmp_path / "adapter", base)
    if file == "vocab.json":
        (adapter / file).write_text(json.dumps(vocab | {one: vocab[two], two: vocab[one]}))
    else:
        with_tokenizer(adapter, {one: vocab[two], two: vocab[one]})
    view = locate(str(adapter), "adapter", "adapter").folder
    with pytest.raises(
        PairError, match=rf"gives 2 tokens other ids .*first: 'anna' is {vocab[two]} there and {vocab[one]}"
    ):
        load_pair(base, view, 2)


def test_tokens_that_an_adapters_own_tokenizer_adds_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = save_base(tmp_path / "base")
    adapter = with_tokenizer(save_adapter(tmp_path / "adapter", base), {})
    assert load_pair(base, adapter, 2).layer == 2 and "tokenizer" not in caplog.text
    with_tokenizer(adapter, {"<tool>": len(build_tokenizer())})
    view = locate(str(adapter), "adapter", "adapter")
    assert load_pair(base, view.folder, 2).layer == 2 and "1 tokens that the base's lacks ('<tool>')" in caplog.text
    assert "tokenizer.json" in view.files
    (adapter / "tokenizer.json").write_text("{")
    with pytest.raises(TokenError, match="cannot read the tokenizer"):
        load_pair(base, adapter, 2)
