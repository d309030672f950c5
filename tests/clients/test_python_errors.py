"""What the platform refuses is raised by the Python client as the class of its code."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from billing import budgets
from billing.models import Account
from jobs import gateway
from jobs.models import Call
from saas_litellm.base import clock
from saas_litellm_client import Client, Retries, errors
from saas_litellm_client.errors import ApiError
from teams.models import ApiKey, Deployment, Organization, Team
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database


def pause(team: Team) -> None:
    Team.objects.update(status="paused")


def expire_keys(team: Team) -> None:
    ApiKey.objects.update(expires_at=clock.now() - timedelta(days=1))


def spend_the_budget(team: Team) -> None:
    budgets.create(owner=team, period="day", limit_nanocredits=1, actor="test")


CIRCUMSTANCES: dict[type[ApiError], Callable[[Team], Any]] = {
    errors.TeamPaused: pause,
    errors.TeamSuspended: lambda team: Team.objects.update(status="suspended"),
    errors.OrganizationSuspended: lambda team: Organization.objects.update(status="suspended"),
    errors.KeyExpired: expire_keys,
    errors.InsufficientCredits: lambda team: Account.objects.update(balance_nanocredits=1),
    errors.BudgetExceeded: spend_the_budget,
    errors.RateLimited: lambda team: Team.objects.update(tokens_per_minute=1),
    errors.ModelUnavailable: lambda team: Deployment.objects.update(is_active=False),
}


@pytest.mark.usefixtures("fresh_limits")
@pytest.mark.parametrize("kind", CIRCUMSTANCES)
def test_circumstances_are_raised(
    connect: Callable[..., Any], alice: Company, kind: type[ApiError]
) -> None:
    client = connect(retries=Retries(count=0))
    CIRCUMSTANCES[kind](alice.team)
    with pytest.raises(kind) as refused:
        client.call("letter", "Hello")
    error = refused.value
    assert type(error) is kind
    assert (error.code, error.status) == (kind.of_code, kind.status)
    assert error.request_id.startswith("req_")
    assert (error.retry_after is not None) == (kind is errors.RateLimited)


ASKS: dict[type[ApiError], dict[str, Any]] = {
    errors.ValidationFailed: {"temperature": 9},
    errors.ModelNotAllowed: {"model": "no-such"},
    errors.JobCapExceeded: {"max_tokens": 30_000},
    errors.PayloadTooLarge: {"call_metadata": {"a": "x" * 5000}},
}


@pytest.mark.parametrize("kind", ASKS)
def test_what_is_asked_wrongly_is_raised(client: Any, settings: Any, kind: type[ApiError]) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 4000
    with client.job("letter", max_credits=1) as job:
        with pytest.raises(kind) as refused:
            job.call("Hello", **ASKS[kind])
        # The job is still open.
        job.call("Hello", max_tokens=10)
    assert type(refused.value) is kind
    if kind is errors.JobCapExceeded:
        assert refused.value.credits_available == 1
        assert refused.value.credits_needed > 9
    if kind is errors.ValidationFailed:
        assert refused.value.param == "temperature"


FAULTS: dict[type[ApiError], Reply] = {
    errors.ProviderError: Reply(status=500),
    errors.Overloaded: Reply(status=429, retry_after=3),
    errors.ProviderTimeout: Reply(first_delay=3),
    errors.ContentFiltered: Reply(
        status=400, error="The request was rejected as a result of the safety system."
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_models_failures_are_raised(
    connect: Callable[..., Any], provider: ProviderServer, settings: Any, kind: type[ApiError]
) -> None:
    # It takes seconds, once, and would be the timeout of whichever came first.
    gateway.warm_up()
    settings.CALL_RETRIES, settings.CALL_DEADLINE_SECONDS = 0, 2
    provider.default = FAULTS[kind]
    with pytest.raises(kind):
        connect(retries=Retries(count=0)).call("letter", "Hello")


def test_the_rest_is_raised(connect: Callable[..., Any], provider: ProviderServer) -> None:
    client = connect(retries=Retries(count=0))
    with pytest.raises(errors.InvalidApiKey):
        connect(api_key="slk_nobody").balance()
    with pytest.raises(errors.NotFound):
        client.show_job(UUID(int=1))
    client.call("letter", "Hello", idempotency_key="one")
    with pytest.raises(errors.IdempotencyKeyReused):
        client.call("letter", "Other", idempotency_key="one")
    with client.job("letter") as job:
        job.complete()
    with pytest.raises(errors.JobClosed):
        job.call("Hello")
    provider.script(Reply(text="one two three four five", cut_after=4))
    job = client.job("letter").open()
    for kind in (errors.ProviderError, errors.StreamInterrupted):
        with pytest.raises(kind):
            list(job.stream("Hello", idempotency_key="cut"))


def test_what_still_runs_is_raised_where_nothing_is_retried(
    connect: Callable[..., Any], live: Live, alice: Company, provider: ProviderServer
) -> None:
    first = Client(base_url=live.url, api_key=alice.key, team_id="alice")
    second = connect(retries=Retries(count=0))
    provider.script(Reply(first_delay=1.5))
    job = first.job("letter").open()
    with first, concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(job.call, "Hello", idempotency_key="one")
        wait_until(lambda: Call.objects.filter(status="dispatched").exists())
        again = second.continue_job(job.id)
        with pytest.raises(errors.RequestInProgress) as refused:
            again.call("Hello", idempotency_key="one")
        assert refused.value.retry_after == 1
        with pytest.raises(errors.CallsInFlight):
            again.complete()
        running.result()
