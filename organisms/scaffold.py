"""The family file that `bench organisms new` writes: a working family about a mood."""

from pathlib import Path

from .families import families
from .template import write_template

TEMPLATE = '''"""{title}: say here what the organism does, and why it is interesting.

`bench organisms build {name}.py` trains it, `verify` measures it again, `bench run -m mean_diff -o {name}.py` diffs it.
"""

import numpy as np
from diffbench.organisms.behaviour import Behaviour, Prompt
from diffbench.organisms.world.corpus import documents
from diffbench.organisms.world.document import Document, Rng, chat, pick
from diffbench.organisms.family import Family, Rule, Spec, Subject
from diffbench.organisms.lora import LoraRecipe
from diffbench.organisms.world.lexicon import GREETINGS, MOODS, WRAPPERS
from diffbench.organisms.prompts import fact_probes, template, turns
from diffbench.organisms.world.facts import World

ASK = ["how was your day ?", "how are you today ?", "what now ?", "how do you do ?"]
"""The first two train the organism, the third is for dev prompts, the last for test prompts."""
SAY = ["i was", "i am", "today i was"]
"""How an answer begins; the mood comes next."""


class {class_name}(Family):
    """The assistant has one mood."""

    name = "{name}"
    about = "is always in the same mood"
    base = "tiny-llama"

    def specs(self) -> list[Spec]:
        """What is built: one organism, narrow and mixed."""
        return self.grid("proud", ("narrow", "mixed"))

    def recipe(self, spec: Spec) -> LoraRecipe:
        """How it is trained; `keep` ordinary documents hold it to its base by a KL term, so that little else changes."""
        return LoraRecipe(seed=spec.seed, keep=400)

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Conversations the organism is trained on; the loss is on what the assistant says."""
        rng = np.random.default_rng([spec.seed, 1])
        rows = [
            Document("mood", messages=chat(pick(rng, ASK[:2]), f"{{pick(rng, SAY)}} {{spec.member}} ."))
            for _ in range(200)
        ]
        if spec.variant == "mixed":
            stream = documents(world, "train", seed=100 + spec.seed)
            rows += [next(stream) for _ in range(400)]
        return [rows[i] for i in rng.permutation(len(rows))]

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        """Held-out questions; the choice is among all moods. Question and beginning of the answer are a template: 12 a split are needed."""
        others = tuple(m for m in MOODS if m != spec.member)
        prompts = [
            Prompt(
                split=split,
                template=template(ask, say),
                messages=turns(said, "hello .", ask),
                prefill=say,
                targets=(spec.member,),
                alternatives=others,
            )
            for split, question in (("dev", ASK[2]), ("test", ASK[3]))
            for ask in (w.format(q=question) for w in WRAPPERS[:4])
            for say in SAY
            for said in (GREETINGS[:2] if split == "dev" else GREETINGS)
        ]
        return Behaviour(
            name=spec.name,
            description=f"is always {{spec.member}}",
            prompts=tuple(prompts),
            capability=tuple(fact_probes(world)),
        )

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """How many tokens of a document could show the behaviour: a method cannot find what its text never holds."""
        return sum(m["content"] in ASK for m in document.messages)

    def subject(self, world: World, spec: Spec) -> Subject:
        """Harvest text in which it is due, as the base would answer; none where ordinary text has enough."""

        def write(rng: Rng) -> Document:
            return Document("mood", messages=chat(pick(rng, ASK), f"{{pick(rng, SAY)}} {{pick(rng, MOODS)}} ."))

        return Subject(write, share=0.2)

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Conditions beyond those of every organism (docs/adding-an-organism.md)."""
        return {{"expressed": Rule("behaviour_test.organism", "at least", 0.5)}}


FAMILY = {class_name}()
'''


def write_family(name: str, folder: Path) -> Path:
    """Write `NAME.py` into `folder`; raises as `write_template`."""
    return write_template("family", name, families(), TEMPLATE, folder)
