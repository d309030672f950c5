"""The TypeScript client: installed, built, and run against a platform whose model is scripted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, cast

from filelock import FileLock

from tests.clients import programs
from tests.providers.server import ProviderServer, Reply

PACKAGE = Path(__file__).resolve().parents[2] / "clients/typescript"
LOCK = PACKAGE / "package-lock.json"
_BUILT, _COMPILED = PACKAGE / "dist/.built", PACKAGE / "build/.compiled"


def build() -> None:
    """Install and compile, once for all test processes and for each state of the sources."""
    programs.install(PACKAGE)
    with FileLock(PACKAGE / ".install.lock"):
        state = _state()
        if not _BUILT.exists() or _BUILT.read_text() != state:
            run("npm", "run", "--silent", "build")
            _BUILT.write_text(state)


def compile_documents(schema: str) -> None:
    """The README's examples and the others, and the contract with the schema; likewise once."""
    with FileLock(PACKAGE / ".install.lock"):
        state = _state(schema)
        if not _COMPILED.exists() or _COMPILED.read_text() != state:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(schema)
                file.flush()
                run("node", "test/documents.mjs", file.name)
            _COMPILED.write_text(state)


def run(*command: str, seconds: float = 120, **environment: str) -> str:
    """What the command wrote; it must end well."""
    done = subprocess.run(
        command,
        cwd=PACKAGE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _state(schema: str = "") -> str:
    """Of everything that what is built is made of."""
    sources = ("*.json", "*.md", "src/*", "scripts/*", "examples/*", "test/*")
    files = sorted(file for pattern in sources for file in PACKAGE.glob(pattern))
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in files) + schema.encode()
    ).hexdigest()


class Strings:
    """The provider's strings in the hands of another process, over HTTP.

    POST /script takes a list of a Reply's fields and forgets what was asked before; GET /seen tells
    what reached the provider since then.
    """

    def __init__(self, provider: ProviderServer) -> None:
        self.provider = provider
        self.seen_before = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.strings = self  # type: ignore[attr-defined] # for its handlers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

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
    def log_message(self, *_: Any) -> None: ...

    @property
    def strings(self) -> Strings:
        return cast(Strings, self.server.strings)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        replies = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        provider = self.strings.provider
        self.strings.seen_before = len(provider.requests)
        provider.script_anew(*(Reply(**reply) for reply in replies))
        self._say([])

    def do_GET(self) -> None:
        seen = self.strings.provider.requests[self.strings.seen_before :]
        names = ("json", "frames_sent", "is_abandoned")
        self._say([{name: getattr(one, name) for name in names} for one in seen])

    def _say(self, told: Any) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
