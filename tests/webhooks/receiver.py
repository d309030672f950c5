"""A receiver of webhooks over real HTTP that does as it is told: answers, is slow, cuts, redirects."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    # Close the connection without an answer.
    is_cut: bool = False
    # Send the body byte by byte, so many seconds apart.
    drip: float = 0


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def message(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """``default`` is what it answers with, unless ``reply`` says something else of a message."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.default = Reply()
        self.reply: Callable[[Got], Reply | None] = lambda got: None
        self.in_hand = 0
        self.most_in_hand = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._take(self, Got(self.path, headers, body, time.monotonic()))

            def do_GET(self) -> None:
                receiver._take(self, Got(self.path, {}, b"", time.monotonic()))

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hooks"

    def _take(self, handler: BaseHTTPRequestHandler, got: Got) -> None:
        with self._lock:
            self.got.append(got)
            self.in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            self._answer(handler, self.reply(got) or self.default)
        except OSError:
            handler.close_connection = True
        finally:
            with self._lock:
                self.in_hand -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.delay)
        if reply.is_cut:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if not reply.drip:
            handler.wfile.write(reply.body)
            return
        for number in range(len(reply.body)):
            handler.wfile.write(reply.body[number : number + 1])
            handler.wfile.flush()
            time.sleep(reply.drip)

    @property
    def ids(self) -> list[str]:
        return [got.id for got in self.got]


def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver._server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield receiver
    receiver._server.shutdown()
    receiver._server.server_close()
