"""What a plan would have made of past jobs, by team, job type and day, within what a page can wait.

The figures are ``repricing``'s own, exact for every job that is in them. When a period holds more
jobs than MOST_JOBS, a part of it is priced, and ``Coverage`` says which: nothing is scaled up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from django.db.models import QuerySet

from billing.models import PricePlan
from billing.pricing import Plan
from jobs import repricing
from jobs.models import Job
from jobs.repricing import Repriced, Summary
from teams.models import Team

MOST_JOBS = 1000
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which past jobs, under which plan. ``own``: only those that some version of it priced."""

    plan: Plan
    since: datetime
    until: datetime
    team: Team | None = None
    job_type: str | None = None
    own: PricePlan | None = None

    def jobs(self, *, since: datetime) -> QuerySet[Job]:
        """Those that must be walked to answer for the time from then on."""
        walked = repricing.closed_jobs(since=since, until=self.until, team=self.team)
        if self.own is not None:
            walked = walked.filter(plan_version__plan=self.own)
        if self.job_type is not None and not self.plan.is_tiered:
            walked = walked.filter(job_type=self.job_type)
        return walked


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The part of the period that is priced; ``is_whole``: all of it."""

    since: datetime
    until: datetime
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Every priced job, and their sums."""

    coverage: Coverage
    jobs: Sequence[Repriced]
    total: Summary
    by_team: dict[str, Summary]
    by_job_type: dict[str, Summary]
    by_day: dict[date, Summary]

    @property
    def losing(self) -> list[Repriced]:
        """Jobs that would turn to loss, the worst first."""
        turning = [job for job in self.jobs if job.turns_to_loss]
        return sorted(turning, key=lambda job: job.candidate_nano_usd - job.provider_cost_nano_usd)


def answer(question: Question) -> Answer:
    coverage = cover(question)
    jobs = list(
        repricing.reprice(
            plan=question.plan,
            since=coverage.since,
            until=coverage.until,
            team=question.team,
            job_type=question.job_type,
            own=question.own,
        )
    )
    total = Summary()
    for job in jobs:
        total.add(job)
    return Answer(
        coverage=coverage,
        jobs=jobs,
        total=total,
        by_team=_summed(jobs, lambda job: job.team),
        by_job_type=_summed(jobs, lambda job: job.job_type),
        by_day=_summed(jobs, lambda job: job.closed_at.astimezone(UTC).date()),
    )


def cover(question: Question) -> Coverage:
    """As much of the period as MOST_JOBS allow, its newest part; with tiers, in whole months.

    When even the newest month has more under a plan with tiers, it is the first part of that month,
    for tiers count from its beginning.
    """
    since, until = question.since, question.until
    if not question.plan.is_tiered:
        newest = question.jobs(since=since).order_by("-closed_at")
        moments = newest.values_list("closed_at", flat=True)[MOST_JOBS - 1 : MOST_JOBS + 1]
        if len(moments) < 2:
            return Coverage(since=since, until=until, is_whole=True)
        return Coverage(since=moments[0] or since, until=until, is_whole=False)
    month = repricing.month_of(since)
    while True:
        oldest = question.jobs(since=month).order_by("closed_at")
        beyond = oldest.values_list("closed_at", flat=True)[MOST_JOBS : MOST_JOBS + 1].first()
        following = (month + timedelta(days=32)).replace(day=1)
        if beyond is None or following >= until:
            starts = max(since, month)
            return Coverage(
                since=starts if beyond is None else month,
                until=beyond or until,
                is_whole=beyond is None and starts == since,
            )
        month = following


def _summed(jobs: Sequence[Repriced], key: Callable[[Repriced], _Key]) -> dict[_Key, Summary]:
    """By key, those that would pay most more first."""
    sums: dict[_Key, Summary] = defaultdict(Summary)
    for job in jobs:
        sums[key(job)].add(job)
    return dict(sorted(sums.items(), key=lambda item: -item[1].difference_nano_usd))
