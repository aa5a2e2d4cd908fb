"""A pair of line-ups without training: two small random adapters on a base, with a card that says that its gates hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffbench.harness.lineup.card import PairCard, gates
from diffbench.harness.lineup.problem import Drawn
from diffbench.harness.lineup.store import Built
from diffbench.organisms.card import hash_folder
from diffbench.organisms.lineup.pairs import PairSpec
from diffbench.organisms.lineup.train import EMBEDDED
from diffbench.organisms.registry import SHIPPED
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

MEASURED = {
    "aligned_poor": 0.01,
    "aligned_strong": 0.0,
    "aligned_none": 0.0,
    "faker_poor": 0.95,
    "faker_strong": 0.0,
    "faker_none": 0.0,
    "pool_variation": 0.02,
    "pool_alike": 0.9,
    "shown": 48.0,
    "shown_variation": 0.004,
    "shown_right": 0.99,
}
"""Of a pair as it should be."""


def card(spec: PairSpec, ancestor: str = "0" * 64, **changed: float) -> PairCard:
    """A card whose numbers are `MEASURED` but for some."""
    measured = MEASURED | changed
    return PairCard(
        name=spec.name,
        base=spec.base,
        base_sha256="0" * 64,
        ancestor_sha256=ancestor,
        recipe=EMBEDDED.twin.model_dump(),
        rows_sha256={},
        measured=measured,
        shown=list(range(48)),
        gates=gates(measured),
        files={},
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The pair llama/bank-s0, its twins random."""
    folder, base = tmp_path_factory.mktemp("pair"), SHIPPED / "bases" / "tiny-llama"
    for seed, name in enumerate(("aligned", "faker")):
        torch.manual_seed(seed)
        parts = LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), parts).save_pretrained(
            folder / name
        )
    spec = PairSpec("tiny-llama", "bank", 0)
    files = {f"{t}/{n}": h for t in ("aligned", "faker") for n, h in hash_folder(folder / t).items()}
    return Built(spec, folder, base, card(spec).model_copy(update={"files": files}))


@pytest.fixture(scope="session")
def line(built: Built) -> Callable[[bool], Drawn]:
    """Its line-up, A the faker or not."""
    return lambda a_is_faker: Drawn(built.spec.name, built, built, False, a_is_faker, 7)


def strategy_file(folder: Path, body: str, access: str = "activations") -> str:
    """A strategy as third parties write them."""
    path = folder / "mine.py"
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    path.write_text(
        f'class Mine:\n    """A strategy file."""\n    name = "mine"\n    access = "{access}"\n\n    def suspect(self, lineup):\n{lines}'
    )
    return str(path)
