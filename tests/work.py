"""Work done without a network: jobs and calls driven through the domain's own functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from billing import plan_specs, plans
from billing.models import Account, PlanVersion, PricePlan
from billing.plan_specs import VersionSpec
from jobs import calls, closing, lifecycle
from jobs.calls import OpenCall, Order, Outcome
from jobs.models import Call, Job
from jobs.routing import Candidate
from jobs.usage import Usage
from saas_litellm.base import money
from teams.models import ApiKey, Team

# Outputs of the tests are short; a hold for more would hide what they are about.
PARAMS = {"max_tokens": 1000}
HELLO = [{"role": "user", "content": "hi"}]


class Clock:
    """The time that the platform believes in, moved by hand."""

    def __init__(self, monkeypatch: Any) -> None:
        self.moment = datetime(2026, 3, 10, 12, tzinfo=UTC)
        monkeypatch.setattr("saas_litellm.base.clock.now", lambda: self.moment)

    def set(self, *parts: int) -> None:
        self.moment = datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]

    def tick(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def plan(slug: str, **spec: Any) -> PricePlan:
    """An active plan, written as an operator would write it."""
    made = plan_specs.create_plan(slug=slug, name=slug, actor="test")
    activate(made, **spec)
    return made


def activate(made: PricePlan, **spec: Any) -> PlanVersion:
    version = plan_specs.draft(plan=made, spec=VersionSpec(**spec), actor="test")
    return plans.activate(version=version, actor="test")


def job(team: Team, job_type: str = "contract", **more: Any) -> Job:
    return lifecycle.create(team=team, api_key=more.pop("api_key", None), job_type=job_type, **more)


def start(
    of: Job,
    *,
    api_key: ApiKey | None = None,
    params: dict[str, Any] | None = None,
    model: str | None = None,
) -> OpenCall:
    order = Order(messages=HELLO, params=PARAMS if params is None else params, model=model)
    return calls.open_call(job=Job.objects.get(pk=of.pk), api_key=api_key, order=order)


def finish(
    opened: OpenCall, *, prompt: int = 100, output: int = 0, cached: int = 0, delivered: bool = True
) -> Call:
    usage = Usage(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)
    outcome = Outcome(usage=usage, latency_ms=1, is_output_delivered=delivered)
    return calls.settle(opened=opened, attempt=calls.dispatch(opened), outcome=outcome)


def fail_over(opened: OpenCall, *, prompt: int = 1000, output: int = 0) -> Call:
    """A call whose first deployment was full, and whose second answered."""
    first, second = (Candidate(priced=one, api_key=None) for one in opened.resolved.eligible)
    failed = calls.dispatch(opened, first)
    assert failed is not None
    full = Outcome(
        usage=Usage(),
        latency_ms=1,
        is_output_delivered=False,
        failure="rate_limited",
        failure_status=429,
        failure_detail="come back later",
    )
    attempt = calls.try_again(opened=opened, failed=failed, outcome=full, candidate=second)
    usage = Usage(prompt_tokens=prompt, completion_tokens=output)
    outcome = Outcome(usage=usage, latency_ms=1, is_output_delivered=True)
    return calls.settle(opened=opened, attempt=attempt, outcome=outcome)


def call(of: Job, *, prompt: int = 100, output: int = 0, cached: int = 0, **more: Any) -> Call:
    """One call of so many tokens, from its hold to its settlement."""
    delivered = more.pop("delivered", True)
    return finish(
        start(of, **more), prompt=prompt, output=output, cached=cached, delivered=delivered
    )


def close(of: Job, status: str = "completed", **more: Any) -> Job:
    return closing.close(job=Job.objects.get(pk=of.pk), status=status, actor="test", **more)


def paid(row: Job | Call) -> str:
    """What it cost the team in the end, in credits."""
    row.refresh_from_db()
    return str(money.from_nano(row.charged_nanocredits - row.refunded_nanocredits))


def balance(team: Team) -> str:
    return str(money.from_nano(Account.objects.get(team=team).balance_nanocredits))
