"""Django's handler for API paths, without what those paths do not use.

No endpoint behind it hops threads but through the bounded pool, which looks after its own database
connections. So there is no thread of its own for an open request (with Django's default 200 open
streams keep 200 threads), and none of the signals around a request, whose receivers would look
after connections that a request does not have, at two thread hops each.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix
from django.utils.log import log_response
from django.utils.module_loading import import_string

from saas_litellm.base import http

_MOST_FIXED = 256
Answer = HttpResponse | StreamingHttpResponse
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class ApiHandler(ASGIHandler):
    """A request through API_MIDDLEWARE to its view, and its answer."""

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's
        super().load_middleware(is_async=is_async)
        chain: Any = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        for path in reversed(settings.API_MIDDLEWARE):
            chain = convert_exception_to_response(import_string(path)(chain))
        self._middleware_chain = chain
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._fixed: dict[str, ResolverMatch] = {}

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Addresses without a variable part are few, and each is looked for once."""
        found = self._fixed.get(request.path_info)
        if found is None:
            found = super().resolve_request(request)
            if not found.kwargs and len(self._fixed) < _MOST_FIXED:
                self._fixed[request.path_info] = found
        request.resolver_match = found
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and stop as soon as the client has left."""
        try:
            bodies = [await _body(receive)]
        except RequestAborted:
            return
        current = asyncio.current_task()
        assert current is not None, "a server runs each request in a task"
        watching = asyncio.create_task(_cancel_when_left(receive, current))
        try:
            # A stream may last for long: what was asked need not.
            await _send(await self._answer(scope, bodies.pop()), send)
        except asyncio.CancelledError:
            if not watching.done():
                raise
            current.uncancel()
        finally:
            watching.cancel()

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Django's, but for the thread that it writes its line of a refusal on, for the URLs of this
        task, which are everybody's, and for the request's end, which ``_answer`` sees to."""
        response: HttpResponseBase = await self._middleware_chain(request)
        if response.status_code >= 400:
            said = (response.reason_phrase, request.path)
            log_response("%s: %s", *said, response=cast(HttpResponse, response), request=request)
        return response

    async def _answer(self, scope: Scope, body: io.BytesIO) -> Answer:
        if prefix := get_script_prefix(scope):
            set_script_prefix(prefix)
        request, refused = self.create_request(scope, body)
        if request is None:
            return cast(HttpResponse, refused)
        try:
            return cast(Answer, await self.get_response_async(request))
        finally:
            request.close()


async def _cancel_when_left(receive: Receive, answering: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


async def _body(receive: Receive) -> io.BytesIO:
    """The whole body, whose size the application has bounded. Raises RequestAborted."""
    body = io.BytesIO()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        body.write(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body.seek(0)
    return body


async def _send(response: Answer, send: Send) -> None:
    """No answer of the API sets a cookie."""
    await send(_start(response))
    if isinstance(response, HttpResponse):
        await send({"type": "http.response.body", "body": response.content})
        return
    if isinstance(response, http.EventStream):
        parts = response.events
    else:
        parts = cast(AsyncGenerator[bytes], aiter(response))
    # A stream may last for long: its headers need not.
    del response
    async with aclosing(parts):
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            # Nor this, while it waits for the next.
            del part
    await send({"type": "http.response.body"})


def _start(response: Answer) -> dict[str, Any]:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
