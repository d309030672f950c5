"""The LLM-call endpoints: plain and streamed, in a job or together with a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from jobs import calls, closing, lifecycle, metering, presentation, streaming
from jobs.calls import OpenCall, Order
from jobs.models import Job
from jobs.schemas import CallRequest, CreateAndCall
from jobs.views import open_job, owner_slug
from saas_litellm.base import http
from saas_litellm.base.refusals import MethodNotAllowed
from teams.api import Body, Signature, documented, guarded, json_body, signature

Admit = Callable[[], OpenCall]
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


def _order(body: CallRequest, *, is_stream: bool) -> Order:
    return Order(
        messages=body.plain_messages(),
        params=body.openai_params(),
        model=body.model,
        purpose=body.purpose,
        call_metadata=body.call_metadata,
        is_stream=is_stream,
    )


def _in_job(signed: Signature, order: Order, job_id: UUID) -> Admit:
    def admit() -> OpenCall:
        caller = signed.caller(team_slug=None, owner_slug=lambda: owner_slug({"job_id": job_id}))
        lifecycle.check_metadata(order.call_metadata or {})
        job = lifecycle.find(team=caller.team, job_id=job_id)
        return calls.open_call(job=job, api_key=caller.api_key, order=order)

    return admit


def _in_new_job(signed: Signature, order: Order, body: CreateAndCall) -> Admit:
    def admit() -> OpenCall:
        caller = signed.caller(team_slug=body.team_id, owner_slug=lambda: None)
        lifecycle.check_metadata(order.call_metadata or {})
        job = open_job(caller, body, {**body.metadata, **body.job_metadata})
        try:
            return calls.open_call(job=job, api_key=caller.api_key, order=order)
        except Exception:
            # The caller never learns this job's id, so it must not stay open with credits held.
            closing.close(
                job=job,
                status=Job.Status.FAILED,
                actor=caller.actor,
                error_message="its first call was refused",
            )
            raise

    return admit


async def _plain(admit: Admit, order: Order, *, is_new_job: bool) -> HttpResponseBase:
    run = metering.start(order=order, admit=admit)
    answer, call = await metering.finished(run)
    opened = await run.admitted
    body = presentation.answered(call=call, alias=opened.alias.name, answer=answer)
    if is_new_job:
        body = {**presentation.created(opened.job), "status": Job.Status.IN_PROGRESS, **body}
        return http.answer(body, status=201)
    return http.answer(body)


async def _streamed(
    request: HttpRequest, admit: Admit, order: Order, *, is_new_job: bool
) -> HttpResponseBase:
    run = metering.start(order=order, admit=admit)
    opening: dict[str, Any] = {}

    def introduce(opened: OpenCall) -> None:
        opening.update(presentation.created(opened.job), call_id=opened.call.pk)

    if is_new_job:
        run.admitted.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else introduce(done.result())
        )
    return await streaming.respond(run, request_id=http.request_id(request), opening=opening)


def _call_endpoint(
    name: str, *, body: type[Body], is_stream: bool, summary: str, description: str
) -> Callable[..., Any]:
    is_new_job = body is CreateAndCall

    async def place(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
        if request.method != "POST":
            raise MethodNotAllowed
        signed = signature(request)
        given = json_body(request, body)
        assert isinstance(given, CallRequest)
        order = _order(given, is_stream=is_stream)
        admit = (
            _in_new_job(signed, order, given)
            if isinstance(given, CreateAndCall)
            else _in_job(signed, order, path["job_id"])
        )
        if is_stream:
            return await _streamed(request, admit, order, is_new_job=is_new_job)
        return await _plain(admit, order, is_new_job=is_new_job)

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
    description="Both answers in one. The job stays open for more calls; complete it as usual.",
)
create_and_call_stream = _call_endpoint(
    "create_and_call_stream",
    body=CreateAndCall,
    is_stream=True,
    summary="Create a job and stream its first call",
    description="The first frame carries job_id and call_id.",
)
