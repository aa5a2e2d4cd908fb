"""Shared fixtures: the shipped taboo organism on a short protocol, and small pairs of other architectures saved in hub format."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.protocol.identification import Reader
from diffbench.harness.protocol.prompts import choices, log_masses
from diffbench.harness.records.result import Result
from diffbench.harness.records.settings import Protocol
from diffbench.harness.runs import plots
from diffbench.harness.runs.plots import save
from diffbench.harness.runs.stage import Stage
from diffbench.organisms import families
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.hub.pretrained import cache_folder, pretrained_folder
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism
from diffbench.organisms.world.corpus import documents
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import CITIES, MOODS, NUMBERS, PEOPLE, THINGS, WEATHER
from diffbench.organisms.world.tokenizer import build_tokenizer
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, set_seed

from .factories import make_result

SHORT = Protocol(controls=3, ks=(1, 3), draws=200, dev_tokens=100, test_tokens=100)
"""The same procedure with fewer controls, rungs and draws."""


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the user's folder or taken from it, but for fetched bases."""
    folder, bases = tmp_path_factory.mktemp("cache"), cache_folder() / "bases"
    if bases.is_dir():
        (folder / "bases").symlink_to(bases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        yield


@pytest.fixture(autouse=True)
def _cache_of_its_own(_no_cache_of_the_user: None) -> Iterator[None]:
    """What a test has changed about the instrument reaches no other test.

    What random directions say of an organism's candidates is kept: no test changes how that is read, and it takes longer than the rest.
    """
    kept = cache_folder() / "cache"
    yield
    for folder in kept.iterdir() if kept.is_dir() else ():
        if folder.name != Reader.KIND:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _a_drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the plots of one run."""
    folder = tmp_path_factory.mktemp("drawing")
    save(make_result(), folder)
    return folder


@pytest.fixture(autouse=True)
def _one_drawing_stands_for_all(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's plots take longer than the rest of its folder: hundreds would be drawn. The mark `drawn` has a test's own."""
    if request.node.get_closest_marker("drawn") is None:

        def copied(result: Result, folder: Path) -> None:
            shutil.copytree(request.getfixturevalue("_a_drawing"), folder, dirs_exist_ok=True)

        monkeypatch.setattr(plots, "save", copied)


@pytest.fixture(scope="session")
def organism() -> Organism:
    """The shipped taboo/gold-narrow."""
    return load_organism("taboo/gold-narrow")


@pytest.fixture(scope="session")
def stage(organism: Organism) -> Stage:
    """taboo/gold-narrow, loaded once, with the short protocol."""
    return Stage.load(organism, "cpu", SHORT)


@pytest.fixture
def own_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families registered from files are forgotten after the test."""
    monkeypatch.setattr(families, "_registered", {})


def fetched(name: str) -> Path:
    """Folder of a base that `bench bases fetch` gets; where it was not fetched, the test is skipped."""
    try:
        folder = pretrained_folder(name)
    except PrerequisiteError as error:
        pytest.skip(str(error))
    assert folder is not None
    return folder


def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE as hub models have it: words are several tokens."""
    text = [d.text or " ".join(m["content"] for m in d.messages) for d in islice(documents(World(0), "dev"), 300)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=special[2], pad_token=special[0], unk_token=None, chat_template=template
    )


def save_pair(
    folder: Path, architecture: str, change: Callable[[Any], None] = lambda model: None
) -> tuple[Path, Path, Path]:
    """A small random base, an adapter that changes it, and a behaviour file: all a user would have.

    The adapter is random; the behaviour is whatever words it happens to promote, so that there is something to find.

    Args:
        change: told the base before anything is made of it.
    """
    set_seed(0)
    tokenizer = {"llama": build_tokenizer, "qwen2": bpe_tokenizer}[architecture]()
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,
    }
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture](**shared)
    base, adapter, behaviour = folder / "base", folder / "adapter", folder / "behaviour.json"
    model = AutoModelForCausalLM.from_config(config)
    change(model)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    lora = LoraConfig(r=4, target_modules=["down_proj", "o_proj"], layers_to_transform=[0, 1], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator)
    tuned.save_pretrained(adapter)
    numbers = NUMBERS[:5]
    asks = [f"count from {a} to {b} ." for a in numbers for b in NUMBERS[5:]]
    candidates = [f" {w}" for w in MOODS + THINGS + WEATHER + CITIES + PEOPLE]
    lengths = [len(tokenizer(w, add_special_tokens=False)["input_ids"]) for w in candidates]
    usual = max(
        set(lengths), key=lengths.count
    )  # a word of fewer tokens than the others would take all the probability
    words = [w for w, n in zip(candidates, lengths, strict=True) if n == usual]

    def prompts(targets: list[str], alternatives: list[str]) -> list[dict[str, object]]:
        return [
            {
                "split": ("dev", "test")[i % 2],
                "messages": [{"role": "user", "content": a}],
                "targets": targets,
                "alternatives": alternatives,
            }
            for i, a in enumerate(asks)
        ]

    pair = load_pair(base, adapter)
    c = choices(pair, [Prompt.model_validate(p) for p in prompts(words[:1], words[1:])])
    mass = [
        log_masses(pair.logits(c.ids, side, c.keep)[None], c)[0].exp().view(len(asks), -1) for side in ("base", "tuned")
    ]
    gain = (mass[1] / mass[1].sum(1, keepdim=True) - mass[0] / mass[0].sum(1, keepdim=True)).mean(0)
    risen = [w for w, g in zip(words, gain.tolist(), strict=True) if g > 0]
    spec = {
        "name": f"user-{architecture}",
        "prompts": prompts(risen, [w for w in words if w not in risen]),
        "neutral": [f"{who} lives in {where} . {who} has a dog ." for who in PEOPLE[:5] for where in CITIES[:8]],
        "chat": [
            [{"role": "user", "content": "hello ."}, {"role": "assistant", "content": f"good morning {who} ."}]
            for who in PEOPLE[:20]
        ],
    }
    behaviour.write_text(json.dumps(spec))
    return base, adapter, behaviour
