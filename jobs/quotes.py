"""Quotes: what a job of a type will cost, from the team's own history, as a promise.

Past jobs of that type are priced again under the plan of now, so that a quote is right on the
first day of a new plan. A job made with a quote pays its plan's price, but never more than p95;
the calls of such a job are bounded by a few times what they were foreseen to cost at worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from billing import plans
from billing.pricing import Plan
from jobs import admission, repricing
from jobs.admission import Order, Placing
from jobs.estimate import Estimate, worst_case
from jobs.models import Job, Quote
from jobs.refusals import QuoteUsed
from saas_litellm.base import clock
from saas_litellm.base.money import divide_half_even
from saas_litellm.base.refusals import Invalid
from teams import catalog, keys
from teams.models import Team

VALID_FOR = timedelta(hours=1)
# Enough of the recent past to know the 95th percentile, and no more.
BASIS_JOBS = 200
BASIS_DAYS = 90
# How many calls a quote may price again, for jobs made under another plan.
MOST_CALLS = 2000
# With fewer jobs than this, history says too little: the worst case is quoted instead.
LEAST_JOBS = 20
# How far a quoted job may go beyond the costs that were foreseen, at the founder's expense.
COST_SLACK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What past jobs of a type would cost under a plan: nanocredits, dearest last."""

    prices: tuple[int, ...]
    most_calls: int
    dearest_cost_nano_usd: int

    @property
    def expected(self) -> int:
        return divide_half_even(sum(self.prices), len(self.prices)) if self.prices else 0

    @property
    def p95(self) -> int:
        """The nearest rank: the least price that 95 % of the jobs do not exceed."""
        rank = -(-len(self.prices) * 95 // 100)
        return self.prices[rank - 1] if self.prices else 0


def give(
    *,
    team: Team,
    job_type: str,
    model: str | None,
    messages: list[dict[str, Any]],
    expected_calls: int | None,
) -> Quote:
    """Write a quote. Raises TeamPaused and its like, ModelNotAllowed, ModelUnavailable.

    ``messages`` (which may be empty) stand for each of ``expected_calls`` calls; without that
    number it is the most that a past job of this type made.
    """
    keys.require_running(team)
    version = plans.version_for(team)
    plan = plans.load(version.pk)
    history = history_of(team=team, job_type=job_type, plan=plan)
    calls = expected_calls or max(1, history.most_calls)
    worst = _worst_call(team, plan, job_type, model, messages)
    rule = plan.job_rule(job_type)
    floor = rule.held_nanocredits if rule else 0
    ceiling = max(floor, worst.price_nanocredits * calls, *history.prices, 0)
    is_known = len(history.prices) >= LEAST_JOBS
    now = clock.now()
    return Quote.objects.create(
        team=team,
        plan_version=version,
        job_type=job_type,
        expected_nanocredits=history.expected if history.prices else ceiling,
        p95_nanocredits=max(floor, history.p95) if is_known else ceiling,
        worst_nanocredits=ceiling,
        worst_cost_nano_usd=COST_SLACK
        * max(worst.cost_nano_usd * calls, history.dearest_cost_nano_usd, 1),
        basis_jobs=len(history.prices),
        created_at=now,
        valid_until=now + VALID_FOR,
    )


def find(*, team: Team, quote_id: UUID, job_type: str) -> Quote:
    """The team's own unused quote for that job type; raises QuoteUsed, or Invalid for any other."""
    quote = Quote.objects.filter(pk=quote_id, team=team).first()
    if quote is None or quote.job_type != job_type:
        raise Invalid("There is no such quote for this job type.", param="quote_id")
    if quote.job_id is not None or quote.valid_until <= clock.now():
        raise QuoteUsed
    return quote


def history_of(*, team: Team, job_type: str, plan: Plan) -> History:
    """The team's latest completed jobs of that type, as ``plan`` prices them.

    A job of the same version has its price in the books. Any other is priced again, as if the
    month began with it; only the latest are, as far as MOST_CALLS go.
    """
    since = clock.now() - timedelta(days=BASIS_DAYS)
    jobs = Job.objects.filter(
        team=team, job_type=job_type, status=Job.Status.COMPLETED, closed_at__gte=since
    ).order_by("-closed_at")[:BASIS_JOBS]
    prices, again, calls = [], [], 0
    for job in jobs:
        if job.plan_version_id == plan.version_id:
            prices.append(max(0, job.net_nanocredits + job.overrun_nanocredits))
            continue
        calls += job.successful_calls + job.failed_calls
        if calls <= MOST_CALLS:
            again.append(job.pk)
    for job in repricing.with_calls(Job.objects.filter(pk__in=again)):
        repriced = repricing.reprice_job(plan=plan, job=job, counts=repricing.Counts())
        prices.append(max(0, repriced.candidate_nanocredits))
    return History(
        prices=tuple(sorted(prices)),
        most_calls=max((job.successful_calls + job.failed_calls for job in jobs), default=0),
        dearest_cost_nano_usd=max((job.provider_cost_nano_usd for job in jobs), default=0),
    )


def _worst_call(
    team: Team, plan: Plan, job_type: str, model: str | None, messages: list[dict[str, Any]]
) -> Estimate:
    resolved = catalog.resolve(team=team, name=model)
    placing = Placing(
        job=Job(team=team, job_type=job_type, plan_version_id=plan.version_id),
        api_key=None,
        order=Order(messages=messages, params={}),
        resolved=resolved,
    )
    return worst_case(
        plan=plan,
        job_type=job_type,
        resolved=resolved,
        messages=messages,
        params={},
        max_tokens=resolved.alias.default_max_tokens,
        counted_before=admission.counted(placing),
    )
