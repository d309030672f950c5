"""The documentation as a site at /help/: built strictly, served to anybody, from this host alone."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from django.test import AsyncClient, Client
from playwright.sync_api import sync_playwright

from tests import browser
from tests.conftest import ROOT, Live
from tests.saas_litellm.test_browser import pytestmark as in_a_browser
from tests.saas_litellm.test_content_policy import policy
from tests.teams.test_roles import person

pytestmark = pytest.mark.any_database

PAGES = [
    "/help/",
    "/help/quickstart.html",
    "/help/settings.html",
    "/help/reference/api-jobs.html",
]
# Pages of other hosts that a reader may follow a link to: prices, exports, whoever explains them.
LINKED = {
    "developers.openai.com",
    "help.openai.com",
    "support.claude.com",
    "www.standardwebhooks.com",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-n", "-b", "html", "-d", str(folder / "doctrees")]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", str(folder / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    print(f"built in {time.monotonic() - began:.1f} s")
    return folder / "html"


@pytest.fixture
def reader(site: Path, settings: Any, pages_served: None) -> Client:
    """Somebody who is not signed in."""
    settings.HELP_ROOT = site
    return Client()


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    docs = shutil.copytree(
        ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "*.png")
    )
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    for page in docs.rglob("*.md"):
        page.unlink()
    (docs / "index.md").write_text("# Help\n\n[nowhere](settings.md#no-such-heading)\n")
    (docs / "settings.md").write_text("---\norphan: true\n---\n\n# Settings\n")
    options = ["-q", "-W", "-n", "-b", "html"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(docs), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode != 0
    assert "no-such-heading" in done.stderr


class _Told(HTMLParser):
    """What a page loads, where it leads, and what in it is inline."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.inline: list[str] = []
        self._is_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_script = tag == "script"
        if tag == "style" or "style" in given or any(name.startswith("on") for name in given):
            self.inline.append(str(self.get_starttag_text()))
        for name in ("src", "srcset", "data", "action", "poster"):
            self.loaded.append(given.get(name) or "")
        (self.linked if tag == "a" else self.loaded).append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        if self._is_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False


def told(page: Path) -> _Told:
    parser = _Told()
    parser.feed(page.read_text())
    return parser


def test_every_page_is_in_the_site(site: Path) -> None:
    written = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").glob("**/*.md")}
    written = {page for page in written if page.parts[0] != "_build"}
    missing = {page for page in written if not (site / page.with_suffix(".html")).is_file()}
    assert missing == set()
    assert len(written) > 30


def test_no_page_has_anything_inline_or_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = told(page)
        assert found.inline == [], page
        assert [url for url in found.loaded if urlsplit(url).netloc] == [], page
        hosts = {urlsplit(url).netloc for url in found.linked} - {"", "localhost:8003"}
        assert hosts <= LINKED, page


def test_no_style_sheet_or_script_names_another_host(site: Path) -> None:
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        loads = re.findall(r"(?:url\(|@import|fetch\(|src\s*=)[\"'\s]*(?:https?:)?//", text)
        assert loads == [], path


@pytest.mark.parametrize("is_debug", [True, False])
def test_anybody_reads_it_without_a_query(
    settings: Any,
    site: Path,
    pages_served: None,
    django_assert_num_queries: Any,
    is_debug: bool,
    db: None,
) -> None:
    settings.HELP_ROOT, settings.DEBUG = site, is_debug
    reader = Client()
    with django_assert_num_queries(0):
        page = reader.get("/help/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, 'text/html; charset="utf-8"')
    assert b"SaaS LiteLLM" in b"".join(page.streaming_content)
    assert not page.cookies
    assert urljoin("/help", reader.get("/help").headers["Location"]) == "/help/"


def test_each_kind_of_file_has_its_type_and_the_strict_policy(reader: Client) -> None:
    kinds = {
        "/help/ideas.html": "text/html",
        "/help/_static/colours.css": "text/css",
        "/help/_static/theme.js": "text/javascript",
        "/help/_images/overview.png": "image/png",
        "/help/_images/ideas-job.svg": "image/svg+xml",
    }
    strict = policy(reader, "/nothing/here")
    for path, kind in kinds.items():
        answer = reader.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert policy(reader, path) == strict


def test_a_browser_that_has_a_page_gets_it_once(reader: Client) -> None:
    first = reader.get("/help/ideas.html")
    assert first.headers["Cache-Control"] == "max-age=60, public"
    again = reader.get("/help/ideas.html", HTTP_IF_NONE_MATCH=first.headers["ETag"])
    assert (again.status_code, b"".join(again.streaming_content)) == (304, b"")
    assert reader.post("/help/ideas.html").status_code == 405


def test_files_leave_part_by_part_under_an_async_server(
    tmp_path: Path, settings: Any, pages_served: None
) -> None:
    settings.HELP_ROOT = tmp_path
    (tmp_path / "large.bin").write_bytes(large := os.urandom(600_000))

    async def read(**headers: str) -> tuple[int, list[bytes]]:
        response = await AsyncClient().get("/help/large.bin", headers=headers)
        return response.status_code, [part async for part in response]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="StreamingHttpResponse")
        status, parts = asyncio.run(read())
        assert (status, b"".join(parts), len(parts)) == (200, large, 3)
        assert asyncio.run(read(Range="bytes=10-19")) == (206, [large[10:20]])


def test_a_page_that_is_not_there_is_said_so(reader: Client) -> None:
    answer = reader.get("/help/no-such-page.html")
    assert answer.status_code == 404
    assert b"There is no such page" in answer.content
    assert b"make docs" not in answer.content


def test_where_it_was_not_built_it_says_how(
    settings: Any, tmp_path: Path, pages_served: None, db: None
) -> None:
    settings.HELP_ROOT = tmp_path / "nothing"
    answer = Client().get("/help/")
    assert answer.status_code == 404
    assert b"make docs" in answer.content
    assert policy(Client(), "/help/")["script-src"] == ["'self'"]


def test_while_it_is_built_it_says_so(
    settings: Any, tmp_path: Path, pages_served: None, db: None
) -> None:
    settings.HELP_ROOT = tmp_path / "html"
    mark = tmp_path / "building"
    mark.touch()
    answer = Client().get("/help/")
    assert answer.status_code == 404
    assert b"is being built" in answer.content
    assert b"make docs" not in answer.content
    os.utime(mark, (0, 0))
    assert b"make docs" in Client().get("/help/").content


def test_the_side_bar_of_the_admin_leads_to_it_whatever_the_role(
    client: Client, pages_served: None, db: None
) -> None:
    client.force_login(person("vera", "viewer"))
    assert client.get("/admin/").content.count(b'href="/help/"') == 1


def test_nothing_outside_the_site_is_served(site: Path, spawned: Any) -> None:
    secret = site.parent / "secret.txt"
    secret.write_text("kept")
    paths = [
        "/help/../secret.txt",
        "/help/%2e%2e/secret.txt",
        "/help/..%2fsecret.txt",
        "/help/_static/../../secret.txt",
        "/help/_static/..%2f..%2fsecret.txt",
        "/help/..%5csecret.txt",
        f"/help/{secret}",
        f"/help//{secret}",
        "/help/%00",
    ]
    for is_debug in ("1", "0"):
        server: Live = spawned(
            DEBUG=is_debug, HELP_ROOT=str(site), ALLOWED_HOSTS="127.0.0.1", SECURE_SSL_REDIRECT="0"
        )
        assert _raw(server, "/help/ideas.html")[0] == 200
        for path in paths:
            status, body = _raw(server, path)
            assert status in {301, 302, 400, 404, 422}, (path, status)
            assert b"kept" not in body


def _raw(server: Live, path: str) -> tuple[int, bytes]:
    """A path as it is, which clients would tidy up."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("GET", path, skip_host=False)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.fixture
def served(site: Path, paged: Any) -> Live:
    live: Live = paged(HELP_ROOT=str(site))
    return live


class TestInABrowser:
    pytestmark = in_a_browser

    @pytest.mark.parametrize(
        ("size", "is_dark"),
        [(browser.LAPTOP, False), (browser.LAPTOP, True), (browser.PHONE, False)],
        ids=["laptop", "dark", "phone"],
    )
    def test_its_pages_are_well(self, served: Live, size: tuple[int, int], is_dark: bool) -> None:
        for path in PAGES:
            seen = browser.look(f"{served.url}{path}", cookies={}, size=size, is_dark=is_dark)
            assert (path, seen.errors, seen.foreign, seen.serious) == (path, [], [], [])
            assert not seen.is_scrolled_sideways, path

    def test_dark_is_dark_and_can_be_chosen(self, served: Live) -> None:
        def colours(page: Any) -> tuple[str, str]:
            background = "getComputedStyle(document.body).backgroundColor"
            before = page.evaluate(background)
            # From what the system says to light.
            page.click(".theme-toggle-content .theme-toggle")
            page.reload()
            return before, page.evaluate(background)

        seen = browser.look(f"{served.url}/help/", cookies={}, is_dark=True, act=colours)
        dark, light = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen.found)
        assert dark < 150
        assert light > 600

    def test_a_search_finds(self, served: Live) -> None:
        def search(page: Any) -> int:
            page.fill(".sidebar-search", "overrun")
            page.press(".sidebar-search", "Enter")
            page.wait_for_selector("#search-results li a")
            return int(page.locator("#search-results li a").count())

        seen = browser.look(f"{served.url}/help/", cookies={}, act=search)
        assert seen.found > 2
        assert (seen.errors, seen.foreign) == ([], [])

    def test_it_is_read_without_a_script(self, served: Live) -> None:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=browser.binary(), args=browser.FLAGS
            )
            page = chromium.new_context(
                java_script_enabled=False, viewport={"width": 1440, "height": 900}
            ).new_page()
            page.goto(f"{served.url}/help/")
            page.click(".sidebar-tree >> text=Error")
            assert page.url.endswith("/help/errors.html")
            assert "insufficient_credits" in page.inner_text("article")
            page.click(".toc-drawer >> text=Codes")
            page.goto(f"{served.url}/help/reference/api-jobs.html")
            assert page.is_visible("text=POST /api/jobs/create")
            page.goto(f"{served.url}/help/ideas.html")
            sizes = page.locator("article img").all()
            assert len(sizes) == 3
            assert all((image.bounding_box() or {}).get("height", 0) > 100 for image in sizes)
            chromium.close()
