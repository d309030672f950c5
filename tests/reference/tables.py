"""Markdown that reads the same on a forge and on the site."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without a last column that says nothing."""
    rows = [list(row) for row in rows]
    if not head[-1] and not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def prose(text: str) -> str:
    """A docstring as one paragraph of Markdown."""
    joined = " ".join(text.split()).replace("``", "`")
    return re.sub(r"<(?=\w)", "&lt;", joined)


def code(text: object) -> str:
    return f"`{text}`"


def slug(heading: str) -> str:
    """A heading's anchor, as forges and MyST make it."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
