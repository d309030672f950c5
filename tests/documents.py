"""The documentation as the tests read it: its pages, and the fenced blocks in them.

What follows a block's language says what the tests do with it:

- ``story``: run against a served platform; a page's stories of one language are one program
- ``story-KIND``: run by a test of that kind
- ``output``: what the story before it prints, among other things
- ``commands``: each line's program exists and takes these arguments
- ``POST /path`` and ``answer STATUS`` (json): sent, and answered in this shape
- ``needs-...``: not run here, for the reason that it names
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.reference.tables import slug

CHECKED = {"bash", "python", "javascript", "json"}
REASONS = {
    "needs-docker": "a Docker daemon and images from a registry",
    "needs-cluster": "a Kubernetes cluster and a registry",
    "needs-cloud-account": "an account with that platform",
    "needs-root": "a server of one's own, as root",
}
_FENCE = re.compile(r"^( *)```(\w+)[ ]?([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_CODE_BLOCKS = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    page: str
    language: str
    role: str
    text: str


def pages() -> list[Path]:
    """Every document that a reader may open, by its path."""
    docs = sorted((ROOT / "docs").glob("**/*.md"))
    built = ROOT / "docs/_build"
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")]
    return [*top, *(page for page in docs if built not in page.parents)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks() -> Iterator[Block]:
    for page in pages():
        for indent, language, role, text in _FENCE.findall(page.read_text()):
            lines = (line.removeprefix(indent) for line in text.splitlines(keepends=True))
            yield Block(page=name_of(page), language=language, role=role, text="".join(lines))


def program(page: str, language: str, role: str = "story") -> tuple[str, list[str]]:
    """A page's stories of one language, and the outputs that stand after them."""
    texts, outputs, is_ours = [], [], False
    for block in (one for one in blocks() if one.page == page):
        if block.role.startswith("story"):
            is_ours = (block.language, block.role) == (language, role)
            texts += [block.text] * is_ours
        elif block.role == "output" and is_ours:
            outputs.append(block.text)
    return "".join(texts), outputs


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead, those to other hosts left out."""
    found = _LINK.findall(_CODE.sub("", page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _CODE_BLOCKS.sub("", page.read_text()), re.MULTILINE)
    return {slug(heading) for heading in headings}
