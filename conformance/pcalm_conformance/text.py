"""Other people's words, made fit for where they are shown."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """The text with everything that could move a cursor, hide or reorder letters written as an escape, lines kept."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def markdown(text: str) -> str:
    """One line of text as Markdown code that shows exactly it: no table, link, mention or HTML comes of it."""
    inside = re.sub(
        r"[^\w\s-]|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", " ".join(printable(text).split())
    )
    return f"<code>{inside}</code>"
