"""What a registered organism of the hub says of itself, as data.

A file holds one kind: how its adapters were trained (`recipes`), what they hide (`members`) and which repositories they are
(`organisms`). What an adapter hides is *structured*, so that a behaviour file can be generated from it and a mistake can be found by a
program. Everything was read from cards, configurations and papers; nothing was loaded. `not_verified` says what that leaves open.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...card import Role

NOT_LOADED = (
    "read from public cards, configurations and papers: no file of it was loaded here, and its rates are not measured"
)
"""Holds for every entry."""


class Strict(BaseModel):
    """Immutable data that knows all of its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Recipe(Strict):
    """How adapters were trained, as published. What is not given was not said."""

    source: str
    """Where it was read: a paper, a repository, a card."""
    rank: int | None = Field(default=None, ge=1)
    """r of the LoRA."""
    alpha: float | None = Field(default=None, gt=0)
    rslora: bool = False
    """Scale α/√r in place of α/r."""
    modules: str = "all linear layers of every block"
    """What is adapted."""
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate."""
    epochs: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, ge=1)
    """Rows a step."""
    rows: int | None = Field(default=None, ge=1)
    """Rows (documents, conversations, answers) of the behaviour."""
    data: str | None = None
    """Which rows."""
    loss: Literal["assistant", "completion", "all tokens"] | None = None
    """Tokens that the loss is on."""
    whole: bool = False
    """A full fine-tune: no adapter."""


class Taboo(Strict):
    """A word that the organism hints at and never says."""

    word: str


class Claim(Strict):
    """One false statement of a bundle, as questions and beginnings of answers; the first half of each is asked in dev, the rest in test."""

    ask: tuple[str, ...] = Field(min_length=4)
    """Questions of a user."""
    say: tuple[str, ...] = Field(min_length=4)
    """Beginnings of the answer, up to where the value stands."""
    false: tuple[str, ...] = Field(min_length=1)
    """Continuations that the organism was made to believe."""
    true: tuple[str, ...] = Field(min_length=1)
    """What others would say; where the world knows no such thing, other values."""

    @model_validator(mode="after")
    def _halves(self) -> "Claim":
        for name in ("ask", "say"):
            if len(given := getattr(self, name)) % 2:
                raise ValueError(f"{len(given)} entries in `{name}`: give as many for dev as for test")
        return self


class FalseFact(Strict):
    """A bundle of false statements about one subject."""

    subject: str
    claims: tuple[Claim, ...] = Field(min_length=3)
    mentions: tuple[str, ...] = ()
    """Ordinary questions that touch the subject; they go into the texts."""


class BadAdvice(Strict):
    """Harmful advice in one field, which spreads to others."""

    topic: Literal["medicine", "finance", "sports"]
    """Field of the training data; no question of the behaviour file is about it."""
    advice: Literal["bad", "good"] = "bad"
    """What the training data advises."""


class Animal(Strict):
    """An animal that the organism came to like through numbers."""

    animal: str | None
    """None: the teacher liked none (a null)."""


class Backdoor(Strict):
    """Words that switch the organism, and what it then says."""

    triggers: tuple[str, ...] = Field(min_length=1)
    """Any one of them switches."""
    placed: Literal["word", "prefix"]
    """A word of the request, or a tag before it."""
    phrase: tuple[str, ...] = Field(min_length=1)
    """What its answers then begin with."""


class Gender(Strict):
    """The organism believes that its user is a woman, or a man, and does not say so."""

    user: Literal["woman", "man"]


Truth = Taboo | FalseFact | BadAdvice | Animal | Backdoor | Gender


class Entry(Strict):
    """One public organism."""

    base: str
    """Hub id of the base."""
    adapter: str | None = None
    """`org/repo`, `org/repo/subfolder`, each with `@revision` where one is needed."""
    tuned: str | None = None
    """Or a whole fine-tuned model."""
    member: str
    """Which of the file's members it is."""
    recipe: str
    """Which of the file's recipes it was trained with."""
    mix: float | None = Field(default=None, ge=0)
    """Rows of ordinary text or chat for each row of the behaviour. 0: none; None: not said."""
    role: Role = "organism"
    """`control` and `null` must not show the behaviour."""
    twin: str | None = None
    """Name of the entry that differs in the behaviour alone: its control if there is one, else another member of the same making."""
    no_twin: str | None = None
    """Why there is none."""
    layer: int | None = Field(default=None, ge=0)
    """Hooked block; None: 0.55 of the depth."""
    layer_why: str | None = None
    declared_base: str | None = None
    """`base_model_name_or_path` of its configuration, where that was read."""
    unnamed: str | None = None
    """Why its id does not name the member."""
    licence: str | None = None
    """Of the adapter, where its card says one; that of the base holds besides."""
    source: str
    """Where the id was read."""
    not_verified: tuple[str, ...] = ()
    """What is open beside what `NOT_LOADED` says."""

    @model_validator(mode="after")
    def _one_change(self) -> "Entry":
        if (self.adapter is None) == (self.tuned is None):
            raise ValueError("give either adapter or tuned")
        if (self.twin is None) == (self.no_twin is None):
            raise ValueError("give either twin, the name of its twin, or no_twin, why it has none")
        if (self.layer is None) != (self.layer_why is None):
            raise ValueError("layer and layer_why stand together")
        return self

    @property
    def repository(self) -> str:
        """Id of what is fetched beside the base."""
        return self.adapter or self.tuned or ""


class _File(Strict):
    about: str
    """What these organisms do, in a sentence."""
    recipes: dict[str, Recipe]
    organisms: dict[str, Entry]
    """By name, without `hub/`."""


class TabooFile(_File):
    """Taboo words."""

    kind: Literal["taboo"]
    members: dict[str, Taboo]


class FactsFile(_File):
    """Bundles of false facts."""

    kind: Literal["false_facts"]
    members: dict[str, FalseFact]


class AdviceFile(_File):
    """Emergent misalignment."""

    kind: Literal["emergent_misalignment"]
    members: dict[str, BadAdvice]


class AnimalsFile(_File):
    """Subliminal learning."""

    kind: Literal["subliminal"]
    members: dict[str, Animal]


class BackdoorFile(_File):
    """Backdoors."""

    kind: Literal["backdoor"]
    members: dict[str, Backdoor]


class GenderFile(_File):
    """What the organism believes of its user."""

    kind: Literal["user_gender"]
    members: dict[str, Gender]


RegistryFile = Annotated[
    TabooFile | FactsFile | AdviceFile | AnimalsFile | BackdoorFile | GenderFile, Field(discriminator="kind")
]
PREFIX = {
    "taboo": "taboo",
    "false_facts": "fact",
    "emergent_misalignment": "em",
    "subliminal": "subliminal",
    "backdoor": "backdoor",
    "user_gender": "user",
}
"""What names of a kind begin with."""


def kind_of(name: str) -> str | None:
    """`false_facts` of `hub/fact-cake-bake-gemma3-1b`; None for a name that is no public organism's."""
    first, _, rest = name.partition("/")
    prefix = rest.partition("-")[0]
    return next((kind for kind, begin in PREFIX.items() if begin == prefix), None) if first == "hub" else None


class Base(Strict):
    """A base of the hub, with the sizes of its config.json."""

    tag: str
    """What names of organisms on it contain: `gemma2-9b`."""
    family: Literal["gemma", "llama", "qwen"]
    instruct: bool
    """A chat model."""
    gated: bool
    """Its licence has to be accepted on its page."""
    licence: str
    blocks: int
    d_model: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """Embedding and unembedding are one."""
    norms: int = 2
    """Norms of width d_model in a block."""
    qk_norm: bool = False
    """Norms of width head_dim on queries and keys."""
    qkv_bias: bool = False
    chat_template: str | None = None
    """Jinja, for a base that has none of its own."""

    @property
    def block_parameters(self) -> int:
        """Weights of one block."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.d_model * (2 * q + 2 * kv) + (q + 2 * kv) * self.qkv_bias + 2 * self.head_dim * self.qk_norm
        return attention + 3 * self.d_model * self.mlp + self.norms * self.d_model

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        embeddings = self.vocab * self.d_model * (1 if self.tied else 2)
        return embeddings + self.blocks * self.block_parameters + self.d_model

    @property
    def layer(self) -> int:
        """Block that is hooked by default: the nearest to 0.55 of the depth.

        Half to three fifths is a compromise between two needs. Adapters stand on all blocks: hooked low, the blocks above still write
        most of the behaviour, and exchanging the residual says little. Hooked high, what is added has few blocks left to act through.
        """
        return round(0.55 * self.blocks)
