"""Text that only says something: no control characters, escape sequences or marks that turn a line around."""


def printable(text: str) -> str:
    """Text with everything that is not printable escaped, line breaks and tabs aside."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
