"""Answering a request for a call, whichever protocol it came in: plain, streamed, or replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from billing import ledger
from jobs import intake, metering, streaming
from jobs.intake import Errand
from jobs.models import Call
from jobs.replays import Kept, Replayed
from jobs.schemas import Cache
from jobs.streaming import Wire
from saas_litellm.base import http
from saas_litellm.base.bridge import in_database
from saas_litellm.base.limiter import Admission
from saas_litellm.base.money import from_nano
from teams import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a path writes a call's answer: ``whole`` from what was delivered, or ``wire`` in events.

    ``tells_cost``: the headers of a plain answer say what it cost and left.
    """

    whole: Callable[[Call, Sequence[Any]], dict[str, Any] | HttpResponse]
    wire: Callable[[Call], Wire] | None = None
    status: int = 200
    tells_cost: bool = False


def ttl_of(request: HttpRequest, asked: Cache | None) -> int | None:
    """Seconds for which the caller lets its answer be kept; None: as its alias says."""
    if "no-store" in request.headers.get("Cache-Control", "").lower():
        return 0
    return asked.ttl if asked is not None else None


async def answer(errand: Errand, style: Style) -> HttpResponseBase:
    """Run the errand and answer in that style. Raises the Refusal that ended it."""
    run = metering.start(order=errand.order, admit=partial(intake.admit, errand))
    try:
        if errand.order.is_stream:
            assert style.wire is not None, "only paths that can stream are asked to"
            response: HttpResponseBase = await streaming.respond(run, wire_of=style.wire)
            call = (await run.admitted).call
        else:
            parts, call = await metering.finished(run)
            response = await _whole(call, parts, style)
    except Replayed as replayed:
        return await _again(replayed.kept, style, is_stream=errand.order.is_stream)
    return _named(response, call, (await run.admitted).admission)


async def _again(kept: Kept, style: Style, *, is_stream: bool) -> HttpResponseBase:
    if is_stream:
        assert style.wire is not None, "only paths that can stream are asked to"
        response: HttpResponseBase = streaming.replay(kept, style.wire(kept.call))
    else:
        response = await _whole(kept.call, kept.parts, style)
    response["Idempotent-Replayed"] = "true"
    return _named(response, kept.call, None)


async def _whole(call: Call, parts: Sequence[Any], style: Style) -> HttpResponseBase:
    whole = style.whole(call, parts)
    response = whole if isinstance(whole, HttpResponse) else http.answer(whole, status=style.status)
    if style.tells_cost:
        # A single job's own price is its call's.
        job = call.job
        charged = job.net_nanocredits if job.is_single else call.charged_nanocredits
        balance = call.balance_nanocredits
        if balance is None:
            balance = await in_database(ledger.balance_of, job.account_id)
        response["X-Credits-Charged"] = str(from_nano(charged))
        response["X-Credits-Remaining"] = str(from_nano(balance))
    return response


def _named(response: HttpResponseBase, call: Call, admission: Admission | None) -> HttpResponseBase:
    response["X-Job-Id"], response["X-Call-Id"] = str(call.job_id), str(call.pk)
    if call.is_cache_hit:
        response["X-Cache"] = "hit"
    for name, value in limits.headers(admission).items():
        response[name] = value
    return response
