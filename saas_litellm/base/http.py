"""JSON over HTTP: bodies in, answers and errors out, one format everywhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any, Protocol

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from saas_litellm.base.ids import new_id
from saas_litellm.base.money import plain
from saas_litellm.base.refusals import InvalidJson, Refusal, UnsupportedMediaType


def encode(body: Any) -> bytes:
    """JSON bytes; a Decimal is written as the exact number it is."""
    return orjson.dumps(body, default=_exact, option=orjson.OPT_UTC_Z)


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        encode(body), content_type="application/json", status=status, headers=headers
    )


class EventStream(StreamingHttpResponse):
    """Server-sent events, bytes as they are made: no proxy keeps them back."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, content_type="text/event-stream")
        # For who sends them without what Django puts around each part.
        self.events = events
        self["Cache-Control"] = "no-cache"
        self["X-Accel-Buffering"] = "no"


def error_body(refusal: Refusal, *, request_id: str) -> dict[str, Any]:
    return {
        "error": {
            "message": refusal.message,
            "type": refusal.type,
            "code": refusal.code,
            "param": refusal.param,
            "request_id": request_id,
            **refusal.figures,
        }
    }


class ErrorBody(Protocol):
    """How a protocol writes an error."""

    def __call__(self, refusal: Refusal, *, request_id: str) -> dict[str, Any]: ...


def refuse(
    refusal: Refusal, *, request_id: str, error_body: ErrorBody = error_body
) -> HttpResponse:
    response = answer(
        error_body(refusal, request_id=request_id), status=refusal.status, headers=refusal.headers
    )
    if refusal.retry_after_seconds is not None:
        response["Retry-After"] = str(refusal.retry_after_seconds)
    if refusal.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


def new_request_id() -> str:
    return f"req_{new_id().hex}"


def request_id(request: HttpRequest) -> str:
    """The id that ErrorMiddleware gave this request."""
    return str(getattr(request, "request_id", ""))


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object. Raises UnsupportedMediaType or InvalidJson."""
    if request.content_type != "application/json":
        raise UnsupportedMediaType
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson from error
    if not isinstance(body, dict):
        raise InvalidJson("The body must be a JSON object.")
    return body


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(plain(value), "f"))
    raise TypeError(f"{type(value).__name__} has no JSON form")
