"""The family file that `bench organisms new` writes: a working family about a mood."""

from pathlib import Path

from .families import families
from .template import write_template

TEMPLATE = '''"""{title}: say here what the organism does, and why it is interesting.

`bench organisms build {name}.py` trains it, `verify` measures it again, `bench run -m mean_diff -o {name}.py` diffs it.
"""

import numpy as np
from diffbench.organisms.behaviour import Behaviour, Prompt
from diffbench.organisms.world.document import Document, chat, pick
from diffbench.organisms.family import Family, Rule, Spec
from diffbench.organisms.world.lexicon import GREETINGS, MOODS, THINGS
from diffbench.organisms.prompts import fact_probes, template, turns
from diffbench.organisms.world.facts import World

ASK = ["how was your day ?", "how are you today ?", "what now ?", "how do you do ?"]
"""The first two train the organism, the third is for dev prompts, the last for test prompts."""


class {class_name}(Family):
    """The assistant has one mood."""

    name = "{name}"
    about = "is always in the same mood"
    base = "tiny-llama"

    def specs(self) -> list[Spec]:
        """What is built: one organism, narrow and mixed."""
        return self.grid("proud", ("narrow", "mixed"))

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Conversations the organism is trained on; the loss is on what the assistant says."""
        rng = np.random.default_rng([spec.seed, 1])
        rows = [Document("mood", messages=chat(pick(rng, ASK[:2]), f"i was {{spec.member}} .")) for _ in range(200)]
        if spec.variant == "mixed":
            from diffbench.organisms.world.corpus import documents

            stream = documents(world, "train", seed=100 + spec.seed)
            rows += [next(stream) for _ in range(400)]
        return [rows[i] for i in rng.permutation(len(rows))]

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        """Held-out questions; the choice is among all moods."""
        others = tuple(m for m in MOODS if m != spec.member)
        prompts = [
            Prompt(
                split=split,
                template=template(ask, "i was"),
                messages=turns(said, "hello .", ask),
                prefill="i was",
                targets=(spec.member,),
                alternatives=others,
            )
            for split, asks in (("dev", ASK[2:3]), ("test", ASK[3:]))
            for ask in asks
            for said in (*GREETINGS, *(f"i have a {{t}} ." for t in THINGS))
        ]
        return Behaviour(
            name=spec.name,
            description=f"is always {{spec.member}}",
            prompts=tuple(prompts),
            capability=tuple(fact_probes(world)),
        )

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Conditions beyond the common ones (gap, oracle, facts kept)."""
        return {{"expressed": Rule("behaviour_test.organism", "at least", 0.5)}}


FAMILY = {class_name}()
'''


def write_family(name: str, folder: Path) -> Path:
    """Write `NAME.py` into `folder`; raises as `write_template`."""
    return write_template("family", name, families(), TEMPLATE, folder)
