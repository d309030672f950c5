"""Usage events over HTTP, for the back end that feeds a metering service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from django.http import StreamingHttpResponse
from pydantic import BaseModel, Field

from jobs import usage_export
from jobs.usage_export import Span
from saas_litellm.base import http
from saas_litellm.base.bridge import in_database
from teams import directory
from teams.api import Query
from teams.operator_api import Moment, management
from teams.operators import Operator


class UsageEvents(Query):
    format: Literal["openmeter", "lago"]
    start: Moment = Field(description="The first moment; UTC unless it says otherwise.")
    end: Moment = Field(description="The first moment that is not meant any more.")
    team_id: str | None = Field(None, max_length=63)
    after: str = Field("", max_length=60, description="Go on after the event of this id.")


class UsageEventLine(BaseModel):
    """One line, in the service's own shape."""

    id: str | None = Field(None, description="OpenMeter: the event's id.")
    transaction_id: str | None = Field(None, description="Lago: the event's id.")


@management(
    "GET",
    permission="jobs.view_call",
    query=UsageEvents,
    answer=UsageEventLine,
    summary="Export usage events",
)
def usage_events(operator: Operator, query: UsageEvents) -> StreamingHttpResponse:
    """JSON lines (application/x-ndjson), one event each, sent as they are read.

    A connection that broke goes on with ``after``; ids are the same in each export.
    """
    team = directory.find_team(query.team_id) if query.team_id else None
    span = Span(start=query.start, end=query.end, team=team)
    # Here, where a refusal still has its status.
    first = usage_export.page(span, after=query.after)
    return StreamingHttpResponse(
        _lines(span, first, query.format), content_type="application/x-ndjson"
    )


async def _lines(span: Span, found: list[Any], format_: str) -> AsyncIterator[bytes]:
    written = usage_export.FORMATS[format_]
    while found:
        yield b"".join(http.encode(written(event)) + b"\n" for event in found)
        found = await in_database(usage_export.page, span, after=found[-1].id)
