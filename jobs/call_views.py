"""The LLM-call endpoints: plain and streamed, in a job or together with a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from jobs import answering, presentation
from jobs.answering import Style, ttl_of
from jobs.calls import Order
from jobs.intake import Errand
from jobs.schemas import CallRequest, CreateAndCall
from jobs.streaming import JobWire
from jobs.views import asked_job, owner_slug
from saas_litellm.base import http, idempotency
from saas_litellm.base.refusals import MethodNotAllowed
from teams.api import Body, documented, guarded, json_body, signature

_STREAM = {
    (200, "text/event-stream"): OpenApiResponse(
        OpenApiTypes.STR,
        description="Frames `data: {chat.completion.chunk}`; the last before `data: [DONE]` has"
        " usage, job_id, call_id and costs. An error after the first byte is one frame"
        ' `data: {"error": {...}}` and the end of the stream.',
        examples=[
            OpenApiExample(
                "A frame",
                value='data: {"object": "chat.completion.chunk", "model": "demo",'
                ' "choices": [{"index": 0, "delta": {"content": "Hello"}}]}',
            )
        ],
    )
}


def _order(request: HttpRequest, body: CallRequest, *, is_stream: bool) -> Order:
    return Order(
        messages=body.plain_messages(),
        params=body.openai_params(),
        model=body.model,
        purpose=body.purpose,
        call_metadata=body.call_metadata,
        is_stream=is_stream,
        cache_ttl=ttl_of(request, body.cache),
    )


def _errand(
    request: HttpRequest, body: CallRequest, path: dict[str, Any], *, is_stream: bool
) -> Errand:
    """In the job of the path, or in a new one."""
    signed, order = signature(request), _order(request, body, is_stream=is_stream)
    key = idempotency.key_of(request)
    if isinstance(body, CreateAndCall):
        return Errand(
            order=order,
            key=key,
            who=lambda memory: signed.caller(
                team_slug=body.team_id, owner_slug=lambda: None, memory=memory
            ),
            new_job=lambda caller, memory: asked_job(
                caller,
                body,
                {**body.metadata, **body.job_metadata},
                is_single=body.complete,
                memory=memory,
            ),
        )
    return Errand(
        order=order,
        key=key,
        who=lambda memory: signed.caller(
            team_slug=None, owner_slug=lambda: owner_slug(path), memory=memory
        ),
        job_id=path["job_id"],
    )


def _style(request: HttpRequest, *, is_new_job: bool) -> Style:
    request_id = http.request_id(request)
    return Style(
        whole=presentation.created_and_answered if is_new_job else presentation.answered,
        wire=lambda call: JobWire(call, request_id=request_id, is_new_job=is_new_job),
        status=201 if is_new_job else 200,
    )


def _call_endpoint(
    name: str, *, body: type[Body], is_stream: bool, summary: str, description: str
) -> Callable[..., Any]:
    is_new_job = body is CreateAndCall

    async def place(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
        if request.method != "POST":
            raise MethodNotAllowed
        signature(request)
        given = json_body(request, body)
        assert isinstance(given, CallRequest)
        errand = _errand(request, given, path, is_stream=is_stream)
        return await answering.answer(errand, _style(request, is_new_job=is_new_job))

    async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
        return await guarded(request, place, path)

    view.__name__ = name
    plain = {201: presentation.CreatedAndCalled} if is_new_job else {200: presentation.CallAnswer}
    return documented(
        view,
        method="POST",
        request=body,
        answers=_STREAM if is_stream else plain,
        summary=summary,
        description=description,
    )


llm_call = _call_endpoint(
    "llm_call",
    body=CallRequest,
    is_stream=False,
    summary="Make an LLM call in a job",
    description="Credits for the worst case are set aside first; what was used is charged.",
)
llm_call_stream = _call_endpoint(
    "llm_call_stream",
    body=CallRequest,
    is_stream=True,
    summary="Stream an LLM call in a job",
    description="Leaving the stream stops the model; what was produced is charged.",
)
create_and_call = _call_endpoint(
    "create_and_call",
    body=CreateAndCall,
    is_stream=False,
    summary="Create a job and make its first call",
    description="Both answers in one. The job stays open for more calls, and is completed as"
    " usual; with `complete` it ends with this call.",
)
create_and_call_stream = _call_endpoint(
    "create_and_call_stream",
    body=CreateAndCall,
    is_stream=True,
    summary="Create a job and stream its first call",
    description="The first frame carries job_id and call_id; with `complete` the job ends with"
    " the stream.",
)
