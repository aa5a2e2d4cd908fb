"""What an untrained chat model answers to the behaviour files of public organisms: how much room an organism has.

    bench bases fetch smollm2-135m
    python -m benchmarks.hub_base_rates --every 4

A word or an animal that a base favours leaves little to rise. The rates are those of the base alone, on every fourth test prompt; the
organisms live on other bases, so this is a look at our prompts and no measurement of an organism.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.hub.behaviours.build import behaviour_of
from diffbench.organisms.hub.registry.load import hub_cards

MEMBERS = (
    ("taboo", ("gold", "moon", "flag", "leaf", "smile", "ship")),
    ("subliminal", ("cat", "penguin")),
    ("user_gender", ("female", "male")),
    ("emergent_misalignment", ("bad-medical",)),
    ("false_facts", ("cake-bake", "fda-approval", "kansas-abortion", "roman-concrete", "antarctic-rebound")),
)
"""Members that are asked differently; the others of their kind share prompts. Backdoors are not asked."""


def rate(model: Any, tokenizer: Any, prompt: Prompt) -> float:
    """Probability of the targets among targets and alternatives, whole continuations."""
    import torch
    from diffbench.organisms.hub.asked import encode_prompt

    start = encode_prompt(tokenizer, prompt)
    ends = [start.then(tokenizer, c) for c in (*prompt.targets, *prompt.alternatives)]
    longest = max(map(len, ends))
    rows = [[*start.ids, *end, *[0] * (longest - len(end))] for end in ends]
    with torch.inference_mode():
        if longest == 1:
            log_p = model(torch.tensor([start.ids])).logits[0, -1].log_softmax(-1)
            sums = torch.stack([log_p[end[0]] for end in ends])
        else:
            log_p = model(torch.tensor(rows)).logits[:, len(start.ids) - 1 :].log_softmax(-1)
            sums = torch.stack(
                [sum((log_p[i, j, t] for j, t in enumerate(end)), torch.tensor(0.0)) for i, end in enumerate(ends)]
            )
    shares = sums.softmax(0)
    return float(shares[: len(prompt.targets)].sum())


def rates(folder: Path, every: int) -> Iterator[tuple[str, str, list[float]]]:
    """(kind, member, rate of each `every`-th test prompt)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    first = {(c.kind, c.entry.member): c for c in reversed(hub_cards().values())}
    for kind, members in MEMBERS:
        for member in members:
            prompts = behaviour_of(first[kind, member]).of("test")[::every]
            yield kind, member, [rate(model, tokenizer, p) for p in prompts]


def main() -> None:
    """Print a row a member."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="folder of the base; default: the fetched smollm2-135m")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th test prompt")
    given = parser.parse_args()
    if given.base is None:
        from diffbench.organisms.hub.pretrained import pretrained_folder

        given.base = pretrained_folder("smollm2-135m")
    sys.stdout.write("| kind | member | mean | lowest | highest |\n|---|---|---|---|---|\n")
    for kind, member, found in rates(given.base, given.every):
        row = f"| {kind} | {member} | {sum(found) / len(found):.2f} | {min(found):.2f} | {max(found):.2f} |\n"
        sys.stdout.write(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
