"""GET /api/jobs/{job_id}/events: a job's status as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from jobs.following import entrance
from jobs.following.entrance import Opening
from jobs.following.feed import Reader, feed
from jobs.following.looking import Step
from jobs.streaming import KEEP_ALIVE
from jobs.streaming import event as data_frame
from saas_litellm.base import http
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import MethodNotAllowed, Refusal
from teams.api import Query, documented, guarded, parse, query_of, signature

_RETRY = b"retry: 2000\n\n"


class FollowQuery(Query):
    last_event_id: str | None = None


async def _follow(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    if request.method != "GET":
        raise MethodNotAllowed
    signed = signature(request)
    asked = parse(FollowQuery, query_of(request)).last_event_id
    last_id = entrance.last_id_of(request.headers.get("Last-Event-ID") or asked)
    opening = await in_database(entrance.enter, signed, path["job_id"], last_id)
    if not opening.first and opening.known.is_last:
        # What makes a browser stop coming back.
        return HttpResponse(status=204)
    reader = Reader(
        job_id=path["job_id"], team_slug=opening.team_slug, signed=signed, sent=opening.known
    )
    feed.require_room()
    return http.EventStream(_frames(reader, opening, http.request_id(request)))


async def _frames(reader: Reader, opening: Opening, request_id: str) -> AsyncGenerator[bytes]:
    try:
        # Not sooner: an answer that nobody reads would never leave.
        if not opening.known.is_last:
            feed.join(reader)
        yield _RETRY + b"".join(map(_frame, opening.first))
        step: Step | None = opening.known
        while step is None or not step.is_last:
            step = await reader.next(settings.KEEP_ALIVE_SECONDS)
            yield KEEP_ALIVE if step is None else _frame(step)
    except Refusal as refusal:
        yield data_frame(http.error_body(refusal, request_id=request_id))
    finally:
        feed.leave(reader)


def _frame(step: Step) -> bytes:
    return f"id: {step.id}\nevent: status\n".encode() + data_frame(dict(step.said))


async def follow_job(request: HttpRequest, **path: Any) -> HttpResponseBase:
    return await guarded(request, _follow, path)


documented(
    follow_job,
    method="GET",
    request=None,
    query=FollowQuery,
    answers={
        (200, "text/event-stream"): OpenApiResponse(
            OpenApiTypes.STR,
            description="Frames `event: status`, each with an id and"
            " `data: {job_id, from, status, at, reason}`; the first is the present status. It ends"
            " with the job. The header Last-Event-ID (or last_event_id) resumes after a frame.",
        ),
        204: OpenApiResponse(description="The job is closed, and its last frame was seen."),
    },
    summary="Follow a job's status",
    description="Server-sent events, a comment every 15 s of silence. The same over a WebSocket:"
    " /api/jobs/{job_id}/ws.",
)
