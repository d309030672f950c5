"""The life of a job: made, found, refunded, described; its steps are in `docket`.

With it the only module that writes job rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction
from django.db.models import F

from billing import budgets, ledger, plans
from billing.budgets import Spender
from billing.pricing import JobPrice
from jobs.docket import TRANSITIONS, Docket, Reservation, caps_beyond
from jobs.models import Job, Quote
from jobs.refusals import JobCapExceeded, JobClosed, QuoteUsed
from saas_litellm.base import clock, rows
from saas_litellm.base.refusals import Invalid, NotFound
from teams import keys
from teams.models import ApiKey, Team

__all__ = [
    "TRANSITIONS",
    "Docket",
    "JobCapExceeded",
    "JobClosed",
    "NewJob",
    "Reservation",
    "caps_beyond",
]
METADATA_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it was asked for. A single one is made for one call and ends with it."""

    team: Team
    api_key: ApiKey | None
    job_type: str
    user_id: str = ""
    external_task_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_nanocredits: int | None = None
    is_reserving: bool = False
    quote: Quote | None = None
    is_single: bool = False
    actor: str = ""


def create(*, team: Team, api_key: ApiKey | None, job_type: str, **more: Any) -> Job:
    """Open a job, of NewJob's fields: ``enter``."""
    return enter(NewJob(team=team, api_key=api_key, job_type=job_type, **more))


def enter(new: NewJob) -> Job:
    """Open a job under the team's plan of now, or under its quote's.

    A flat price or a minimum is held at once; a reserving job holds its whole cap, from which its
    calls are held and into which they return what they do not use. Raises TeamPaused and its
    like, Invalid (reserving without a cap), QuoteUsed, BudgetExceeded, InsufficientCredits, and
    JobCapExceeded when the job's own price is above the cap.
    """
    keys.require_running(new.team)
    with transaction.atomic():
        account_id = ledger.account_of(new.team).pk
        version_id = new.quote.plan_version_id if new.quote else plans.version_for(new.team).pk
        drafted = draft(new, version_id=version_id, account_id=account_id)
        key_id = new.api_key.pk if new.api_key else None
        period_ids = budgets.current(spender_of(new.team, key_id))
        book = ledger.Book.open(account_ids=[account_id], period_ids=period_ids)
        reserve_own(drafted, book, period_ids=period_ids)
        docket = Docket()
        docket.add(drafted.job, actor=drafted.actor)
        book.write()
        docket.write()
        docket.tell()
        use_quote(drafted)
    return drafted.job


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A job that is not saved yet, and what it sets aside for itself, in nanocredits."""

    job: Job
    quote: Quote | None
    amount_nanocredits: int
    actor: str


def draft(new: NewJob, *, version_id: int, account_id: int) -> Drafted:
    """The job's row. Raises Invalid (reserving without a cap) and JobCapExceeded."""
    if new.is_reserving and not new.max_nanocredits:
        raise Invalid("reserve needs max_credits above 0.", param="reserve")
    plan = plans.load(version_id)
    rule, flat = plan.job_rule(new.job_type), plan.flat_rule(new.job_type)
    price, cap = rule.held_nanocredits if rule else 0, new.max_nanocredits
    if cap is not None and price > cap:
        raise JobCapExceeded(needed=price, available=cap)
    now = clock.now()
    job = rows.new(
        Job,
        team=new.team,
        api_key=new.api_key,
        plan_version_id=version_id,
        account_id=account_id,
        job_type=new.job_type,
        user_id=new.user_id,
        external_task_id=new.external_task_id,
        metadata=dict(new.metadata),
        max_nanocredits=cap,
        is_single=new.is_single,
        quote_nanocredits=new.quote.p95_nanocredits if new.quote else None,
        held_nanocredits=price if flat else 0,
        max_provider_cost_nano_usd=_cost_bound(flat, new.quote),
        created_at=now,
        last_activity_at=now,
    )
    return Drafted(
        job=job,
        quote=new.quote,
        amount_nanocredits=(cap or 0) if new.is_reserving else price,
        actor=new.actor or f"team:{new.team.slug}",
    )


def reserve_own(drafted: Drafted, book: ledger.Book, *, period_ids: Sequence[int]) -> None:
    """Set aside what the job asks for itself. Raises BudgetExceeded or InsufficientCredits."""
    job = drafted.job
    job.hold = book.hold(
        account_id=job.account_id,
        amount_nanocredits=drafted.amount_nanocredits,
        reference=f"job:{job.pk}",
        expires_at=None,
        period_ids=period_ids,
    )


def use_quote(drafted: Drafted) -> None:
    """Bind the quote to the job that was saved with it. Raises QuoteUsed: all must roll back."""
    quote = drafted.quote
    if quote is None:
        return
    free = Quote.objects.filter(pk=quote.pk, job=None, valid_until__gt=clock.now())
    if free.update(job=drafted.job) != 1:
        raise QuoteUsed


def spender_of(team: Team, api_key_id: int | None) -> Spender:
    """Whose budgets the credits of a team's work count in."""
    return Spender(team_id=team.pk, organization_id=team.organization_id, api_key_id=api_key_id)


def find(*, team: Team, job_id: UUID) -> Job:
    """The team's job of that id; raises NotFound for a stranger's as for none."""
    job = (
        Job.objects.select_related("team__organization", "hold")
        .filter(pk=job_id, team=team)
        .first()
    )
    if job is None:
        raise NotFound("There is no job with this id.")
    return job


def lock(job_id: UUID) -> None:
    """Take the row's lock on both databases, by an UPDATE that changes nothing."""
    Job.objects.filter(pk=job_id).update(in_flight=F("in_flight"))


def account_for_attempt(*, job_id: UUID, cost_nano_usd: int) -> None:
    """Move the cost of a failed attempt into the job's totals, inside its transaction."""
    Job.objects.filter(pk=job_id).update(
        provider_cost_nano_usd=F("provider_cost_nano_usd") + cost_nano_usd
    )


def account_for_refund(*, job_id: UUID, nanocredits: int, nano_usd: int, is_base: bool) -> None:
    """Move a refund into the job's totals, inside the refunding transaction."""
    base = int(is_base)
    Job.objects.filter(pk=job_id).update(
        refunded_nanocredits=F("refunded_nanocredits") + nanocredits,
        refunded_nano_usd=F("refunded_nano_usd") + nano_usd,
        base_refunded_nanocredits=F("base_refunded_nanocredits") + base * nanocredits,
        base_refunded_nano_usd=F("base_refunded_nano_usd") + base * nano_usd,
    )


def merge_metadata(*, job: Job, metadata: Mapping[str, Any]) -> Job:
    """Shallow-merge into an open or closed job's metadata; raises Invalid beyond 16 KiB."""
    with transaction.atomic():
        lock(job.pk)
        job.refresh_from_db()
        merged = merged_metadata(job, metadata)
        Job.objects.filter(pk=job.pk).update(metadata=merged, last_activity_at=clock.now())
        job.refresh_from_db()
    return job


def closed_among(job_ids: set[UUID]) -> set[UUID]:
    """Which of these jobs are closed."""
    return set(
        Job.objects.filter(pk__in=job_ids).exclude(status__in=Job.OPEN).values_list("pk", flat=True)
    )


def check_metadata(metadata: Mapping[str, Any], *, param: str = "metadata") -> None:
    """Raise Invalid for metadata larger than 16 KiB as JSON."""
    if len(orjson.dumps(metadata)) > METADATA_BYTES:
        raise Invalid(f"{param} is larger than 16 KiB in all.", param=param)


def merged_metadata(job: Job, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The job's metadata with these keys over it; raises Invalid beyond 16 KiB."""
    merged = {**job.metadata, **metadata}
    check_metadata(merged)
    return merged


def _cost_bound(flat: JobPrice | None, quote: Quote | None) -> int | None:
    """What the calls of a job whose price does not follow them may cost, in nano-USD."""
    if flat is not None:
        return flat.max_provider_cost_nano_usd
    return quote.worst_cost_nano_usd if quote is not None else None
