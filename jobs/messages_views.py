"""Anthropic's Messages API: its clients change their base URL and key, and nothing else."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from jobs import answering
from jobs.answering import Style, ttl_of
from jobs.calls import Order
from jobs.dialects import messages
from jobs.dialects.messages import MessagesWire
from jobs.dialects.messages_schema import MessagesRequest
from jobs.openai_views import client_body, errand_of
from jobs.presentation import MessageAnswer
from saas_litellm.base import http
from teams.api import documented, guarded


async def _create(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, MessagesRequest)
    order = Order(
        messages=messages.chat_messages(body),
        params=messages.chat_params(body),
        model=body.model,
        call_metadata=body.metadata.model_dump(exclude_none=True) if body.metadata else {},
        is_stream=bool(body.stream),
        cache_ttl=ttl_of(request, body.cache),
    )
    request_id = http.request_id(request)
    style = Style(
        whole=messages.answer,
        wire=lambda call: MessagesWire(call, request_id=request_id),
        tells_cost=True,
    )
    return await answering.answer(errand_of(request, order), style)


async def create_message(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _create, {}, error_body=messages.error_body)


documented(
    create_message,
    method="POST",
    request=MessagesRequest,
    answers={200: MessageAnswer},
    summary="Anthropic's messages",
    description="Plain, or a stream of Anthropic's events with `stream`. The key may come as"
    " `x-api-key`. Errors have Anthropic's shape. `thinking` becomes an effort: up to 4,096 tokens"
    " low, up to 16,384 medium, above high.",
)
