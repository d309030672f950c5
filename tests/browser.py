"""A real Chromium: opens a page as a person would, and reports what it saw."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

LAPTOP, PHONE = (1366, 900), (375, 800)
# The side bar's links, and the first of a list: its rows are table bodies of their own.
LEADS_TO = """() => [
    ...document.querySelectorAll("#nav-sidebar a[href^='/admin/']"),
    ...[document.querySelector("#result_list tbody th a")].filter(Boolean),
].map(link => link.getAttribute("href"))"""
# The last three keep Chromium from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def binary() -> str | None:
    """Where Chromium is on this machine; without its windows it takes a quarter less time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
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
    """Open the page, ``act`` on it, and examine it. ``found`` is what ``act`` returned."""
    return in_chromium(_look, url, cookies, size, is_dark, act)


def crawl(
    url: str, *, cookies: dict[str, str], is_axe_asked: bool, also: Sequence[str] = ()
) -> dict[str, Seen]:
    """Every page that the admin's side bar leads to, the first object of each list, and ``also``,
    by path. Where axe is asked, the pages are tried at a phone's width too."""
    return in_chromium(_crawl, url, cookies, is_axe_asked, also)


R = TypeVar("R")
P = ParamSpec("P")
_thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
_started: list[Browser] = []


def in_chromium(
    function: Callable[Concatenate[Browser, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call it with this process's one Chromium, started when first needed.

    On a thread of its own: playwright runs an event loop, in which Django refuses the database.
    """

    def work() -> R:
        if not _started or not _started[0].is_connected():
            _started[:] = [
                sync_playwright().start().chromium.launch(executable_path=binary(), args=FLAGS)
            ]
        return function(_started[0], *args, **kwargs)

    return _thread.submit(work).result()


def _crawl(
    chromium: Browser, url: str, cookies: dict[str, str], is_axe_asked: bool, also: Sequence[str]
) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    with opened(chromium, url, cookies) as page:
        waiting = ["/admin/", *also]
        while waiting:
            path = waiting.pop(0)
            if path in found:
                continue
            seen = found[path] = Seen()
            forget = _watch(page, seen, url)
            page.goto(url + path)
            waiting += page.evaluate(LEADS_TO)
            if is_axe_asked:
                seen.serious = serious(page)
                page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
                seen.is_scrolled_sideways = _is_scrolled_sideways(page)
                page.set_viewport_size({"width": LAPTOP[0], "height": LAPTOP[1]})
            seen.is_scrolled_sideways |= _is_scrolled_sideways(page)
            forget()
    return found


@contextmanager
def opened(
    chromium: Browser,
    url: str,
    cookies: dict[str, str],
    size: tuple[int, int] = LAPTOP,
    is_dark: bool = False,
) -> Iterator[Page]:
    context = _new_context(chromium, url, cookies, size, is_dark)
    try:
        yield context.new_page()
    finally:
        context.close()


def _new_context(
    chromium: Browser,
    url: str,
    cookies: dict[str, str],
    size: tuple[int, int],
    is_dark: bool,
) -> BrowserContext:
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if is_dark else "light",
    )
    origin = _origin(url)
    context.add_cookies(
        [{"name": name, "value": value, "url": origin} for name, value in cookies.items()]
    )
    # Two busy cores are slow; what never comes is still told in time.
    context.set_default_timeout(60_000)
    return context


def _watch(page: Page, seen: Seen, url: str) -> Callable[[], None]:
    """Note what goes wrong on the page from now on; returns what ends that."""
    origin = _origin(url)

    def console(said: Any) -> None:
        if said.type == "error":
            seen.errors.append(said.text)

    def error(raised: Any) -> None:
        seen.errors.append(str(raised))

    def request(asked: Any) -> None:
        if not asked.url.startswith((origin, origin.replace("http", "ws", 1), "data:")):
            seen.foreign.append(asked.url)

    listeners: dict[Any, Callable[[Any], None]] = {
        "console": console,
        "pageerror": error,
        "request": request,
    }
    for event, listener in listeners.items():
        page.on(event, listener)

    def forget() -> None:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)

    return forget


def serious(page: Page) -> list[str]:
    """axe-core's serious and critical findings of the page as it is now."""
    return [
        f"{finding['id']}: {node['html'][:120]}"
        for finding in Axe().run(page).response["violations"]
        if finding["impact"] in {"serious", "critical"}
        for node in finding["nodes"]
    ]


def _is_scrolled_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


def _look(
    chromium: Browser,
    url: str,
    cookies: dict[str, str],
    size: tuple[int, int],
    is_dark: bool,
    act: Callable[[Page], Any] | None,
) -> Seen:
    seen = Seen()
    page = _kept_context(chromium, url, cookies, size, is_dark).new_page()
    try:
        _watch(page, seen, url)
        # Scripts that wait for the page have run by then.
        page.goto(url)
        seen.found = act(page) if act else None
        seen.serious = serious(page)
        seen.is_scrolled_sideways = _is_scrolled_sideways(page)
    finally:
        page.close()
    return seen


_kept: dict[Any, BrowserContext] = {}


def _kept_context(chromium: Browser, url: str, *who: Any) -> BrowserContext:
    """One for all looks of somebody, in one session: style sheets are fetched once."""
    key = (chromium, _origin(url), repr(who))
    if key not in _kept:
        for context in _kept.values():
            # Its Chromium may have ended.
            with suppress(Error):
                context.close()
        _kept.clear()
        _kept[key] = _new_context(chromium, url, *who)
    return _kept[key]
