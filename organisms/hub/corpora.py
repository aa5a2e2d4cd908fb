"""Text too large for a list: local files and `datasets` streams, named with weight, licence and revision in a file, read as a mixture.

The idea: a stream has no end to count from, so a document's split follows from its own bytes. Wherever it stands, and however often, a
document is harvested or scored and never both. Nothing is read at import; the network only if the file names a hub dataset.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..behaviour import turns_of
from ..card import sha256_file
from ..errors import PrerequisiteError, ValidationFailed
from .files import MOST_YAML, load_yaml, read_text

Split = Literal["harvest", "dev", "test"]
Kind = Literal["neutral", "chat"]
BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jsonl": ("json", {}),
    ".txt": ("text", {"sample_by": "paragraph"}),
    ".parquet": ("parquet", {}),
}
"""How `datasets` reads a local file; a text file holds one text a paragraph."""
COLUMNS: dict[Kind, tuple[str, ...]] = {"neutral": ("text",), "chat": ("messages", "conversations", "conversation")}
"""Columns that hold the text of a row, if none is named."""
SHARES = {"harvest": range(14), "dev": range(14, 17), "test": range(17, 20)}
"""Twentieths of all documents."""
REMEMBERED = 1_000_000
"""Documents whose repetition is noticed."""
PATIENCE = 1000
"""Rows without any usable text after which a mixture is refused."""


class CorpusError(ValidationFailed):
    """A file of texts that cannot be used; the message names the part and the fix."""


class Part(BaseModel):
    """One source of a mixture: a dataset of the hub, or a local file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = None
    """Dataset of the hub, `org/name`."""
    path: str | None = None
    """Or a .jsonl, .txt (one text a paragraph) or .parquet file, relative to this file."""
    subset: str | None = None
    """Configuration of the dataset."""
    split: str = "train"
    column: str | None = None
    """Column with the text or the conversation.  [default: text; messages, conversations or conversation]"""
    weight: float = Field(default=1.0, gt=0)
    """Documents of this source relative to the others'."""
    licence: str = "not said"
    """Recorded with every result."""
    revision: str | None = None
    """Commit of the dataset: what it holds today changes under its name. Of a local file, its hash is put here."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.name is None) == (self.path is None):
            raise ValueError("give either name (a dataset of the hub) or path (a local file)")
        if self.name is not None and self.revision is None:
            raise ValueError(
                f"give the revision of {self.name} (a commit): a result must say what was read, and a name alone does not"
            )
        if self.path is not None and Path(self.path).suffix not in BUILDERS:
            raise ValueError(f"{self.path} is not read; give a {', '.join(BUILDERS)} file")
        return self

    @property
    def where(self) -> str:
        """For messages."""
        return self.path or f"{self.name}{f' ({self.subset})' if self.subset else ''}, split {self.split}"


class CorpusFile(BaseModel):
    """Sources of ordinary text, as a YAML or JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    neutral: tuple[Part, ...] = ()
    """Plain text."""
    chat: tuple[Part, ...] = ()
    """Conversations."""
    seed: int = 0
    """Of the order in which the sources take turns."""


@dataclass
class Tally:
    """Rows of a source that were read, and those that hold nothing to read."""

    rows: int = 0
    empty: int = 0
    repeated: int = 0
    """Texts that stood before in the mixture, among the first million."""
    unusable: int = 0
    """Rows that are no text or no conversation."""


@dataclass(frozen=True)
class Corpus:
    """A mixture of one kind of text."""

    parts: tuple[Part, ...]
    folder: Path
    kind: Kind
    seed: int
    where: str

    def documents(
        self, split: Split, tallies: dict[tuple[Kind, Part], Tally] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(row of the mixture, its text or its turns) of a split, in an order of the seed.

        Args:
            tallies: the furthest reading of each source is counted here.

        Raises:
            PrerequisiteError: a source that cannot be reached. CorpusError: rows without what they should hold.
        """
        own: dict[tuple[Kind, Part], Tally] = {(self.kind, part): Tally() for part in self.parts}
        seen, usable, fault = set[bytes](), 0, ""
        for number, row in enumerate(self._rows()):
            part = self.parts[row["part"]]
            tally = own[self.kind, part]
            tally.rows += 1
            document: Any = json.loads(row["item"])
            digest = hashlib.sha256(row["item"].encode()).digest()[:8]
            new = False
            if not document or (isinstance(document, str) and not document.strip()):
                tally.empty += 1
            elif reason := _fault(self.kind, document):
                tally.unusable += 1
                fault = fault or f"{part.where}, row {tally.rows}: {reason}"
            elif digest in seen:
                tally.repeated += 1
            else:
                new, usable = True, usable + 1
                if len(seen) < REMEMBERED:
                    seen.add(digest)
            if tallies is not None and tally.rows >= tallies.setdefault((self.kind, part), Tally()).rows:
                tallies[self.kind, part] = tally
            if not usable and number + 1 == PATIENCE:
                raise CorpusError(self._empty(number + 1, fault))
            if new and int.from_bytes(digest) % 20 in SHARES[split]:
                yield number, document
        if not usable:
            raise CorpusError(self._empty(sum(t.rows for t in own.values()), fault))

    def _empty(self, rows: int, fault: str) -> str:
        first = f" ({fault})" if fault else ""
        return f"{self.where}: the first {rows:,} rows of `{self.kind}` hold no usable text{first}; check `column`, or name another source"

    def _rows(self) -> Iterator[dict[str, Any]]:
        from datasets import Features, IterableDataset, Value, interleave_datasets
        from datasets.utils.tqdm import tqdm

        tqdm.get_lock()  # parts are opened in threads, and each would make this lock and take it away again
        features = Features({"item": Value("string"), "part": Value("int32")})
        streams = [
            IterableDataset.from_generator(
                _items,
                features=features,
                gen_kwargs={"part": part.model_dump(), "number": i, "folder": str(self.folder), "kind": self.kind},
            )
            for i, part in enumerate(self.parts)
        ]
        total = sum(p.weight for p in self.parts)
        mixed = interleave_datasets(
            streams,
            probabilities=[p.weight / total for p in self.parts],
            seed=self.seed,
            stopping_strategy="all_exhausted_without_replacement",
        )
        yield from mixed if len(streams) > 1 else streams[0]


def read_corpora(path: Path, kinds: Sequence[Kind] = ("neutral", "chat")) -> tuple[dict[Kind, Corpus], str]:
    """The mixtures of a file, those it has of the kinds asked for, and a hash over the file and the local files it names.

    Raises:
        CorpusError: not such a file, or without sources. PrerequisiteError: a file that is not there.
    """
    try:
        found = CorpusFile.model_validate(load_yaml(read_text(path, MOST_YAML), str(path)))
    except OSError as error:
        raise PrerequisiteError(f"cannot read {path}: {error.strerror}; give a file that names texts") from error
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()[:5]
        ]
        raise CorpusError("\n".join([f"{path} does not name texts:", *lines, "see docs/real-models.md"])) from error
    corpora = dict[Kind, Corpus]()
    for kind in kinds:
        parts = tuple(_hashed(part, path) for part in getattr(found, kind))
        if parts:
            corpora[kind] = Corpus(parts, path.parent, kind, found.seed, str(path))
    if not corpora:
        raise CorpusError(f"{path} names no sources of {' or '.join(kinds)} text; give a list of sources")
    said = [found.seed, *([kind, [p.model_dump() for p in c.parts]] for kind, c in sorted(corpora.items()))]
    return corpora, hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _hashed(part: Part, path: Path) -> Part:
    """A local part with the hash of its file."""
    if part.path is None:
        return part
    file = path.parent / part.path
    if not file.is_file():
        raise PrerequisiteError(f"{path} names {part.path}, and there is no such file beside it; check the path")
    return part.model_copy(update={"revision": f"sha256:{sha256_file(file)}"})


def _items(part: dict[str, Any], number: int, folder: str, kind: Kind) -> Iterator[dict[str, Any]]:
    """Rows of a source as JSON texts, which alike can be mixed whatever their columns."""
    asked = Part.model_validate(part)
    column, rows = asked.column, _opened(asked, Path(folder))
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # a reader of other people's files over a network may raise anything
            raise PrerequisiteError(
                f"reading {asked.where} stopped: {type(error).__name__}: {error}; run the same command again"
            ) from error
        if row is None:
            return
        column = column or next((c for c in COLUMNS[kind] if c in row), COLUMNS[kind][0])
        if column not in row:
            raise CorpusError(
                f"{asked.where} has no column {column!r}; set `column` to one of {', '.join(map(repr, row))}"
            )
        yield {"item": json.dumps(row[column], default=str), "part": number}


def _opened(part: Part, folder: Path) -> Iterator[Mapping[str, Any]]:
    from datasets import load_dataset

    if part.path is not None:
        builder, options = BUILDERS[Path(part.path).suffix]
        return iter(load_dataset(builder, data_files=str(folder / part.path), split="train", streaming=True, **options))
    fix = f"fetch it once and give its file as `path`, or use a machine with a network ({part.where})"
    if offline():
        raise PrerequisiteError(
            f"{part.name} is a dataset of the hub and HF_HUB_OFFLINE forbids the network; unset it, {fix}"
        )
    try:
        return iter(
            load_dataset(part.name or "", part.subset, split=part.split, revision=part.revision, streaming=True)
        )
    except Exception as error:  # the hub client has a dozen unrelated error types
        raise PrerequisiteError(f"{part.name} cannot be opened: {type(error).__name__}: {error}; {fix}") from error


def offline() -> bool:
    """Whether the environment forbids the network."""
    return any(
        os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE") for n in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _fault(kind: Kind, document: Any) -> str:
    """Why a document is none of its kind; empty if it is one."""
    if kind == "neutral":
        return "" if isinstance(document, str) else f"{type(document).__name__}, not text"
    try:
        turns_of(document)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return ""
