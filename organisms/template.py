"""Files to start from, as `bench organisms new` and `bench methods new` write them."""

import keyword
import re
from collections.abc import Collection
from pathlib import Path

from .errors import UsageError


def write_template(what: str, name: str, taken: Collection[str], template: str, folder: Path) -> Path:
    """Write `NAME.py` into `folder`; the template may use {name}, {title} and {class_name}.

    Args:
        what: `family` or `method`, for the messages.
        taken: names that are shipped.

    Raises:
        UsageError: not a name, a taken name, or the file is there already.
    """
    check_name(what, name, taken)
    path = folder / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} is there already; choose another name or remove it")
    path.write_text(filled(template, name))
    return path


def check_name(what: str, name: str, taken: Collection[str]) -> None:
    """Refuse a name that no module, option and row could have.

    Raises:
        UsageError: as `write_template`.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is not a {what} name: lower-case letters, digits and underscores, a letter first")
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} is not a {what} name: it is a word of Python's own; choose another name")
    if name in taken:
        raise UsageError(f"{name} is a built-in {what}; choose another name")


def filled(template: str, name: str) -> str:
    """A template with {name}, {title}, {dashed} and {class_name} put in."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    title, dashed = name.replace("_", " ").capitalize(), name.strip("_").replace("_", "-")
    return template.format(name=name, title=title, dashed=dashed, class_name=class_name)
