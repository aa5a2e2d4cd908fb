"""Errors a user can do something about: each is fact + cause + fix, and carries the command's exit code."""

import difflib
from collections.abc import Sequence

AS_GIVEN: dict[str, str] = {}
"""Folder that was made for a library to read → what the user wrote for the model in it."""


class DiffbenchError(Exception):
    """Printed without a traceback unless `--debug` is given. Models are called what the user called them."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        for folder, given in AS_GIVEN.items():
            text = text.replace(folder, given)
        return text


class UsageError(DiffbenchError):
    """The command cannot mean anything: unknown name, bad option."""

    exit_code = 2


class PrerequisiteError(DiffbenchError):
    """Something the command needs is not there: weights, a device, a writable folder."""

    exit_code = 3


class ValidationFailed(DiffbenchError):
    """Something was read and is wrong: damaged weights, an edited result, a file that breaks its schema."""

    exit_code = 4


def unknown(kind: str, name: str, valid: Sequence[str], shown: str = "") -> UsageError:
    """`no method 'dleta'; did you mean 'delta'? methods: batch_topk, …`.

    Args:
        valid: what could have been meant.
        shown: what is said of these in place of them all, where they are a page.
    """
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    first, of, rest = kind.partition(" of ")
    kinds = plural(first) + of + rest
    return UsageError(f"no {kind} {name!r}; {hint}{shown or f'{kinds}: ' + ', '.join(valid)}")


def plural(noun: str) -> str:
    """More than one of a noun: methods, classes, strategies."""
    if noun.endswith("s"):
        return noun + "es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeou" else f"{noun}s"
