"""Usage as events of a metering service, for those who bill elsewhere: OpenMeter's, or Lago's.

One event per call that delivered, per closed job (its own price: flat, or up to a minimum), and per
ledger line of neither (a refund, a month's minimum). Their credits add up to what the ledger took
and gave back. An event has the same id whenever it is exported, so that sending it again adds
nothing there; it is also where a later export goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from billing.models import Entry
from jobs.models import Call, Job
from saas_litellm.base import replica
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from teams.models import Team

PAGE = 1000
# What Lago takes in one request; OpenMeter takes as many.
BATCH = 100
SOURCE = "saas-litellm"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """What happened once. ``figures``: credits and USD are exact decimals, what was refunded negative."""

    id: str
    type: str
    team: str
    at: datetime
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From ``start`` up to but not including ``end``, of one team or of all."""

    start: datetime
    end: datetime
    team: Team | None = None

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise Invalid("end must lie after start.", param="end")


def events(span: Span, *, after: str = "") -> Iterator[UsageEvent]:
    """All of them, read page by page. ``after``: only those that follow the event of that id."""
    while found := page(span, after=after):
        yield from found
        after = found[-1].id


@replica.reading()
def page(span: Span, *, after: str = "", limit: int = PAGE) -> list[UsageEvent]:
    """The next ``limit`` events, ordered by kind, moment and id. Raises Invalid for an unknown id."""
    found: list[UsageEvent] = []
    kind, _, number = after.partition(":")
    if after and kind not in _KINDS:
        raise Invalid("after is no event's id.", param="after")
    for name, source in _KINDS.items():
        if after and list(_KINDS).index(name) < list(_KINDS).index(kind):
            continue
        rows = source.rows(span)
        if after and name == kind:
            rows = _following(rows, source, number)
        found += [source.written(row) for row in rows[: limit - len(found)]]
        if len(found) == limit:
            break
    return found


def as_openmeter(event: UsageEvent) -> dict[str, Any]:
    """A CloudEvent: OpenMeter counts one of the same source and id once."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": SOURCE,
        "type": event.type,
        "subject": event.team,
        "time": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": event.figures,
    }


def as_lago(event: UsageEvent) -> dict[str, Any]:
    """An event of the billable metric ``code``; the team's id is its subscription's external id."""
    return {
        "transaction_id": event.id,
        "external_subscription_id": event.team,
        "code": event.type,
        "timestamp": int(event.at.timestamp()),
        "properties": event.figures,
    }


FORMATS: dict[str, Callable[[UsageEvent], dict[str, Any]]] = {
    "openmeter": as_openmeter,
    "lago": as_lago,
}


def batch_of(format_: str, written: list[dict[str, Any]]) -> Any:
    """The body of one request that sends several events."""
    return {"events": written} if format_ == "lago" else written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    rows: Callable[[Span], QuerySet[Any]]
    written: Callable[[Any], UsageEvent]
    moment: str
    number: Callable[[str], Any]


def _following(rows: QuerySet[Any], source: _Kind, number: str) -> QuerySet[Any]:
    try:
        last = rows.model._default_manager.filter(pk=source.number(number)).first()
    except ValueError:
        last = None
    at = getattr(last, source.moment, None)
    if last is None or at is None:
        raise Invalid("after is no event's id.", param="after")
    later = Q(**{f"{source.moment}__gt": at})
    return rows.filter(later | Q(**{source.moment: at, "pk__gt": last.pk}))


def _calls(span: Span) -> QuerySet[Call]:
    rows = Call.objects.filter(
        Q(is_output_delivered=True) | ~Q(charged_nanocredits=0),
        status=Call.Status.SETTLED,
        finished_at__gte=span.start,
        finished_at__lt=span.end,
    ).select_related("team__organization", "job", "alias")
    rows = rows if span.team is None else rows.filter(team=span.team)
    return rows.order_by("finished_at", "pk")


def _call(call: Call) -> UsageEvent:
    assert call.finished_at is not None
    return UsageEvent(
        id=f"call:{call.pk}",
        type="llm_call",
        team=call.team.slug,
        at=call.finished_at,
        figures={
            "organization": call.team.organization.slug,
            "job_id": str(call.job_id),
            "job_type": call.job.job_type,
            "user_id": call.job.user_id,
            "model": call.alias.name,
            "is_cached": call.is_cache_hit,
            "prompt_tokens": call.prompt_tokens,
            "cached_tokens": call.cached_tokens,
            "completion_tokens": call.completion_tokens,
            "total_tokens": call.total_tokens,
            **_money(call.charged_nanocredits, call.price_nano_usd),
        },
    )


def _jobs(span: Span) -> QuerySet[Job]:
    rows = Job.objects.filter(closed_at__gte=span.start, closed_at__lt=span.end)
    rows = rows if span.team is None else rows.filter(team=span.team)
    return rows.select_related("team__organization").order_by("closed_at", "pk")


def _job(job: Job) -> UsageEvent:
    assert job.closed_at is not None
    return UsageEvent(
        id=f"job:{job.pk}",
        type="llm_job",
        team=job.team.slug,
        at=job.closed_at,
        figures={
            "organization": job.team.organization.slug,
            "job_id": str(job.pk),
            "job_type": job.job_type,
            "user_id": job.user_id,
            "status": job.status,
            "successful_calls": job.successful_calls,
            "failed_calls": job.failed_calls,
            **_money(job.base_charged_nanocredits, job.base_price_nano_usd),
        },
    )


def _lines(span: Span) -> QuerySet[Entry]:
    """Refunds, and the minimums of months: neither is a call's or a job's own charge."""
    rows = Entry.objects.filter(
        Q(kind=Entry.Kind.REFUND) | Q(kind=Entry.Kind.CHARGE, reference__startswith="minimum:"),
        created_at__gte=span.start,
        created_at__lt=span.end,
    )
    rows = rows if span.team is None else rows.filter(labels__team=span.team.slug)
    return rows.order_by("created_at", "pk")


def _line(entry: Entry) -> UsageEvent:
    is_refund = entry.kind == Entry.Kind.REFUND
    return UsageEvent(
        id=f"entry:{entry.pk}",
        type="llm_refund" if is_refund else "llm_minimum",
        team=str(entry.labels.get("team", "")),
        at=entry.created_at,
        figures={
            "reference": entry.reference,
            "job_type": str(entry.labels.get("job_type", "")),
            **_money(-entry.amount_nanocredits, entry.price_nano_usd or 0),
        },
    )


def _money(nanocredits: int, nano_usd: int) -> dict[str, Any]:
    return {"credits": from_nano(nanocredits), "price_usd": from_nano(nano_usd)}


_KINDS: dict[str, _Kind] = {
    "call": _Kind(rows=_calls, written=_call, moment="finished_at", number=UUID),
    "job": _Kind(rows=_jobs, written=_job, moment="closed_at", number=UUID),
    "entry": _Kind(rows=_lines, written=_line, moment="created_at", number=int),
}
