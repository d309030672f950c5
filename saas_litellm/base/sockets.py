"""What WebSockets have in common with requests: who opens one, and how it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any

from django.core.handlers.asgi import ASGIRequest

from saas_litellm.base import http
from saas_litellm.base.refusals import Refusal

_ANSWER = "websocket.http.response"


def request_of(scope: dict[str, Any]) -> ASGIRequest:
    """The opening request of a socket as the request of a page that it is but for its method."""
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
    return ASGIRequest({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())


async def refuse(
    refusal: Refusal, scope: dict[str, Any], send: Callable[[Mapping[str, Any]], Awaitable[None]]
) -> None:
    """Answer the opening request with a refusal, as any other; where the server cannot, close."""
    if _ANSWER not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    request_id = http.new_request_id()
    answer = http.refuse(refusal, request_id=request_id)
    headers = {**answer.headers, "X-Request-Id": request_id}
    await send(
        {
            "type": f"{_ANSWER}.start",
            "status": answer.status_code,
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }
    )
    await send({"type": f"{_ANSWER}.body", "body": answer.content})
