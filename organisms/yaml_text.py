"""YAML as people write it by hand: plain values only, so that a file of a few lines cannot become gigabytes or anything but data."""

from typing import Any, NoReturn

import yaml


class _Loader(yaml.SafeLoader):
    """Without aliases, which multiply, and without dates, so that `2024-01-01` is the text that was written."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self._refuse()
        return super().compose_node(parent, index)

    def _refuse(self) -> NoReturn:
        event = self.peek_event()
        raise yaml.YAMLError(f"line {event.start_mark.line + 1} refers to *{event.anchor}; write the value out")


def read_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: not YAML, or an alias, or nested too deeply.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"a value is not what its tag says ({error})") from error
