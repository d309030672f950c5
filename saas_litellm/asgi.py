"""The ASGI application: what is common to all requests lies here, outside Django's handler.

API paths have a handler of their own (`api_handler`), pages Django's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saas_litellm.settings")

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

django.setup(set_prefix=False)
# Warnings of Python's are log lines too.
logging.captureWarnings(capture=True)

from jobs import gateway, metering
from jobs.following import socket as following_socket
from jobs.following.feed import feed as following
from saas_litellm import checks, worker
from saas_litellm.api_handler import ApiHandler, Receive, Scope, Send
from saas_litellm.base import http
from saas_litellm.base.refusals import PayloadTooLarge
from saas_litellm.base.telemetry import tracing
from saas_litellm.errors import API_PREFIXES
from saas_litellm.live.socket import PATH as LIVE_PATH
from saas_litellm.live.socket import LiveSocket
from saas_litellm.observing import requests

logger = logging.getLogger("saas_litellm")
# New objects before the collector looks for cycles among them: those of some calls in flight, where
# Python's own 700 are fewer than one has.
YOUNG_OBJECTS = 20_000


class Application:
    """Lifespan, the size of bodies, and which of the handlers answers."""

    def __init__(self) -> None:
        self.live = LiveSocket()
        self.api = ApiHandler()
        self.pages = ASGIHandler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.live)
            return
        if scope["type"] == "websocket" and scope["path"] == LIVE_PATH:
            await self.live(scope, receive, send)
            return
        if scope["type"] == "websocket" and (job_id := following_socket.job_of(scope["path"])):
            await following_socket.serve(job_id, scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        if _declared_length(scope) > settings.MAX_BODY_BYTES:
            await _refuse_body(send)
            return
        handler = self.api if scope["path"].startswith(API_PREFIXES) else self.pages
        limited = BoundedBody(receive)
        try:
            await requests.observe(handler, scope, limited.receive, send)
        except _TooLarge:
            await _refuse_body(send)


class _TooLarge(Exception):
    pass


class BoundedBody:
    """Counts a body that did not declare its length, and stops reading past the limit."""

    __slots__ = ("_receive", "_seen")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > settings.MAX_BODY_BYTES:
            raise _TooLarge
        return message


async def lifespan(receive: Receive, send: Send, live: LiveSocket) -> None:
    """Start-up: refuse an unsafe configuration, warm litellm up. Shutdown: settle what runs."""
    background: worker.Thread | None = None
    stopping = Stopping()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            problem = checks.refusal_to_serve()
            if problem:
                await send(
                    {
                        "type": "lifespan.startup.failed",
                        "message": f"Refusing to serve.\n{problem}\nLocally, `make run` sets all of it.",
                    }
                )
                return
            for doubt in checks.doubts():
                logger.warning(doubt)
            tracing.start()
            # Importing litellm takes seconds: on a thread, while the first requests are served.
            if settings.WARM_UP:
                asyncio.get_running_loop().run_in_executor(None, _warm_up)
            background = worker.Thread.started() if settings.EMBEDDED else None
            _when_stopped(following.close, stopping.begin)
            await send({"type": "lifespan.startup.complete"})
        else:
            live.feed.close()
            following.close()
            await stopping.ended()
            if background is not None:
                background.stop()
            await gateway.shut_down()
            await asyncio.to_thread(tracing.stop)
            await send({"type": "lifespan.shutdown.complete"})
            return


def _warm_up() -> None:
    """Load what calls need; the collector of cycles need not look at it again and again.

    A look at all of litellm takes a tenth of a second, in which nobody is answered.
    """
    gateway.warm_up()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


class Stopping:
    """The end of this process's calls: they settle, or are stopped as the grace ends; once."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        metering.close()
        self._task = self._task or asyncio.create_task(self._drain(), name="drain")

    async def ended(self) -> None:
        self.begin()
        assert self._task is not None
        await self._task

    async def _drain(self) -> None:
        stopped = await metering.drain(settings.SHUTDOWN_GRACE_SECONDS)
        if stopped:
            logger.warning("stopped %d calls at shutdown; each is settled", stopped)


def _when_stopped(*begin: Callable[[], None]) -> None:
    """On the signal itself: the server says that it stops only after the last open answer."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):

            def pass_on(number: int, frame: Any, then: Callable[..., Any] = before) -> None:
                for one in begin:
                    loop.call_soon_threadsafe(one)
                then(number, frame)

            signal.signal(number, pass_on)


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse_body(send: Send) -> None:
    request_id = http.new_request_id()
    refusal = PayloadTooLarge(f"The body is larger than {settings.MAX_BODY_BYTES} bytes.")
    response = http.refuse(refusal, request_id=request_id)
    headers = {**response.headers, "X-Request-Id": request_id, "Connection": "close"}
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": response.content})


if checks.is_without_secret():
    # One line: the server would write how it came here above anything that is raised.
    sys.exit(
        "SECRET_KEY is not set. Locally, start with `make run`, which writes var/local.env; in"
        " production set SECRET_KEY, API_KEY_PEPPER and ENCRYPTION_KEYS (docs/settings.md)."
    )
application = Application()
