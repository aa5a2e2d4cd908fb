"""What random controls do on a pair, as a file: measured once, so that nobody who scores a method on that pair measures it again.

A draw's numbers do not depend on any findings, so they can be shipped. The file says what they were measured of; where one byte of that is
another (weights, prompts, text, settings, procedure), it counts for nothing.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...organisms.errors import ValidationFailed
from ..files import atomic_write_bytes

FILE = "controls.parquet"
Values = dict[tuple[str, str, int, float], Any]
"""By what was measured, operation, k and strength: a number, or a list of them."""
COST = "cost"
"""Last word of what is a single number; everything else is a list."""
UNITS = {"cost": 1e-9, "dev": 1e-6}
"""What a stored integer stands for, by the last word of what was measured."""
UNIT = 1e-4
"""The same of everything else: shares of single prompts, of which only means are used."""


class ControlPackError(ValidationFailed):
    """A file that holds no controls; the message says what to do."""


@dataclass
class ControlPack:
    """Draws of each null and what was measured of them."""

    key: Mapping[str, Any]
    """What they were measured of."""
    draws: dict[str, list[Values]] = field(default_factory=dict[str, list[Values]])
    """By null, in the order of their indices."""

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = []
        for null, draws in self.draws.items():
            for index, values in enumerate(draws):
                for (what, op, k, strength), value in values.items():
                    unit = _unit(what)
                    numbers = value if isinstance(value, list) else [value]
                    units = [round(x / unit) for x in numbers]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                    rows.append(
                        {
                            "null": null,
                            "index": index,
                            "what": what,
                            "op": op,
                            "k": k,
                            "strength": strength,
                            "units": units,
                        }
                    )
        table = pa.Table.from_pylist(rows, schema=_schema(pa)).replace_schema_metadata({"key": _text(self.key)})
        data = io.BytesIO()
        pq.write_table(table, data, compression="zstd", compression_level=19)
        atomic_write_bytes(path, data.getvalue())

    @classmethod
    def read(cls, path: Path) -> "ControlPack":
        """Read a file.

        Raises:
            ControlPackError: no such file, or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, schema=_schema(pa))
            key = json.loads((pq.read_schema(path).metadata or {})[b"key"])
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise ControlPackError(
                f"{path} holds no random controls ({type(error).__name__}); delete it, and build it with `bench controls build`"
            ) from error
        pack = cls(key)
        for row in table.to_pylist():
            draws = pack.draws.setdefault(row["null"], [])
            draws.extend({} for _ in range(row["index"] + 1 - len(draws)))
            numbers = [n * _unit(row["what"]) for n in row["units"]]
            at = row["what"], row["op"], row["k"], row["strength"]
            draws[row["index"]][at] = numbers[0] if row["what"].endswith(COST) else numbers
        return pack


def _unit(what: str) -> float:
    return UNITS.get(what.split()[-1], UNIT)


def _schema(pa: Any) -> Any:
    return pa.schema(
        [
            ("null", pa.dictionary(pa.int8(), pa.string())),
            ("index", pa.int16()),
            ("what", pa.dictionary(pa.int8(), pa.string())),
            ("op", pa.dictionary(pa.int8(), pa.string())),
            ("k", pa.int8()),
            ("strength", pa.float64()),
            ("units", pa.list_(pa.int64())),
        ]
    )


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def matching(path: Path, key: Mapping[str, Any]) -> ControlPack | None:
    """The controls at `path`, if they were measured of `key`; None where there are none, or others.

    Raises:
        ControlPackError: a damaged file.
    """
    if not path.is_file():
        return None
    pack = ControlPack.read(path)
    return pack if _text(pack.key) == _text(key) else None
