"""OpenAI's Responses API, whole and streamed, without stored state."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from jobs import answering
from jobs.answering import Style, ttl_of
from jobs.calls import Order
from jobs.dialects import responses
from jobs.dialects.responses_schema import ResponsesRequest
from jobs.dialects.responses_wire import ResponsesWire
from jobs.openai_views import client_body, errand_of
from jobs.presentation import OpenAIAnswer
from teams.api import documented, guarded


async def _create(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, ResponsesRequest)
    order = Order(
        messages=responses.chat_messages(body),
        params=responses.chat_params(body),
        model=body.model,
        call_metadata=dict(body.metadata or {}),
        is_stream=bool(body.stream),
        cache_ttl=ttl_of(request, body.cache),
    )
    style = Style(
        whole=partial(responses.answer, body=body),
        wire=lambda call: ResponsesWire(call, body=body),
        tells_cost=True,
    )
    return await answering.answer(errand_of(request, order), style)


async def create_response(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _create, {})


documented(
    create_response,
    method="POST",
    request=ResponsesRequest,
    answers={200: OpenAIAnswer},
    summary="OpenAI's responses",
    description="Plain, or a stream of OpenAI's events with `stream`. Nothing is stored: `store` is"
    " false, and there is no response to go on from.",
)
