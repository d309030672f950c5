"""One error format on every path, and a request id on every answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from jobs.dialects import messages
from saas_litellm.base import http
from saas_litellm.base.refusals import (
    Forbidden,
    InternalError,
    Invalid,
    NotFound,
    PayloadTooLarge,
    Refusal,
    Unavailable,
)
from saas_litellm.base.telemetry import context

logger = logging.getLogger(__name__)
API_PREFIXES = ("/api/", "/v1/", "/healthz", "/readyz", "/metrics")
DATABASE_RETRY_SECONDS = 5


class ErrorMiddleware:
    """Outermost: names the request and turns every Refusal, and every accident, into JSON."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        request.request_id = http.new_request_id()  # type: ignore[attr-defined]
        context.bind(request_id=http.request_id(request))
        if self.is_async:
            return self._named_later(request, self.get_response(request))
        return _named(request, self.get_response(request))

    async def _named_later(
        self, request: HttpRequest, response: Awaitable[HttpResponseBase]
    ) -> HttpResponseBase:
        return _named(request, await response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return response_for(request, exception)


def response_for(request: HttpRequest, exception: BaseException) -> HttpResponse | None:
    """The answer to an exception; None leaves it to Django (pages for people)."""
    if isinstance(exception, asyncio.CancelledError):
        return None
    if isinstance(exception, RequestDataTooBig):
        exception = PayloadTooLarge()
    if not isinstance(exception, Refusal):
        if not request.path_info.startswith(API_PREFIXES):
            return None
        logger.error("%s failed", http.request_id(request), exc_info=exception)
        exception = _accident(exception)
    is_anthropic = request.path_info.startswith("/v1/messages")
    return http.refuse(
        exception,
        request_id=http.request_id(request),
        error_body=messages.error_body if is_anthropic else http.error_body,
    )


def _accident(exception: BaseException) -> Refusal:
    """What an exception that nobody expected is told as."""
    if isinstance(exception, OperationalError):
        return Unavailable(
            "The platform's database does not answer. Try again shortly.",
            retry_after_seconds=DATABASE_RETRY_SECONDS,
        )
    return InternalError()


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return http.refuse(
        NotFound("There is nothing at this address."), request_id=http.request_id(request)
    )


def unknown_path(request: HttpRequest, path: str = "") -> HttpResponse:
    """The last URL pattern, so that DEBUG's own 404 page never shows."""
    return not_found(request)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return http.refuse(Invalid(), request_id=http.request_id(request))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return http.refuse(Forbidden(), request_id=http.request_id(request))


def server_error(request: HttpRequest) -> HttpResponse:
    return http.refuse(InternalError(), request_id=http.request_id(request))


def _named(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.headers["X-Request-Id"] = http.request_id(request)
    return response
