"""Files of other people: regular ones, of bounded size, as text that says what is wrong with it; YAML without references."""

from pathlib import Path
from typing import Any

import yaml

from ..errors import ValidationFailed

MOST_BYTES, MOST_YAML = 2**28, 2**20
"""Most bytes of a file, and of one that is written by hand and parsed slowly."""

NAMES_TEXTS = (".yaml", ".yml", ".json")
"""Ends of a file that names texts and holds none (`corpora`)."""


class FileError(ValidationFailed, ValueError):
    """A file that is not read."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        FileError: a device, a pipe, or more than `most` bytes. OSError: nothing there, or not to be read.
    """
    if path.exists() and not path.is_file():
        raise FileError(f"cannot read {path}: it is not a regular file")
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise FileError(f"{path} has more than {most >> 20} MiB, which is more than is read")
    return raw


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """UTF-8 text, with or without a mark at its beginning, whatever its line ends.

    Raises:
        FileError: another encoding, or see `read_bytes`.
    """
    raw = read_bytes(path, most)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FileError(f"{path} is UTF-16; save it as UTF-8")
    if b"\0" in raw[:1000]:
        raise FileError(f"{path} is UTF-16 without a mark, or no text at all; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


class _Plain(yaml.SafeLoader):
    """YAML without aliases, nine levels of which make gigabytes of a page, without dates, which nobody means, and each key once."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("references (*name) are not read; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set[tuple[str, str]]()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.YAMLError(f"the key {key.value!r} stands twice; give it once")
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_Plain.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str, where: str) -> Any:
    """Values of a YAML text.

    Raises:
        FileError: not YAML, references, or nested too deeply.
    """
    try:
        return yaml.load(text, _Plain)
    except RecursionError as error:
        raise FileError(f"{where} is nested too deeply") from error
    except yaml.YAMLError as error:
        raise FileError(f"{where} is not YAML: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise FileError(f"{where} is not YAML: a value is not what its tag says ({error})") from error
