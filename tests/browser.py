"""A real Chromium: opens a page as a person would, and reports what it saw."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

LAPTOP, PHONE = (1366, 900), (375, 800)
# The last three keep Chromium from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def binary() -> str | None:
    """Where Chromium is on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@dataclass
class Seen:
    """What came of a page: ``serious`` are axe-core's serious and critical findings."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    serious: list[str] = field(default_factory=list)
    is_scrolled_sideways: bool = False
    found: Any = None


def look(
    url: str,
    *,
    cookies: dict[str, str],
    size: tuple[int, int] = LAPTOP,
    is_dark: bool = False,
    act: Callable[[Page], Any] | None = None,
) -> Seen:
    """Open the page, ``act`` on it, and examine it. ``found`` is what ``act`` returned.

    On a thread of its own: playwright runs an event loop, in which Django refuses the database.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_look, url, cookies, size, is_dark, act).result()


def serious(page: Page) -> list[str]:
    """axe-core's serious and critical findings of the page as it is now."""
    return [
        f"{finding['id']}: {node['html'][:120]}"
        for finding in Axe().run(page).response["violations"]
        if finding["impact"] in {"serious", "critical"}
        for node in finding["nodes"]
    ]


def _look(
    url: str,
    cookies: dict[str, str],
    size: tuple[int, int],
    is_dark: bool,
    act: Callable[[Page], Any] | None,
) -> Seen:
    seen = Seen()
    origin = "/".join(url.split("/")[:3])
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary(), args=FLAGS)
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if is_dark else "light",
        )
        context.add_cookies(
            [{"name": name, "value": value, "url": origin} for name, value in cookies.items()]
        )
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and seen.errors.append(said.text))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((origin, "data:")) or seen.foreign.append(asked.url),
        )
        page.goto(url, wait_until="networkidle")
        seen.found = act(page) if act else None
        seen.serious = serious(page)
        seen.is_scrolled_sideways = page.evaluate(
            "document.documentElement.scrollWidth > window.innerWidth"
        )
        chromium.close()
    return seen
