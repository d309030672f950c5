"""Prices again: what the books say, from stored snapshots, and what a candidate plan would ask.

Everything is computed from what the calls stored: usage, provider cost, and for tiers where the
count stood. ``booked_*`` reproduce the books to the nanocredit under each job's own plan version;
``reprice`` runs real past jobs through a candidate, its counts begun at the start of each month.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet

from billing import plans
from billing.models import PricePlan
from billing.pricing import Measure, Plan
from jobs import charging, costs
from jobs.models import Call, Job
from jobs.usage import Usage
from saas_litellm.base.money import from_nano
from teams.models import Team
from teams.prices import UnitPrices

Status = Job.Status


def booked_price(call: Call) -> int:
    """The price of a settled call under its job's plan version, from its own snapshot."""
    job = call.job
    plan = plans.load(job.plan_version_id)
    if call.price_nanocredits == 0 and job.gives_back(plan, call.alias.name):
        return 0
    # A call that moved the count by nothing came after its job had been counted.
    measure = _measure(call, is_first_of_job=call.quantity != 0)
    return plan.call_price(
        job_type=job.job_type,
        alias=call.alias.name,
        measure=measure,
        counted_before=call.quantity_before or 0,
    )


def booked_base_price(job: Job, *, is_delivered: bool) -> int:
    """The job's own price under its plan version, given what its calls were charged."""
    if job.is_open:
        return 0
    charged = job.charged_nanocredits - job.base_charged_nanocredits
    plan = plans.load(job.plan_version_id)
    due = plan.closed_price(
        job_type=job.job_type,
        charged_by_calls=charged,
        ending=job.ending(is_delivered=is_delivered),
        outcome=job.outcome,
    )
    return max(0, due - charged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A call that is due: what it consumed, by which alias, and when it ended."""

    alias: str
    ended_at: datetime
    measure: Measure


@dataclass(slots=True, kw_only=True)
class Repriced:
    """One job under its own plan and under the candidate, in nano-USD."""

    job_id: UUID
    team: str
    job_type: str
    closed_at: datetime
    provider_cost_nano_usd: int
    current_nano_usd: int
    current_nanocredits: int
    candidate_nano_usd: int
    candidate_nanocredits: int

    @property
    def difference_nano_usd(self) -> int:
        return self.candidate_nano_usd - self.current_nano_usd

    @property
    def turns_to_loss(self) -> bool:
        return self.candidate_nano_usd < self.provider_cost_nano_usd <= self.current_nano_usd


@dataclass(slots=True)
class Counts:
    """The candidate's tier counts, by team, rule and month, as its jobs go by."""

    by_month: dict[tuple[int, int, date], int] = field(default_factory=lambda: defaultdict(int))

    def advance(self, *, team_id: int, rule_id: int, moment: datetime, quantity: int) -> int:
        key = (team_id, rule_id, moment.astimezone(UTC).date().replace(day=1))
        before = self.by_month[key]
        self.by_month[key] = before + quantity
        return before


def reprice(
    *,
    plan: Plan,
    since: datetime,
    until: datetime | None = None,
    team: Team | None = None,
    job_type: str | None = None,
    own: PricePlan | None = None,
) -> Iterator[Repriced]:
    """Closed jobs of the period in the order they closed, priced again by ``plan``.

    Tiers count from the start of each month and over every job type, so what is not asked about
    is counted there but not reported. ``own``: only jobs that some version of that plan priced.
    """
    is_tiered = plan.is_tiered
    jobs = closed_jobs(since=month_of(since) if is_tiered else since, until=until, team=team)
    if own is not None:
        jobs = jobs.filter(plan_version__plan=own)
    if job_type is not None and not is_tiered:
        jobs = jobs.filter(job_type=job_type)
    counts = Counts()
    for job in with_calls(jobs):
        repriced = reprice_job(plan=plan, job=job, counts=counts)
        if repriced.closed_at >= since and job_type in {None, job.job_type}:
            yield repriced


def closed_jobs(
    *, since: datetime, until: datetime | None = None, team: Team | None = None
) -> QuerySet[Job]:
    jobs = Job.objects.filter(closed_at__gte=since)
    if until is not None:
        jobs = jobs.filter(closed_at__lt=until)
    return jobs if team is None else jobs.filter(team=team)


def month_of(moment: datetime) -> datetime:
    """The month's first moment, in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def reprice_job(*, plan: Plan, job: Job, counts: Counts) -> Repriced:
    """One closed job with its calls loaded (in the order they ended) under another plan."""
    charged = calls_price(
        plan=plan,
        job_type=job.job_type,
        work=[work for work in works_of(job) if not job.gives_back(plan, work.alias)],
        team_id=job.team_id,
        counts=counts,
    )
    is_delivered = any(call.is_output_delivered for call in job.calls.all())
    due = plan.closed_price(
        job_type=job.job_type,
        charged_by_calls=charged,
        ending=job.ending(is_delivered=is_delivered),
        outcome=job.outcome,
    )
    return Repriced(
        job_id=job.pk,
        team=job.team.slug,
        job_type=job.job_type,
        closed_at=job.closed_at or job.created_at,
        provider_cost_nano_usd=job.provider_cost_nano_usd,
        current_nano_usd=_value_now(job),
        current_nanocredits=job.net_nanocredits + job.overrun_nanocredits,
        candidate_nano_usd=plan.nano_usd(due),
        candidate_nanocredits=due,
    )


def works_of(job: Job) -> list[Work]:
    """The calls of a job, loaded with their aliases, that delivered output."""
    return [
        Work(
            alias=call.alias.name,
            ended_at=call.finished_at or call.created_at,
            measure=_measure(call, is_first_of_job=True),
        )
        for call in job.calls.all()
        if call.is_output_delivered
    ]


def calls_price(
    *, plan: Plan, job_type: str, work: Iterable[Work], team_id: int, counts: Counts
) -> int:
    """What a job's calls cost in nanocredits, one after the other, moving the counts of tiers."""
    charged, is_counted, tokens = 0, False, 0
    for one in work:
        measure = replace(one.measure, is_first_of_job=not is_counted)
        where = {"job_type": job_type, "alias": one.alias}
        quantity = plan.quantity(**where, measure=measure)
        before = tokens
        rule = plan.call_rule(**where)
        if quantity is not None and rule is not None:
            before = counts.advance(
                team_id=team_id, rule_id=rule.rule_id, moment=one.ended_at, quantity=quantity
            )
        is_counted = is_counted or bool(quantity)
        tokens += measure.total_tokens
        charged += plan.call_price(**where, measure=measure, counted_before=before)
    return charged


@dataclass(slots=True)
class Summary:
    """Repriced jobs in sum, of one team or of all; nano-USD."""

    jobs: int = 0
    provider_cost_nano_usd: int = 0
    current_nano_usd: int = 0
    candidate_nano_usd: int = 0
    current_nanocredits: int = 0
    candidate_nanocredits: int = 0
    jobs_turning_to_loss: int = 0

    def add(self, job: Repriced) -> None:
        self.jobs += 1
        self.current_nanocredits += job.current_nanocredits
        self.candidate_nanocredits += job.candidate_nanocredits
        self.provider_cost_nano_usd += job.provider_cost_nano_usd
        self.current_nano_usd += job.current_nano_usd
        self.candidate_nano_usd += job.candidate_nano_usd
        self.jobs_turning_to_loss += int(job.turns_to_loss)

    @property
    def difference_nano_usd(self) -> int:
        return self.candidate_nano_usd - self.current_nano_usd

    def as_json(self) -> dict[str, Any]:
        cost = self.provider_cost_nano_usd
        return {
            "jobs": self.jobs,
            "provider_cost_usd": from_nano(cost),
            "current_revenue_usd": from_nano(self.current_nano_usd),
            "candidate_revenue_usd": from_nano(self.candidate_nano_usd),
            "difference_usd": from_nano(self.difference_nano_usd),
            "current_margin_usd": from_nano(self.current_nano_usd - cost),
            "candidate_margin_usd": from_nano(self.candidate_nano_usd - cost),
            "jobs_turning_to_loss": self.jobs_turning_to_loss,
        }


def summarize(repriced: Iterable[Repriced]) -> tuple[Summary, dict[str, Summary], list[Repriced]]:
    """The sum, the sum of each team by what it would pay more, and the jobs turning to loss."""
    total, losing = Summary(), list[Repriced]()
    teams: dict[str, Summary] = defaultdict(Summary)
    for job in repriced:
        total.add(job)
        teams[job.team].add(job)
        if job.turns_to_loss and len(losing) < 1000:
            losing.append(job)
    ordered = sorted(
        teams.items(), key=lambda item: item[1].current_nano_usd - item[1].candidate_nano_usd
    )
    return total, dict(ordered), losing


def with_calls(jobs: QuerySet[Job]) -> Iterator[Job]:
    """Jobs in the order they closed, each with its calls in the order they ended."""
    # Prefetched: a team or an alias that thousands of rows share is made once.
    ended = Call.objects.prefetch_related("alias").order_by("finished_at", "id")
    found: Iterator[Job] = (
        jobs.prefetch_related("team", Prefetch("calls", queryset=ended))
        .order_by("closed_at", "id")
        .iterator(chunk_size=500)
    )
    return found


def _measure(call: Call, *, is_first_of_job: bool) -> Measure:
    # The cost by the call's own snapshot: later cost corrections never move a price.
    usage = Usage.from_json(call.usage or {})
    cost = costs.provider_cost_nano_usd(prices=UnitPrices.from_json(call.unit_prices), usage=usage)
    return charging.measure_of(
        usage, cost=cost, is_first_of_job=is_first_of_job, is_cache_hit=call.is_cache_hit
    )


def _value_now(job: Job) -> int:
    """The booked price of the job with what could not be taken, less what was given back."""
    plan = plans.load(job.plan_version_id)
    return plan.nano_usd(job.net_nanocredits + job.overrun_nanocredits)
