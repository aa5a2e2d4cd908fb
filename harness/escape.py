"""Text of others as it may stand on a terminal, a page or a spreadsheet: shown, never obeyed.

A record, a path or a token may hold anything. Characters that a reader does not see but a terminal or a browser acts on (escape
sequences, controls, changes of direction, invisible formatting) are written out; what else a medium could obey is escaped by its rules.
"""

import html as _html
import json
import re

CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff"
    "\\U000e0000-\\U000e007f]"
)
"""C0 and C1 without tab and line feed, bidirectional and invisible formatting, half characters, tags."""

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula, and the wide forms of it."""


def plain(text: object) -> str:
    r"""Text with every control written as `\u001b`, which a JSON reader undoes: for terminals, and before any other escaping."""
    said = str(text)
    if said.isascii() and said.isprintable():
        return said
    return CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], said)


def html(text: object) -> str:
    """Text that a page shows as it is, in its body or in an attribute."""
    return _html.escape(plain(text))


def csv_field(value: object) -> object:
    """A field that a spreadsheet takes as text, whatever it begins with; numbers and None are left as they are."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(("\t", "\r")) or text.lstrip().startswith(FORMULA) else text


def md(text: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    one_line = plain(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|~#])", r"\\\1", one_line).replace("](", "]\\(")


TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "·": r"$\cdot$",
    "†": r"\dag{}",
}


def tex(text: object) -> str:
    """Text that LaTeX sets as it is, on one line."""
    return "".join(TEX.get(c, c) for c in plain(" ".join(str(text).split())) if c.isprintable())
