"""The pages of docs/reference, made of what the code says; a test fails when they drift."""

from __future__ import annotations

from pathlib import Path

from tests.reference import api, commands, database

FOLDER = Path(__file__).resolve().parents[2] / "docs/reference"
MARK = "<!-- Written by `make reference`; change the code, not this page. -->\n\n"


def made() -> dict[str, str]:
    """Every page by its file name."""
    pages = {**api.pages(), "commands.md": commands.page(), "database.md": database.page()}
    return {name: MARK + text for name, text in pages.items()}


def write(folder: Path = FOLDER) -> list[str]:
    """Write what changed, and delete pages that are no more; returns the names."""
    wanted = made()
    folder.mkdir(exist_ok=True)
    present = {path.name: path.read_text() for path in folder.glob("*.md")}
    for name in present.keys() - wanted.keys():
        (folder / name).unlink()
    changed = {name: text for name, text in wanted.items() if present.get(name) != text}
    for name, text in changed.items():
        (folder / name).write_text(text)
    return sorted(changed)
