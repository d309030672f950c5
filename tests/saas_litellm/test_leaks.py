"""Nothing that leaves tells who answered, where, or what it cost us.

Every team endpoint is asked, in success and in failure, of a provider that names itself in all it
says; each whole answer is then searched (``tests/leaks.py`` has the marks and the exemptions).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from billing import plans
from billing.models import Account
from jobs import lifecycle
from jobs.models import Call, CostLine, Job
from saas_litellm import verification
from saas_litellm.base import outbox
from teams import keys
from teams.models import Alias, DeploymentHealth, Team
from tests import factories, leaks
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.leaks import (
    ASKS,
    CALLS,
    CANCEL,
    EMBEDDING,
    MEDIA,
    OTHERS,
    SALES,
    WEBHOOKS,
    Ask,
    Shown,
)
from tests.providers.server import ProviderServer
from webhooks import deliveries, endpoints, signing
from webhooks.models import Delivery

UNAVAILABLE = "cannot be served right now"
pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("fresh_limits")]


@dataclass
class Counter:
    """Alice's side of the counter: her company, a job of hers, and what she is shown."""

    live: Live
    company: Company
    provider: ProviderServer

    def job(self) -> str:
        made = lifecycle.create(team=self.company.team, api_key=None, job_type="letter")
        return str(made.pk)

    def put(
        self, asks: Iterable[Ask], *, job: str, key: str | None = None, **request: Any
    ) -> list[Shown]:
        """Ask all at once."""
        headers = {"Authorization": f"Bearer {key or self.company.key}"}
        with self.live.client(headers) as http, ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda ask: ask.put(http, job=job, **request), asks))

    def leaks(self, shown: Iterable[Shown]) -> list[str]:
        """Marks, the provider's address, and every cost in the books."""
        wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
        return leaks.leaks(shown, also=[f":{self.provider.port}", *costs()])


def costs() -> set[str]:
    """What calls and jobs cost us, were held for, and left us, in nano-USD."""
    calls, jobs = Call.objects.all(), Job.objects.all()
    figures = chain(
        chain.from_iterable(calls.values_list("provider_cost_nano_usd", "held_cost_nano_usd")),
        CostLine.objects.values_list("amount_nano_usd", flat=True),
        jobs.values_list("provider_cost_nano_usd", flat=True),
        [job.margin_nano_usd for job in jobs],
    )
    # A short figure may stand for anything.
    return {str(abs(figure)) for figure in figures if abs(figure) >= 10**5}


@pytest.fixture(params=["openai", "anthropic"])
def counter(
    request: pytest.FixtureRequest, live: Live, provider: ProviderServer, settings: Any
) -> Counter:
    settings.CALL_RETRIES = 0
    model, base = {
        "openai": (leaks.OPENAI_MODEL, provider.openai_base),
        "anthropic": (leaks.ANTHROPIC_MODEL, provider.anthropic_base),
    }[request.param]
    made = factories.company(model=model, api_base=base, sheet=leaks.SHEET, plan="")
    factories.serve(
        made.team,
        alias="embed",
        model=leaks.EMBEDDING_MODEL,
        api_base=provider.openai_base,
        sheet=leaks.SHEET,
    )
    Alias.objects.filter(name="embed").update(kind="embedding")
    for alias, (kind, media_model) in leaks.MEDIA_MODELS.items():
        at_cohere = media_model.startswith("cohere")
        base = provider.anthropic_base if at_cohere else provider.openai_base
        sheet = leaks.UNIT_SHEET
        factories.serve(made.team, alias=alias, model=media_model, api_base=base, sheet=sheet)
        Alias.objects.filter(name=alias).update(kind=kind)
    # A price by tokens, so that no cost can be told from a price.
    by_tokens = factories.plan(
        "by-tokens",
        kind="tokens",
        input_nanocredits_per_1k=300_000_000,
        output_nanocredits_per_1k=500_000_000,
        unit_nanocredits=700_000_000,
    )
    plans.assign(plan=by_tokens, team=made.team, actor="test")
    provider.default = leaks.babble()
    return Counter(live, made, provider)


def test_every_team_endpoint_is_asked_here(client: Any) -> None:
    paths = json.loads(client.get("/openapi.json").content)["paths"]
    of_teams = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if {"teamKey": []} in operation.get("security", [])
    }
    assert {ask.endpoint for ask in ASKS} == of_teams
    assert set(_paths(get_resolver().url_patterns)) == set(paths)


def _paths(patterns: Iterable[Any], prefix: str = "/") -> Iterable[str]:
    """Every documented address in the URL conf, as the schema writes it."""
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver) and address in {"/api/", "/v1/"}:
            yield from _paths(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern) and prefix != "/":
            yield _schema_form(address)


def _schema_form(address: str) -> str:
    return (
        address.replace("<uuid:", "{").replace("<str:", "{").replace("<int:", "{").replace(">", "}")
    )


def test_the_marks_are_found_where_they_are() -> None:
    headers = [("openai-version", "1"), ("x-job-id", "1")]
    seen = [Shown(what="GET /", status=200, headers=headers, body='{"cost": 0.001478661}')]
    found = leaks.leaks(seen)
    assert any("has the header openai-version" in leak for leak in found)
    assert any("'openai'" in leak for leak in found)
    assert any("1478661" in leak for leak in found)
    seen = [Shown(what="GET /", status=200, headers=headers[1:], body='{"model": "chat"}')]
    assert leaks.leaks(seen) == []


def test_no_answer_to_a_call_tells_who_gave_it(counter: Counter, settings: Any) -> None:
    shown: list[Shown] = []
    job = counter.job()
    for behaviour in leaks.BEHAVIOURS:
        counter.provider.default = behaviour.reply
        settings.CALL_DEADLINE_SECONDS = behaviour.seconds
        told = counter.put([*CALLS, EMBEDDING, *MEDIA], job=job, note=behaviour.name)
        # All at once: the first failure may have closed the way to the provider for the others.
        meant = {behaviour.says, behaviour.or_says or behaviour.says, UNAVAILABLE}
        assert [a for a in told if not any(words in a.body for words in meant)] == []
        failed = {answer.status for answer in told} - {200, 201}
        assert bool(failed) == bool(behaviour.says), told
        shown += told
        # The next behaviour is not the last one's fault.
        DeploymentHealth.objects.all().delete()
    assert len({answer.status for answer in shown}) >= 6
    assert counter.leaks(shown) == []
    assert verification.verify() == []


def test_no_answer_about_jobs_and_credits_tells_what_they_cost_us(counter: Counter) -> None:
    job = counter.job()
    counter.put([*CALLS, EMBEDDING], job=job)
    counter.provider.default = leaks.fault(500)
    counter.put(CALLS[:2], job=job)
    shown = [answer for ask in OTHERS for answer in counter.put([ask], job=job)]
    shown += counter.put([CANCEL], job=counter.job())
    assert [answer for answer in shown if answer.status not in {200, 201}] == []
    refused = counter.put([CANCEL, *CALLS[:2]], job=job)
    assert {answer.status for answer in refused} == {409}
    sales = counter.put(SALES, job=job)
    assert {answer.status for answer in sales} == {404}
    assert len(costs()) > 3
    assert counter.leaks([*shown, *refused, *sales]) == []


def test_no_event_and_no_answer_about_webhooks_tells_anything(counter: Counter) -> None:
    endpoint, _ = endpoints.create(
        team=counter.company.team, url="https://app.example.com/", types=["*"], actor="test"
    )
    outbox.forget()
    job = counter.job()
    counter.put([*CALLS, EMBEDDING], job=job)
    counter.provider.default = leaks.fault(500)
    counter.put([*CALLS, EMBEDDING], job=job, note="failing")
    counter.put([CANCEL], job=job)
    wait_until(lambda: not Job.objects.filter(status__in=Job.OPEN, is_single=True).exists())
    deliveries.fan_out()
    sent = list(Delivery.objects.select_related("event"))
    assert {delivery.event.type for delivery in sent} == {
        *("job.created", "job.started", "job.completed", "job.failed", "job.cancelled"),
        "call.failed",
    }
    shown = [
        Shown(
            what=each.event.type, status=200, headers=[], body=signing.body_of(each.event).decode()
        )
        for each in sent
    ]
    for ask in WEBHOOKS:
        shown += counter.put([ask], job=job, endpoint=endpoint.pk, delivery=sent[0].pk)
    assert {answer.status for answer in shown} == {200, 201, 202}
    assert counter.leaks(shown) == []


REFUSALS: dict[str, dict[str, Any]] = {
    "unknown key": {"key": "slk_nobody"},
    "no scheme": {"headers": {"Authorization": "x"}},
    "unknown field": {"body": {"api_base": 1}},
    "no JSON": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "no media type": {"content": b"{}"},
    "wrong method": {"method": "DELETE"},
    "another's team": {"team": "bob"},
    "no such team": {"team": "nobody"},
}


def test_no_refusal_tells_anything(counter: Counter) -> None:
    bob = factories.team(name="bob")
    theirs = str(lifecycle.create(team=bob, api_key=None, job_type="x").pk)
    bobs_key = keys.issue(team=bob, actor="test")[1]
    job, shown = counter.job(), list[Shown]()
    for note, request in REFUSALS.items():
        shown += counter.put(ASKS, job=theirs, note=note, **request)
    shown += counter.put(ASKS, job=job, key=bobs_key, note="a stranger")
    shown += counter.put(CALLS, job=job, body={"model": "no-such-model"}, note="unknown model")
    Team.objects.update(status="paused")
    shown += counter.put(ASKS, job=job, note="paused")
    assert {401, 403, 404, 405, 415, 422, 400} <= {answer.status for answer in shown}
    assert counter.leaks(shown) == []


def test_no_limit_and_no_empty_wallet_tells_anything(counter: Counter) -> None:
    job = counter.job()
    Team.objects.update(requests_per_minute=1, tokens_per_minute=10_000)
    shown = counter.put([*CALLS, EMBEDDING], job=job, note="limited")
    assert 429 in {answer.status for answer in shown}
    Team.objects.update(requests_per_minute=None, tokens_per_minute=None)
    Account.objects.update(balance_nanocredits=0)
    poor = counter.put(CALLS, job=job, note="poor")
    assert {answer.status for answer in poor} == {402}
    Alias.objects.all()[0].deployments.update(is_active=False)
    gone = counter.put(CALLS, job=job, note="unavailable")
    assert {answer.status for answer in gone} == {503}
    assert counter.leaks([*shown, *poor, *gone]) == []


AGAIN: dict[str, Callable[[int], dict[str, Any]]] = {
    "replayed": lambda number: {"headers": {"Idempotency-Key": f"key-{number}"}},
    "cached": lambda number: {"body": {"cache": {"ttl": 60}}},
}


@pytest.mark.parametrize("way", ["replayed", "cached"])
def test_no_answer_given_again_tells_who_gave_it(counter: Counter, way: str) -> None:
    job = counter.job()
    twice = [
        counter.put([ask], job=job, note=way, **AGAIN[way](number))[0]
        for number, ask in enumerate([*CALLS, EMBEDDING])
        for _ in range(2)
    ]
    assert [answer for answer in twice if answer.status not in {200, 201}] == []
    assert len(counter.provider.requests) < len(twice)
    assert counter.leaks(twice) == []
