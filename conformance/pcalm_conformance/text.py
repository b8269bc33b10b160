"""Other people's words, made fit for where they are shown."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """The text with everything that could move a cursor, hide or reorder letters written as an escape, lines kept."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def code(text: str, cell: bool = False) -> str:
    """The text as a Markdown code span, in which nothing is a link, a mention, a tag or a table's border.

    Args:
        text: shown as one line.
        cell: whether it stands in a table, where a vertical bar needs a backslash, and backslashes before it, too.
    """
    inside = " ".join(printable(text).split())
    if cell:
        inside = re.sub(r"(\\*)\|", r"\1\1\\|", inside)
    fence = "`" * (1 + max(map(len, re.findall("`+", inside)), default=0))
    edge = " " if inside.startswith("`") or inside.endswith("`") else ""
    return f"{fence}{edge}{inside}{edge}{fence}"
