"""A proxy in front of the platform that loses requests and answers as it is told to.

    with Flaky(live.url) as proxy:
        proxy.do("lose the answer")
        ... a client of proxy.url ...
        assert len(proxy.seen) == 2

Each request uses up one deed; then all goes well. ``seen`` has each request's path and
idempotency key.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, cast

import httpx

Deed = (
    Literal["lose the request", "lose the answer", "cut the answer", "hang up at once"]
    | int
    | tuple[int, str]
)
_HOPS = {"transfer-encoding", "connection", "content-length", "date"}


@dataclass(frozen=True, slots=True)
class Seen:
    path: str
    key: str | None


class Flaky:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.seen: list[Seen] = []
        self.deeds: deque[Deed] = deque()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.flaky = self  # type: ignore[attr-defined] # for its handlers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def do(self, *deeds: Deed) -> None:
        self.deeds.extend(deeds)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def _relay(self) -> None:
        flaky = cast(Flaky, self.server.flaky)  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        flaky.seen.append(Seen(self.path, self.headers.get("Idempotency-Key")))
        deed = flaky.deeds.popleft() if flaky.deeds else None
        self.close_connection = deed is not None
        if isinstance(deed, int | tuple):
            self._say(*(deed if isinstance(deed, tuple) else (deed, "")))
        elif deed == "hang up at once":
            threading.Thread(target=self._ask, args=(flaky.upstream, content)).start()
        elif deed != "lose the request":
            self._pass_on(flaky.upstream, content, deed)

    def _say(self, status: int, retry_after: str) -> None:
        """A proxy's own words."""
        page = b"<html>not the platform's words</html>"
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _ask(self, upstream: str, content: bytes) -> httpx.Response:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        return httpx.request(
            self.command, upstream + self.path, content=content, headers=headers, timeout=60
        )

    def _pass_on(self, upstream: str, content: bytes, deed: str | None) -> None:
        answer = self._ask(upstream, content)
        if deed == "lose the answer":
            return
        body = answer.content
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if deed == "cut the answer" else body)

    do_GET = do_POST = do_PATCH = _relay  # noqa: N815 - the base class calls them so
