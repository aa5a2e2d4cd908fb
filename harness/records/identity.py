"""The identity of a result: everything that decides its numbers, hashed into its id; and the ranges that all parts of a record keep."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ...methods.catalogue import row_of
from ...organisms.card import Tier
from ..escape import plain

PROTOCOL_VERSION = "v2"
PROTOCOL_SHA256 = "448a735d38d1a6313b5eb09123adc3d1c5ba62b44a7d7b5377f9a0c672371ac3"
"""Hash of the published settings (`settings.PROTOCOL_V2`): a record made with them can have its intervals drawn again."""
CUSTOM = "custom"
"""Name of any other settings."""

NAME = r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)?$"
"""Names of a record: they become folders, headings and table cells, so they hold nothing that a path or a page could read otherwise."""
Name = Annotated[str, Field(pattern=NAME, max_length=200)]
Said = Annotated[str, AfterValidator(plain)]
"""Words of a record that somebody prints: whatever could act on a terminal or turn a line around is escaped when it is read."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]
"""A probability, a rate or a share; sums may be off by rounding."""
Change = Annotated[float, Field(ge=-1 - 1e-9, le=1 + 1e-9)]
"""A difference of two rates."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
SideName = Literal["sufficiency", "necessity"]
"""What is added to the base, and what is taken out of the organism."""
SIDES: dict[SideName, Literal["base", "tuned"]] = {"sufficiency": "base", "necessity": "tuned"}
"""Which model is edited on each side; the other is where it should go."""
Line = Annotated[str, Field(max_length=2000)]
"""Free text that is shown on one line."""


class Record(BaseModel):
    """Part of a record: nothing beside its fields, and every number finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Identity(Record):
    """Everything that decides the numbers. Hashed."""

    organism: Name
    """Organism name, `family/variant`, or the name of a user's behaviour."""
    organism_sha256: Hash
    """Hash over the base weights, the adapter weights and the tokenizer."""
    method: Name
    method_version: Line
    """diffbench version for built-in methods; otherwise a hash of the method's file, with its package's version if it has one."""
    access: Literal["activations", "+generations", "+weights", "supervised", "anchor"]
    """Access tier of the method: decides whether its row is ranked."""
    code_sha256: Hash
    """Hash of diffbench's own source (organisms, harness, methods)."""
    config: dict[str, Any]
    """The method's resolved options."""
    protocol: Name = PROTOCOL_VERSION
    """`v2` is the published settings, `custom` any others."""
    protocol_sha256: Hash
    """Hash over the resolved protocol settings (budgets, ladders, controls, bootstrap)."""
    prompts_sha256: Hash
    """Hash over behaviour prompts, capability probes and the text the scores use."""
    layer: Count
    seeds: dict[str, Count]
    """`method`: the method's seed; `scores`: controls and bootstrap. Both are there."""
    budget: dict[str, Amount]
    dtype: Literal["float32", "bfloat16", "float16", "remote"]
    """Of the residual stream; `remote`: whatever NDIF's deployment has."""
    tier: Tier
    sinks: Literal["drop", "keep"] | None = None
    """Whether positions that are no ordinary text were left out; None on the embedded tier, which has none to leave out."""
    controls_sha256: Hash | None = None
    """File of random controls that came with the organism; None: they were measured, as there is none of
    this layer and precision."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Prompts a split that were used; a partial result, which stands in no table. None: all."""
    in_process: Literal[True] | None = None
    """The method ran in the scorer's own process, for debugging; stands in no table. None: in a process of its own."""

    @field_validator("seeds")
    @classmethod
    def _both(cls, seeds: dict[str, int]) -> dict[str, int]:
        if missing := {"method", "scores"} - seeds.keys():
            raise ValueError(f"no seed of {' and '.join(sorted(missing))}")
        return seeds

    @property
    def pair(self) -> tuple[str, str]:
        """(name, hash) of the organism: pairs of one's own may share the name of a behaviour."""
        return self.organism, self.organism_sha256

    @property
    def row(self) -> str:
        """What asks for the method: its name, or NAME@published with its paper's settings (`row_of`)."""
        return row_of(self.method, self.config)

    def id(self) -> str:
        """sha256 of the canonical JSON of this block, without the fields that say nothing (None)."""
        return sha256_json({k: v for k, v in self.model_dump().items() if v is not None})


def sha256_json(value: Any) -> str:
    """sha256 of canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
