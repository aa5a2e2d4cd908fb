"""Files to start from, as `bench organisms new` and `bench methods new` write them."""

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
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is not a {what} name: lower-case letters, digits and underscores, a letter first")
    if name in taken:
        raise UsageError(f"{name} is a built-in {what}; choose another name")
    path = folder / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} is there already; choose another name or remove it")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    path.write_text(template.format(name=name, title=name.replace("_", " ").capitalize(), class_name=class_name))
    return path
