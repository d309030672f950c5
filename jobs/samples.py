"""Sample jobs: what a price means before anybody is charged by it.

A sample of a job type is a real job, the one in the middle by tokens of its recent kind; on a
platform without a past there are three built in. They are priced by ``repricing`` as real jobs are,
as if the month began with them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from billing.pricing import Measure, Plan
from jobs import repricing
from jobs.models import Job
from jobs.repricing import Counts, Work
from saas_litellm.base import clock

SAMPLES = 3
# Where the middle is looked for: the newest completed jobs, all types together.
LATEST_JOBS = 600
LATEST_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A completed job: its work, and what it cost at the providers in nano-USD."""

    job_type: str
    about: str
    work: tuple[Work, ...]
    provider_cost_nano_usd: int
    job_id: UUID | None = None

    def price(self, plan: Plan) -> int:
        """Nanocredits."""
        charged = repricing.calls_price(
            plan=plan, job_type=self.job_type, work=self.work, team_id=0, counts=Counts()
        )
        return plan.closed_price(
            job_type=self.job_type, charged_by_calls=charged, ending="completed"
        )


def typical() -> list[Sample]:
    """The commonest job types of late, each by the job in its middle; else those built in."""
    newest = (
        Job.objects.filter(
            status=Job.Status.COMPLETED, closed_at__gte=clock.now() - timedelta(days=LATEST_DAYS)
        )
        .exclude(total_tokens=0)
        .order_by("-closed_at")
    )
    by_type: dict[str, list[tuple[int, UUID]]] = defaultdict(list)
    for job_type, tokens, pk in newest.values_list("job_type", "total_tokens", "pk")[:LATEST_JOBS]:
        by_type[job_type].append((tokens, pk))
    commonest = sorted(by_type.values(), key=len, reverse=True)[:SAMPLES]
    middles = {sorted(jobs)[(len(jobs) - 1) // 2][1]: len(jobs) for jobs in commonest}
    found = [
        _of_job(job, among=middles[job.pk])
        for job in repricing.with_calls(Job.objects.filter(pk__in=middles))
    ]
    return sorted(found, key=lambda sample: sample.job_type) or BUILT_IN


def _of_job(job: Job, *, among: int) -> Sample:
    work = tuple(repricing.works_of(job))
    return Sample(
        job_type=job.job_type,
        about=f"{_words(work)}; the middle one of your last {among:,}",
        work=work,
        provider_cost_nano_usd=job.provider_cost_nano_usd,
        job_id=job.pk,
    )


def _built_in(job_type: str, *, calls: int, tokens: tuple[int, int], cost: int) -> Sample:
    measure = Measure(
        provider_cost_nano_usd=cost,
        input_tokens=tokens[0],
        cached_tokens=0,
        output_tokens=tokens[1],
    )
    work = (Work(alias="", ended_at=clock.now(), measure=measure),) * calls
    return Sample(
        job_type=job_type,
        about=f"{_words(work)}; made up, until you have jobs of your own",
        work=work,
        provider_cost_nano_usd=cost * calls,
    )


def _words(work: tuple[Work, ...]) -> str:
    calls = f"{len(work)} call{'' if len(work) == 1 else 's'}"
    read = sum(one.measure.input_tokens for one in work)
    written = sum(one.measure.output_tokens for one in work)
    return f"{calls}, {read:,} tokens in, {written:,} out"


# At 2.50 USD a million tokens in and 10 out.
BUILT_IN = [
    _built_in("short answer", calls=1, tokens=(800, 200), cost=4_000_000),
    _built_in("document", calls=3, tokens=(8_000, 800), cost=28_000_000),
    _built_in("long agent run", calls=20, tokens=(6_000, 500), cost=20_000_000),
]
