"""How a cell came about, beside what it measured: its cost, what was read and left out, where it ran, and how it failed."""

from typing import Any, Literal

from pydantic import Field

from .identity import Amount, Count, Hash, Record, Said, SideName


class Cost(Record):
    wall_s: Amount
    cpu_s: Amount
    peak_rss_bytes: Count
    """High-water mark of the whole process, so in a run of several cells it includes the earlier ones, and of the method's own."""
    peak_vram_bytes: Count | None = None
    phases: dict[str, Amount]
    """Wall seconds by phase: load, start (of the method's process), harvest, fit, score, … Text that an earlier cell of the run read
    already costs what it cost then."""
    tokens: Count
    """Distinct tokens the method harvested."""


class LeftOut(Record):
    """Positions of the harvested text that no method saw, because they are no ordinary text (`harness/pairs/sinks.py`)."""

    read: Count
    """Positions read."""
    first: Count
    """First positions of texts."""
    special: Count
    """Special tokens elsewhere."""
    outliers: Count
    """Others whose residual is longer than `times` the median, on either side."""
    times: Amount
    median_base: Amount
    median_tuned: Amount
    """Median norm of ordinary positions."""
    largest: Amount
    """Longest residual left out."""
    tokens: list[str] = Field(default_factory=list[str])
    """The outliers' tokens, the most frequent first, at most ten."""

    @property
    def sentence(self) -> str:
        """What was left out, in one sentence."""
        medians = " and ".join(f"{m:.4g}" for m in dict.fromkeys((self.median_base, self.median_tuned)))
        which = f"; {', '.join(map(repr, self.tokens))}" if self.tokens else ""
        return (
            f"Left out {self.first + self.special + self.outliers:,} of {self.read:,} positions: {self.first:,} first positions, "
            f"{self.special:,} special tokens, {self.outliers:,} outliers (norm > {self.times:g} × median {medians}{which})"
        )


class SourceRead(Record):
    """What was read of one source of large text (`organisms/hub/corpora.py`)."""

    kind: Literal["neutral", "chat"]
    name: str
    """Dataset of the hub, or path of a local file beside the file that names it."""
    subset: str | None = None
    split: str | None = None
    licence: str
    revision: str
    """Commit, or hash of the local file."""
    weight: float
    rows: Count
    empty: Count = 0
    """Rows without text."""
    repeated: Count = 0
    """Rows whose text stood before, passed over."""
    unusable: Count = 0
    """Rows that are no text or no conversation, passed over."""


class TextRead(Record):
    """What was read of a user's texts, and what the chat template writes beside their turns (`organisms/texts.py`, `hub/chat.py`)."""

    asked: dict[str, Count] = Field(default_factory=dict[str, Count])
    """Tokens that a method asked for, of each text that held fewer."""
    held: dict[str, Count] = Field(default_factory=dict[str, Count])
    """Tokens that it held."""
    cut: Count = 0
    """Texts cut on the right."""
    skipped: Count = 0
    """Conversations left out because their opening is too long."""
    template_sha256: Hash | None = None
    """Chat template; None without one that renders a conversation."""
    inserted: str = ""
    """What the template puts before the first user turn of a conversation without a system turn."""
    date: str | None = None
    """The date that the template was told, if it asks for one."""
    sources: tuple[SourceRead, ...] = ()
    """Sources of large text, as far as they were read."""
    notes: tuple[Said, ...] = ()
    """What the organism's prompts and texts leave to be said: templates that are few or assumed, text that stands for other text."""

    @property
    def sentences(self) -> list[str]:
        """What a reader of the result should know, one sentence each; nothing where all is as asked."""
        said = [
            f"Asked for {n:,} tokens of {text} text, the texts hold {self.held.get(text, 0):,}."
            for text, n in self.asked.items()
        ]
        said += [f"Cut {self.cut:,} texts that were too long."] * bool(self.cut)
        said += [f"Left out {self.skipped:,} conversations whose opening is too long."] * bool(self.skipped)
        for s in self.sources:
            said.append(f"Read {s.rows:,} rows of {s.name} ({s.kind}, licence {s.licence}).")
            lost = {"empty": s.empty, "repeated": s.repeated, "unusable": s.unusable}
            said += [f"Passed over {n:,} {why} rows of {s.name}." for why, n in lost.items() if n]
        said += self.notes
        said += [f"The chat template begins conversations with {self.inserted!r}."] * bool(self.inserted)
        return said + [f"The chat template was told the date {self.date}."] * bool(self.date)


class Provenance(Record):
    """Recorded, never hashed."""

    diffbench: str
    packages: dict[str, str]
    python: str
    platform: str
    cpu: str
    device: str
    git: dict[str, Any] | None = None
    command: list[Said]
    started_utc: str
    finished_utc: str
    access: str
    """Access tier of the method."""
    source: dict[str, Said] = Field(default_factory=dict[str, Said])
    """What was asked for: the organism's name, or base, adapter and behaviour file as given."""
    method_origin: Said = "built-in"
    stochastic: bool | None = None
    """Whether the method says that another seed can give other findings; None in records from before it was asked."""
    backend: Literal["hooks", "nnsight"] = "hooks"
    """What ran the models."""
    remote: bool = False
    """Whether they ran on NDIF."""


class Failure(Record):
    type: Said
    message: Said
    oracle: dict[SideName, float] | None = Field(default=None, exclude_if=lambda v: v is None)
    """Share of the gap that exchanging the residual closes, where a cell cannot be scored because that is too little."""
