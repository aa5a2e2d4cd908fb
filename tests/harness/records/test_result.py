"""A record is what this protocol writes, or is told what it is; and its id covers whatever decides a number."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.identity import PROTOCOL_SHA256, sha256_json
from diffbench.harness.records.loading import finished, load_result
from diffbench.harness.records.result import DRAWS, V1
from diffbench.harness.records.settings import PROTOCOL_V2, Protocol
from diffbench.harness.runs.packs import PACKED
from diffbench.harness.runs.records import records
from pydantic import ValidationError
from typer.testing import CliRunner

from ...factories import make_result, write_result

OLD = {
    "schema_version": 1,
    "id": "0" * 64,
    "samples": {"sufficiency_controls": [[0.1]]},
    "identity": {"protocol": "v1"},
}
"""As much of a v1 record as it takes."""


def test_the_published_settings_are_the_ones_whose_hash_is_written_down() -> None:
    assert sha256_json(PROTOCOL_V2.model_dump()) == PROTOCOL_SHA256 and PROTOCOL_V2.draws == DRAWS


@pytest.mark.parametrize("field", list(Protocol.model_fields))
def test_every_setting_is_in_the_hash(field: str) -> None:
    value: Any = getattr(PROTOCOL_V2, field)
    other = value[:-1] if isinstance(value, tuple) else value + 1
    assert sha256_json(PROTOCOL_V2.model_copy(update={field: other}).model_dump()) != PROTOCOL_SHA256


def test_a_record_of_v1_is_told_what_it_is_and_where_its_code_is(tmp_path: Path) -> None:
    """Not which of its fields are unknown; and a run does not take it for a finished cell."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(OLD))
    with pytest.raises(ValidationError) as told:
        load_result(path)
    assert told.value.error_count() == 1 and V1 in str(told.value)
    assert finished(path, "0" * 64) is None
    for command in (["results", "validate", tmp_path], ["verify", tmp_path], ["results", "show", tmp_path]):
        out = CliRunner().invoke(app, list(map(str, command)))
        said = " ".join(out.output.split())
        assert out.exit_code == 4 and "protocol v1" in said and "CHANGELOG.md names" in said, command


def test_a_pack_of_v1_is_told_so_once(tmp_path: Path) -> None:
    (tmp_path / f"gold{PACKED}").write_bytes(lzma.compress("\n".join([json.dumps(OLD)] * 50).encode()))
    assert [r.problems for r in records(tmp_path)] == [(V1,)]


def test_a_record_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    path = write_result(tmp_path, make_result())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3, "new": 1}))
    with pytest.raises(ValidationError, match="schema_version is 3, this diffbench reads 2"):
        load_result(path)


def test_a_record_is_the_same_after_reading(tmp_path: Path) -> None:
    for result in (make_result(constant=0.2), make_result("oracle", access="anchor"), make_result(status="failed")):
        assert load_result(write_result(tmp_path, result)) == result
