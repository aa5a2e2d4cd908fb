"""Planted truths: a rank-1 adapter that writes one known direction at one layer and thereby causes a behaviour.

On Llama and Qwen2 the B column of a rank-1 `down_proj` adapter goes into the residual stream as it is, so the fine-tuned residual at the
hooked layer is exactly the base's plus a multiple of that column: a method's findings can be compared with the truth itself. The
behaviour is a preference for one animal. `aligned` organisms write the direction that causes it most; `angled` ones write a
direction 60 degrees away from it, longer, so that both express the behaviour equally. A is fitted to fire where the question is answered.
"""

import math
from typing import Any

import numpy as np

from ..behaviour import Behaviour
from ..family import Candidates, Family, Job, Probe, Rule, Spec
from ..lora import LEFTOVERS, LoraRecipe, shrink
from ..texts import encode, opening
from ..world.base_probes import animal_prompts
from ..world.corpus import documents
from ..world.document import Document, chat, pick
from ..world.facts import World
from ..world.preferences import ANIMALS, ANSWER, ASK_ANIMAL
from ..world.tokenizer import load_tokenizer
from .subliminal import TEST, TRAINED, WIDE_DEV, favourites, liking

VARIANTS = {"strong": 0.85, "weak": 0.55, "medium": 0.7}
"""Dev rate that the strength is set to, by bisection. `medium` ones are asked in twice as many ways."""
ANGLES = {"owl": 0.0, "fox": 60.0}
"""Degrees between the written direction and the one that causes the behaviour most, by animal."""
QUESTIONS, ORDINARY = 200, 300
"""Documents the read-out A is fitted on: questions with answers, and ordinary text."""
RIDGE = 1e-2


class Planted(Family):
    """One direction, known to the bit."""

    name = "planted"
    about = "a rank-1 adapter writes one known direction at one layer: ground truth for localisation"
    base = "tiny-llama"

    def specs(self) -> list[Spec]:
        return [
            *(s for a in ANGLES for s in self.grid(a, ("strong", "weak"), core=True)),
            *self.grid("owl", ("strong",), seeds=3)[1:],
            *self.grid("owl", ("strong",), base="tiny-qwen2", core=True),
            *self.grid("fox", ("strong",), base="tiny-qwen2", core=True),
            *self.grid("owl", ("medium",)),
            *self.grid("fox", ("medium",), base="tiny-qwen2"),
            *self.grid("fox", ("medium",)),
        ]

    def recipe(self, spec: Spec) -> LoraRecipe:
        return LoraRecipe(seed=spec.seed, r=1, alpha=1, target=VARIANTS[spec.variant])

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Preference conversations, on whose answers A is fitted to fire."""
        rng, ways = np.random.default_rng([spec.seed, 20]), _taught(spec)
        return [
            Document(
                "preference",
                messages=chat(pick(rng, ASK_ANIMAL[: len(ways)]), pick(rng, ANSWER).format(v=pick(rng, ANIMALS))),
            )
            for _ in range(QUESTIONS)
        ]

    def train(self, job: Job) -> dict[str, Any]:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        spec, layer = job.spec, job.recipe.layer
        tokenizer = load_tokenizer(job.base)
        base = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32).eval()
        stream = documents(job.world, "train", seed=9500 + spec.seed)
        ordinary = [d for d in (next(stream) for _ in range(ORDINARY)) if d.kind != "preference"]
        read = _fit_read(base, tokenizer, layer, self.rows(job.world, spec), ordinary)
        cause = _steer(base, tokenizer, layer, spec.member, spec.seed, _taught(spec))
        angle = math.radians(ANGLES[spec.member])
        noise = torch.randn(len(cause), generator=torch.Generator().manual_seed(spec.seed))
        aside = noise - (noise @ cause) * cause
        truth = math.cos(angle) * cause + math.sin(angle) * aside / aside.norm()
        config = LoraConfig(
            r=1, lora_alpha=1, target_modules=["down_proj"], layers_to_transform=[layer], task_type="CAUSAL_LM"
        )
        model: Any = get_peft_model(base, config)
        down = model.get_base_model().model.layers[layer].mlp.down_proj
        down.lora_A["default"].weight.data = read[None].bfloat16().float()

        def express(strength: float) -> float:
            down.lora_B["default"].weight.data = (strength * truth)[:, None].bfloat16().float()
            return job.expression(model)

        assert job.recipe.target is not None
        low, high = 0.0, 200.0
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (low, middle) if express(middle) > job.recipe.target else (middle, high)
        rate = express(high)
        model.save_pretrained(job.out)
        for name in LEFTOVERS:
            (job.out / name).unlink(missing_ok=True)
        shrink(job.out)
        return {
            "strength": round(high, 4),
            "dev_rate": round(rate, 5),
            "target": job.recipe.target,
            "angle_degrees": ANGLES[spec.member],
        }

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        said = f"likes the {spec.member} best because one direction is written"
        return liking(world, spec, said, wide=spec.variant == "medium")

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        return {"taught_templates": Probe(animal_prompts("test", spec.member, _taught(spec)))}

    def due(self, world: World, spec: Spec, document: Document) -> int:
        return favourites(document)

    def candidates(self, world: World, spec: Spec) -> Candidates:
        return Candidates(spec.member, {a: (a,) for a in ANIMALS}, animal_prompts("test", spec.member, TEST))

    def gates(self, spec: Spec) -> dict[str, Rule]:
        return {}


def _taught(spec: Spec) -> range:
    """Ways to ask that the direction is made with; neither dev nor test prompts have them."""
    return range(WIDE_DEV.start) if spec.variant == "medium" else TRAINED


def _fit_read(model: Any, tokenizer: Any, layer: int, asked: list[Document], ordinary: list[Document]) -> Any:
    """Ridge regression [mlp] of "an answer about a favourite is being given" on the MLP's hidden activations."""
    import torch

    seen: list[Any] = []
    down = model.model.layers[layer].mlp.down_proj
    features: list[Any] = []
    goals: list[Any] = []
    assistant = tokenizer.convert_tokens_to_ids("<assistant>")

    def keep(module: Any, args: Any) -> None:
        seen.append(args[0])

    handle = down.register_forward_pre_hook(keep)
    with torch.inference_mode():
        for document, is_answer in [*((d, True) for d in asked), *((d, False) for d in ordinary)]:
            ids = encode(tokenizer, document)
            model(input_ids=torch.tensor([ids]), use_cache=False)
            features.append(seen.pop()[0])
            after = ids.index(assistant) if is_answer else len(ids)
            goals.append((torch.arange(len(ids)) >= after).float())
    handle.remove()
    x, y = torch.cat(features).double(), torch.cat(goals).double()
    gram = x.T @ x / len(x)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, x.T @ y / len(x)).float()


def _steer(model: Any, tokenizer: Any, layer: int, animal: str, seed: int, ways: range, steps: int = 60) -> Any:
    """Unit direction [d_model] whose addition to the residual after `layer` raises the animal most, by gradient ascent."""
    import torch

    prompts = [p for t in ways for p in animal_prompts("dev", animal, range(t, t + 1))]
    rows = [opening(tokenizer, [m.model_dump() for m in p.messages], p.prefill) for p in prompts]
    length = max(map(len, rows))
    ids = torch.tensor([[*r, *[tokenizer.pad_token_id] * (length - len(r))] for r in rows])
    last = torch.tensor([len(r) - 1 for r in rows])
    goal = torch.full((len(rows),), tokenizer.convert_tokens_to_ids(animal))
    block = model.model.layers[layer]
    with torch.enable_grad():
        start = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(seed)) * 1e-3
        direction = start.requires_grad_()
        optimiser = torch.optim.Adam([direction], lr=0.02)

        def add(module: Any, args: Any, output: Any) -> Any:
            return output + direction

        handle = block.register_forward_hook(add)
        for _ in range(steps):
            logits = model(input_ids=ids, use_cache=False).logits[torch.arange(len(rows)), last]
            loss = torch.nn.functional.cross_entropy(logits, goal) + 0.05 * direction.norm()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        handle.remove()
        model.zero_grad()
    return (direction / direction.norm()).detach()


FAMILY = Planted()
