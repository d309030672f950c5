"""Which deployment a call asks: the order, what is tried again and where, and the breaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from billing.models import Entry
from jobs import routing
from jobs.gateway import FailureKind, ProviderFailure
from jobs.models import Attempt, Call, CostLine, Job
from jobs.routing import Candidate, Route
from saas_litellm import verification
from saas_litellm.base import clock
from teams import credentials, health
from teams.catalog import PricedDeployment
from teams.models import Alias, Deployment, DeploymentHealth
from teams.refusals import ModelUnavailable
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

ASK = {"messages": [{"role": "user", "content": "hi"}]}


def candidate(pk: int, *, priority: int = 0, weight: int = 1) -> Candidate:
    deployment = Deployment(pk=pk, priority=priority, weight=weight)
    priced = PricedDeployment(deployment=deployment, prices=factories.SHEET, credential=None)
    return Candidate(priced=priced, api_key=None)


def asked(route: Route, *failures: ProviderFailure | None) -> list[int]:
    """The deployments of a route's steps, each after the failure of the one before."""
    steps = [route.next(failure) for failure in failures]
    return [step.candidate.priced.deployment.pk for step in steps if step]


def failure(kind: FailureKind, retry_after_seconds: float | None = None) -> ProviderFailure:
    return ProviderFailure(kind, retry_after_seconds=retry_after_seconds)


def test_a_passing_failure_is_tried_once_more_before_the_next_deployment_is_asked() -> None:
    route = Route([candidate(1), candidate(2)])
    down = failure(FailureKind.SERVER_ERROR)
    assert asked(route, None, down, down, down, down) == [1, 1, 2, 2]


def test_a_full_deployment_is_left_at_once_while_there_is_another() -> None:
    route = Route([candidate(1), candidate(2)])
    full = failure(FailureKind.RATE_LIMITED)
    assert asked(route, None, full, full, full) == [1, 2, 2]


def test_a_short_pause_that_the_provider_asks_for_is_waited_a_long_one_is_not() -> None:
    step = Route([candidate(1)])
    step.next()
    waited = step.next(failure(FailureKind.RATE_LIMITED, 1.5))
    assert waited is not None
    assert waited.wait_seconds >= 1.5
    other = Route([candidate(1)])
    other.next()
    assert other.next(failure(FailureKind.RATE_LIMITED, 30)) is None


def test_a_deployment_with_a_wrong_key_is_not_asked_twice() -> None:
    route = Route([candidate(1), candidate(2)])
    assert asked(route, None, failure(FailureKind.CREDENTIALS)) == [1, 2]


@pytest.mark.parametrize("kind", [FailureKind.INVALID_REQUEST, FailureKind.UNSUPPORTED_PARAMETER])
def test_a_request_that_no_model_can_take_is_not_sent_to_another(kind: FailureKind) -> None:
    route = Route([candidate(1), candidate(2)])
    assert asked(route, None, failure(kind)) == [1]


def test_each_kind_of_refusal_has_fallbacks_of_its_own() -> None:
    def made() -> Route:
        return Route(
            [candidate(1)],
            after_context_window=[candidate(2)],
            after_content_filter=[candidate(3)],
        )

    long, filtered = failure(FailureKind.CONTEXT_WINDOW), failure(FailureKind.CONTENT_FILTERED)
    assert asked(made(), None, long) == [1, 2]
    assert asked(made(), None, filtered) == [1, 3]
    assert asked(made(), None, long, filtered, long) == [1, 2, 3]


def test_priority_comes_before_weight_and_weight_is_a_share() -> None:
    deployments = [
        candidate(1, priority=1).priced,
        candidate(2, weight=3).priced,
        candidate(3, weight=1).priced,
        candidate(4, weight=0).priced,
    ]
    orders = [sorted(deployments, key=routing._turn) for _ in range(2000)]
    first = Counter(order[0].deployment.pk for order in orders)
    assert {order[-1].deployment.pk for order in orders} == {1}
    assert {order[-2].deployment.pk for order in orders} == {4}
    # 3 : 1 over 2,000 draws: 1,500 give or take five standard deviations.
    assert 1400 < first[2] < 1600


# --- Over HTTP, against two providers ---------------------------------------------------------


@pytest.fixture
def backup() -> Any:
    with ProviderServer() as server:
        yield server


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer, backup: ProviderServer) -> Company:
    """A company whose alias has a deployment at each provider, the first before the backup."""
    made = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    credential = credentials.save(
        name="backup", api_key="sk-backup", actor="test", api_base=backup.openai_base
    )
    Deployment.objects.create(
        alias=made.alias, model="openai/gpt-4o-mini", credential=credential, priority=1
    )
    return made


def call(live: Live, alice: Company, path: str = "llm-call") -> Any:
    with live.client(alice.headers) as client:
        job = client.post("/api/jobs/create", json={"team_id": "alice", "job_type": "x"}).json()
        return client.post(f"/api/jobs/{job['job_id']}/{path}", json=ASK)


@pytest.mark.parametrize("path", ["llm-call", "llm-call-stream"])
@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply(status=401), Reply(status=429), Reply(cut_after=0)]
)
def test_the_next_deployment_answers_when_the_first_fails(
    live: Live,
    alice: Company,
    provider: ProviderServer,
    backup: ProviderServer,
    reply: Reply,
    path: str,
) -> None:
    provider.default = reply
    answer = call(live, alice, path)
    assert answer.status_code == 200
    assert "Hello" in answer.text
    assert len(backup.requests) == 1
    attempts = list(Attempt.objects.order_by("number"))
    assert [bool(attempt.failure) for attempt in attempts] == [True] * (len(attempts) - 1) + [False]
    row = Call.objects.get()
    assert row.deployment == attempts[-1].deployment
    assert row.provider_cost_nano_usd == sum(
        line.amount_nano_usd for line in CostLine.objects.all()
    )
    # 100 × 10 + 20 × 30 = 1,600 micro-USD of the answer alone: failed attempts are never priced.
    assert row.charged_nanocredits == 16_000_000
    assert Entry.objects.filter(kind="charge").count() == 1
    assert Job.objects.get().provider_cost_nano_usd == row.provider_cost_nano_usd
    assert verification.verify() == []


def test_an_attempt_that_may_have_run_is_booked_at_the_founders_cost(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(cut_after=0)
    call(live, alice)
    lines = CostLine.objects.order_by("attempt__number")
    assert [line.attempt.number for line in lines] == [1, 2, 3]
    row = Call.objects.get()
    assert row.provider_cost_nano_usd > 1_600_000
    assert row.charged_nanocredits == 16_000_000


def test_after_the_first_word_nothing_is_tried_again(
    live: Live, alice: Company, provider: ProviderServer, backup: ProviderServer
) -> None:
    provider.default = Reply(text="one two three four", cut_after=3)
    answer = call(live, alice, "llm-call-stream")
    assert "provider_error" in answer.text
    assert "[DONE]" not in answer.text
    assert backup.requests == []
    assert Attempt.objects.count() == 1
    assert Call.objects.get().charged_nanocredits > 0


def test_a_slow_deployment_is_left_for_the_next(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    Deployment.objects.filter(priority=0).update(timeout_seconds=1)
    provider.default = Reply(first_delay=5)
    assert call(live, alice).status_code == 200
    assert list(Attempt.objects.values_list("failure", flat=True)) == ["timeout", "timeout", ""]


def test_a_slow_stream_may_go_on_once_it_has_begun(
    live: Live, alice: Company, provider: ProviderServer, backup: ProviderServer
) -> None:
    Deployment.objects.filter(priority=0).update(timeout_seconds=1)
    provider.default = Reply(text="one two three four five", frame_delay=0.4)
    assert "[DONE]" in call(live, alice, "llm-call-stream").text
    assert backup.requests == []


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("context_window_fallback", "This model's maximum context length is 8 tokens."),
        ("content_filter_fallback", "The request was rejected as a result of the safety system."),
    ],
)
def test_a_fallback_alias_answers_under_the_name_that_was_asked_for(
    live: Live,
    provider: ProviderServer,
    backup: ProviderServer,
    field: str,
    error: str,
) -> None:
    made = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    other = Alias.objects.create(name="large")
    credential = credentials.save(
        name="backup", api_key="sk-backup", actor="test", api_base=backup.openai_base
    )
    Deployment.objects.create(alias=other, model="openai/gpt-4o-mini", credential=credential)
    Alias.objects.filter(pk=made.alias.pk).update(**{field: other})
    provider.default = Reply(status=400, error=error)
    answer = call(live, made)
    assert answer.status_code == 200
    assert answer.json()["metadata"]["model"] == "chat"
    assert len(backup.requests) == 1


# --- The breaker ------------------------------------------------------------------------------


def fail_often(deployment: Deployment, times: int = health.FAILURES_TO_OPEN) -> DeploymentHealth:
    for _ in range(times):
        health.failed(deployment_id=deployment.pk, reason="server_error")
    return DeploymentHealth.objects.get(deployment=deployment)


def test_a_deployment_that_keeps_failing_is_left_alone(
    live: Live, alice: Company, provider: ProviderServer, backup: ProviderServer
) -> None:
    fail_often(Deployment.objects.get(priority=0))
    assert call(live, alice).status_code == 200
    assert provider.requests == []
    assert len(backup.requests) == 1


@pytest.mark.django_db
def test_a_breaker_opens_at_the_threshold_and_lets_one_probe_through_after_its_pause(
    forward: Callable[[float], None],
) -> None:
    deployment = factories.company().alias.deployments.get()
    fail_often(deployment, health.FAILURES_TO_OPEN - 1)
    row = DeploymentHealth.objects.get()
    assert row.open_until is None
    row = fail_often(deployment, 1)
    assert row.open_until is not None
    assert not health.may_call(row)
    forward(health.FIRST_PAUSE.total_seconds() + 1)
    assert [health.may_call(row), health.may_call(row)] == [True, False]
    health.answered(row)
    assert DeploymentHealth.objects.get().open_until is None


@pytest.mark.django_db
def test_a_failed_probe_opens_it_for_longer(forward: Callable[[float], None]) -> None:
    deployment = factories.company().alias.deployments.get()
    row = fail_often(deployment)
    forward(health.FIRST_PAUSE.total_seconds() + 1)
    assert health.may_call(row)
    health.failed(deployment_id=deployment.pk, reason="timeout")
    row.refresh_from_db()
    assert row.open_until is not None
    assert row.open_until - clock.now() >= health.FIRST_PAUSE * 2


@pytest.mark.django_db
def test_failures_far_apart_do_not_open_it(forward: Callable[[float], None]) -> None:
    deployment = factories.company().alias.deployments.get()
    for _ in range(health.FAILURES_TO_OPEN * 2):
        health.failed(deployment_id=deployment.pk, reason="server_error")
        forward(health.FAILURES_WITHIN.total_seconds() + 1)
    assert DeploymentHealth.objects.get().open_until is None


@pytest.mark.django_db
def test_the_pause_that_a_provider_asks_for_opens_it_at_once() -> None:
    deployment = factories.company().alias.deployments.get()
    health.failed(deployment_id=deployment.pk, reason="rate_limited", pause_seconds=20)
    row = DeploymentHealth.objects.get()
    assert row.open_until is not None
    assert timedelta(seconds=19) < row.open_until - clock.now() <= timedelta(seconds=20)


def test_when_every_deployment_cools_down_the_refusal_says_for_how_long(
    live: Live, alice: Company
) -> None:
    for deployment in Deployment.objects.all():
        fail_often(deployment)
    answer = call(live, alice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
    assert 1 <= int(answer.headers["Retry-After"]) <= health.FIRST_PAUSE.total_seconds()
    assert Call.objects.count() == 0


# --- Shadowing --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_organizations_own_credential_and_alias_shadow_the_platforms() -> None:
    from teams import catalog

    made = factories.company(api_base="http://platform.invalid")
    bob = factories.team(name="bob")
    factories.serve(bob, alias="chat", model="demo/other")
    platform = made.alias.deployments.get(model="demo/echo").credential
    assert platform is not None
    credentials.save(
        name=platform.name, api_key="sk-own", actor="test", organization=made.team.organization
    )
    ours = catalog.resolve(team=made.team, name="chat").deployments[0]
    theirs = catalog.resolve(team=bob, name="chat").deployments[0]
    assert catalog.open_secret(ours) == "sk-own"
    assert catalog.open_secret(theirs) == "sk-upstream-secret"

    own = Alias.objects.create(name="chat", organization=made.team.organization)
    made.team.access_groups.get().aliases.add(own)
    bob.access_groups.get().aliases.add(own)
    Deployment.objects.create(alias=own, model="demo/echo")
    assert catalog.resolve(team=made.team, name="chat").alias == own
    assert catalog.resolve(team=bob, name="chat").alias == made.alias
    assert [alias.organization for alias in catalog.granted(bob)] == [None]


@pytest.mark.django_db
def test_an_alias_without_a_usable_credential_is_unavailable() -> None:
    from teams import catalog

    made = factories.company(api_base="http://platform.invalid")
    credential = made.alias.deployments.get().credential
    assert credential is not None
    type(credential).objects.update(secret_ciphertext="not a token")
    with pytest.raises(ModelUnavailable):
        routing.route(catalog.resolve(team=made.team, name="chat"))
