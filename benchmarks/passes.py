"""What measuring and scoring a pair costs, and reading it: seconds and memory of the passes alone, with nothing kept from before.

    python -m benchmarks.passes --organism taboo/gold-narrow            # with the controls that it ships, if it does
    python -m benchmarks.passes --wide                                  # a Llama of 4 blocks with a vocabulary of 65,536, made here
    python -m benchmarks.passes --base smollm2-135m --adapter eiffel/adapter --behaviour eiffel/behaviour.json
    python -m benchmarks.passes --harvest --base … --adapter … --behaviour …   # both sides against two whole transformers models

Each command is one process, so its peak of memory is its own.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.sides import SIDES
from diffbench.harness.records.settings import PROTOCOL_V2, NotScorable
from diffbench.harness.runs.cell import peak_rss_bytes
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate
from diffbench.organisms.hub.user_pair import UserPair, user_organism
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism

from .records import interleaved

VOCABULARY, PROMPTS = 65_536, 40


def wide(folder: Path) -> UserPair:
    """A Llama of 4 blocks and 65,536 tokens, a LoRA adapter, and prompts on which the two differ most."""
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {"<unk>": 0, "<pad>": 1} | {f"w{i}": i for i in range(2, VOCABULARY)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>").save_pretrained(
        folder / "base"
    )
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    base: Any = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.2, **size))
    base.save_pretrained(folder / "base")
    words = torch.randint(2, VOCABULARY, (200, 24))
    with torch.inference_mode():
        before = base(input_ids=words[:PROMPTS]).logits[:, -1].argmax(-1)
    tuned: Any = get_peft_model(base, LoraConfig(r=4, target_modules=["down_proj", "q_proj"], task_type="CAUSAL_LM"))
    for name, weight in tuned.named_parameters():
        if "lora_" in name and any(f"layers.{i}." in name for i in range(3)):
            weight.data += 0.3 * torch.randn(weight.shape)
    with torch.inference_mode():
        after = tuned(input_ids=words[:PROMPTS]).logits[:, -1].argmax(-1)
    tuned.save_pretrained(folder / "adapter")

    def said(row: torch.Tensor) -> str:
        return " ".join(f"w{i}" for i in row.tolist())

    prompts = [
        {"split": "dev" if i % 3 == 0 else "test", "text": said(row), "targets": [f" w{b}"], "alternatives": [f" w{a}"]}
        for i, (row, a, b) in enumerate(zip(words, before.tolist(), after.tolist(), strict=False))
        if a != b
    ]
    neutral = [said(row) for row in words[PROMPTS:]]
    file = folder / "behaviour.json"
    file.write_text(json.dumps({"name": "wide", "layer": 2, "prompts": prompts, "neutral": neutral}))
    return UserPair(base=str(folder / "base"), adapter=str(folder / "adapter"), behaviour=str(file))


def measure(organism: Organism) -> dict[str, Any]:
    """Of loading, of measuring the pair and its constant controls, and of scoring ten random directions everywhere and under gates that
    are open on a tenth of the tokens: seconds, positions run through the blocks above the layer, and peak memory after each."""
    found: dict[str, Any] = {}
    ran, whole = [0], Pair.ends

    def counted(pair: Pair, residual: torch.Tensor, *given: Any, **more: Any) -> torch.Tensor:
        ran[0] += residual.shape[0] * residual.shape[1]
        return whole(pair, residual, *given, **more)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin, ran[0] = time.perf_counter(), 0
        done = work()
        found[name] = {
            "seconds": round(time.perf_counter() - begin, 1),
            "positions": ran[0],
            "peak_mib": peak_rss_bytes() // 2**20,
        }
        return done

    Pair.ends = counted
    stage = timed("load", lambda: Stage.load(organism, protocol=PROTOCOL_V2))
    try:
        scorer = timed("pair", lambda: stage.scorer)
    except NotScorable as error:
        return found | {"not_scorable": str(error)}
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(10, stage.pair.d_model, generator=g)
    h = scorer.clean_run("base", "dev").read.ordinary().cpu()
    gates = [Gate(d, float((h @ d).quantile(0.9))) for d in rows]
    timed("controls", lambda: scorer.controls.measure(scorer.ks(len(rows)), lambda done, total: None))
    timed("constant", lambda: scorer.score(scorer.directions([Finding(d) for d in rows])))
    timed("gated", lambda: scorer.score(scorer.directions([Finding(d, g) for d, g in zip(rows, gates, strict=True)])))
    return found


def harvest(organism: Organism, repetitions: int) -> dict[str, Any]:
    """Both sides' residuals at the hooked layer, by us and by whole forwards of two models of transformers, interleaved."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    stage = Stage.load(organism)
    source = organism.pair
    rows = [row for row, _ in zip(stage.texts.rows("neutral", "harvest"), range(32), strict=False)]
    ids, mask = stage.pair.pad(sorted(rows, key=len))
    dtype = stage.pair.dtype
    copies: list[Any] = [AutoModelForCausalLM.from_pretrained(source.base, dtype=dtype).eval() for _ in SIDES]
    copies[1] = PeftModel.from_pretrained(copies[1], str(source.adapter)).merge_and_unload()

    @torch.inference_mode()
    def peer() -> list[torch.Tensor]:
        return [
            m(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[stage.pair.layer + 1]
            for m in copies
        ]

    def ours() -> list[torch.Tensor]:
        return [stage.pair.residuals(ids, side) for side in SIDES]

    far = max(float((a - b)[mask].abs().max() / b[mask].abs().max()) for a, b in zip(ours(), peer(), strict=True))
    times = interleaved({"ours": ours, "two transformers models": peer}, repetitions, int(mask.sum()))
    ratio = times["two transformers models"].median_ms / times["ours"].median_ms
    return {"times_ms_a_token": {k: v.model_dump() for k, v in times.items()}, "ratio": ratio, "difference": far}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--harvest", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    for name in ("organism", "base", "adapter", "behaviour"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.organism:
            organism = load_organism(given.organism)
        elif given.wide:
            organism = user_organism(wide(Path(folder)))
        else:
            organism = user_organism(UserPair(base=given.base, adapter=given.adapter, behaviour=given.behaviour))
        found = harvest(organism, given.repetitions) if given.harvest else measure(organism)
    sys.stdout.write(
        json.dumps(found | {"threads": torch.get_num_threads(), "torch": torch.__version__}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
