"""What calls are admitted by is remembered, and a change of it holds for the very next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing import budgets, plans
from billing.models import Budget, PlanAssignment, PricePlan
from jobs import intake
from jobs.admission import Order
from jobs.intake import Errand
from jobs.lifecycle import NewJob
from jobs.models import Call, Job
from jobs.opening import open_all
from saas_litellm.base import clock, standing
from saas_litellm.base.money import NANO, femto
from saas_litellm.base.refusals import Unauthenticated
from saas_litellm.base.standing import Memory, NotRemembered, Stale
from teams import access, credentials, directory, health, keys, prices
from teams.api import Signature
from teams.models import (
    AccessGroup,
    Alias,
    ApiKey,
    Deployment,
    DeploymentHealth,
    Organization,
    ProviderCredential,
    Team,
)
from teams.prices import Rates, UnitPrices
from tests import factories, work
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer
from tests.work import HELLO

DEARER = UnitPrices(base=Rates(input=femto("0.00002"), output=femto("0.00006")))
ASK = {"model": "chat", "messages": HELLO, "max_tokens": 20}


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer, fresh_limits: None) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


def asked(client: httpx.Client) -> tuple[int, str]:
    """A call's status, and the code it was refused with."""
    response = client.post("/v1/chat/completions", json=ASK)
    return response.status_code, response.json().get("error", {}).get("code", "")


def charged() -> int:
    """Of the newest call, in nanocredits."""
    charged: int = Call.objects.latest("created_at").charged_nanocredits
    return charged


def suspend_organization(alice: Company) -> None:
    directory.set_organization_status(
        organization=alice.team.organization, status=Organization.Status.SUSPENDED, actor="test"
    )


def set_team_status(status: Team.Status) -> Callable[[Company], None]:
    return lambda alice: directory.set_team_status(team=alice.team, status=status, actor="test")


def budget(alice: Company) -> None:
    budgets.create(owner=alice.team, period="day", limit_nanocredits=1, actor="test")


def lower_budget(alice: Company) -> None:
    budgets.change(budget=Budget.objects.get(), limit_nanocredits=1, actor="test")


def draw_on_the_organization(alice: Company) -> None:
    directory.set_wallet(team=alice.team, draws_on=Team.Wallet.ORGANIZATION, actor="test")


def open_breaker(_: Company) -> None:
    health.failed(deployment_id=Deployment.objects.get().pk, reason="timeout", pause_seconds=60)


REFUSING: dict[str, tuple[Callable[[Company], Any], int, str]] = {
    "key revoked": (
        lambda _: keys.revoke(prefix=ApiKey.objects.get().prefix, actor="test"),
        401,
        "invalid_api_key",
    ),
    "key expired": (
        lambda _: ApiKey.objects.update(expires_at=clock.now() - timedelta(seconds=1)),
        401,
        "key_expired",
    ),
    "team paused": (set_team_status(Team.Status.PAUSED), 403, "team_paused"),
    "team suspended": (set_team_status(Team.Status.SUSPENDED), 403, "team_suspended"),
    "organization suspended": (suspend_organization, 403, "organization_suspended"),
    "alias out of the group": (
        lambda alice: AccessGroup.objects.get().aliases.remove(alice.alias),
        403,
        "model_not_allowed",
    ),
    "team out of the group": (
        lambda alice: access.withdraw(
            group=AccessGroup.objects.get(), teams=[alice.team], actor="test"
        ),
        403,
        "model_not_allowed",
    ),
    "group off": (lambda _: AccessGroup.objects.update(is_active=False), 403, "model_not_allowed"),
    "alias off": (lambda _: Alias.objects.update(is_active=False), 403, "model_not_allowed"),
    "deployment off": (
        lambda _: Deployment.objects.update(is_active=False),
        503,
        "model_unavailable",
    ),
    "breaker opened": (open_breaker, 503, "model_unavailable"),
    "budget made": (budget, 402, "budget_exceeded"),
    "budget lowered": (lower_budget, 402, "budget_exceeded"),
    "another wallet": (draw_on_the_organization, 402, "insufficient_credits"),
    "rate limit made": (lambda _: Team.objects.update(requests_per_minute=1), 429, "rate_limited"),
}


@pytest.mark.parametrize("change", REFUSING)
def test_what_is_forbidden_is_refused_to_the_very_next_call(
    live: Live, alice: Company, change: str
) -> None:
    act, status, code = REFUSING[change]
    budgets.create(owner=alice.team, period="month", limit_nanocredits=90 * NANO, actor="test")
    # A limit that bounds nothing: what is counted under it is counted under a narrower one.
    Team.objects.update(requests_per_minute=1000)
    with live.client(alice.headers) as client:
        assert [asked(client), asked(client)] == [(200, ""), (200, "")]
        act(alice)
        assert asked(client) == (status, code)
    assert Call.objects.count() == 2


def test_what_is_allowed_again_is_open_to_the_very_next_call(live: Live, alice: Company) -> None:
    group = AccessGroup.objects.get()
    Team.objects.update(requests_per_minute=1)
    with live.client(alice.headers) as client:
        assert [asked(client)[0], asked(client)[0]] == [200, 429]
        Team.objects.update(requests_per_minute=None)
        assert asked(client)[0] == 200
        group.aliases.clear()
        assert asked(client)[0] == 403
        group.aliases.add(alice.alias)
        assert asked(client)[0] == 200


def test_a_new_unit_price_a_plan_and_a_version_price_the_very_next_call(
    live: Live, alice: Company
) -> None:
    # 100 tokens in and 20 out at 10 credits a USD: 0.016 credits, and twice that.
    with live.client(alice.headers) as client:
        assert [asked(client)[0], asked(client)[0], charged()] == [200, 200, 16_000_000]
        prices.publish(price_key="openai/gpt-4o-mini", prices=DEARER, source="test")
        assert (asked(client)[0], charged()) == (200, 32_000_000)
        flat = work.plan("flat", job_rules=[{"credits": "3"}])
        plans.assign(plan=flat, team=alice.team, actor="test")
        assert asked(client)[0] == 200
        assert Job.objects.latest("created_at").charged_nanocredits == 3 * NANO
        work.activate(flat, job_rules=[{"credits": "4"}])
        assert asked(client)[0] == 200
        assert Job.objects.latest("created_at").charged_nanocredits == 4 * NANO


def test_a_provider_key_that_was_changed_signs_the_very_next_call_in(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    credential = ProviderCredential.objects.get()
    with live.client(alice.headers) as client:
        asked(client)
        credentials.save(
            name=credential.name,
            api_key="sk-another",
            actor="test",
            api_base=credential.api_base,
        )
        assert asked(client)[0] == 200
    signed = [seen.headers["Authorization"] for seen in provider.requests]
    assert signed == ["Bearer sk-upstream-secret", "Bearer sk-another"]


def test_what_is_planned_takes_effect_at_its_moment_and_no_one_writes(
    live: Live, alice: Company, forward: Callable[[float], None]
) -> None:
    moment = clock.now()
    prices.publish(
        price_key="openai/gpt-4o-mini",
        prices=DEARER,
        source="test",
        effective_from=moment + timedelta(minutes=10),
    )
    flat = work.plan("flat", job_rules=[{"credits": "3"}])
    plans.assign(
        plan=flat, team=alice.team, actor="test", effective_from=moment + timedelta(minutes=20)
    )
    spec = plans.draft(plan=flat)
    spec.job_rules.create(price_nanocredits=4 * NANO)
    plans.activate(version=spec, actor="test", effective_from=moment + timedelta(minutes=30))
    stamp = standing.stamp_now()
    with live.client(alice.headers) as client:
        assert [asked(client)[0], asked(client)[0], charged()] == [200, 200, 16_000_000]
        forward(601)
        assert (asked(client)[0], charged()) == (200, 32_000_000)
        forward(600)
        assert asked(client)[0] == 200
        assert Job.objects.latest("created_at").charged_nanocredits == 3 * NANO
        forward(600)
        assert asked(client)[0] == 200
        assert Job.objects.latest("created_at").charged_nanocredits == 4 * NANO
    assert standing.stamp_now() == stamp


def test_a_change_holds_in_every_process_at_once(live: Live, spawned: Any, alice: Company) -> None:
    served = spawned()
    with live.client(alice.headers) as here, served.client(alice.headers) as there:
        for client in (here, there, here, there):
            assert asked(client)[0] == 200
        flat = work.plan("flat", job_rules=[{"credits": "3"}])
        plans.assign(plan=flat, team=alice.team, actor="test")
        assert asked(there)[0] == 200
        assert Job.objects.latest("created_at").charged_nanocredits == 3 * NANO
        keys.revoke(prefix=ApiKey.objects.get().prefix, actor="test")
        assert [asked(there), asked(here)] == [(401, "invalid_api_key")] * 2


def errand(alice: Company) -> Errand:
    signed = Signature(bearer=alice.key, is_open_demo=False)
    return Errand(
        order=Order(messages=HELLO, params={"max_tokens": 20}, model="chat"),
        who=lambda memory: signed.caller(team_slug=None, owner_slug=lambda: None, memory=memory),
        key=None,
        new_job=lambda caller, _: NewJob(
            team=caller.team, api_key=caller.api_key, job_type="chat", is_single=True
        ),
    )


def test_a_second_look_asks_the_database_nothing(alice: Company) -> None:
    budgets.create(owner=alice.team, period="day", limit_nanocredits=NANO, actor="test")
    with pytest.raises(NotRemembered):
        intake.look(errand(alice), replace(Memory(None), may_ask=False))
    first = intake.look(errand(alice), standing.looked_up())
    with CaptureQueriesContext(connection) as statements:
        again = intake.look(errand(alice), standing.remembered())
    assert len(statements) == 0
    assert again.opening.stamp == first.opening.stamp is not None
    assert again.opening.resolved is first.opening.resolved
    assert isinstance(open_all([again.opening])[0], intake.OpenCall)


def test_what_changed_between_look_and_opening_opens_nothing(alice: Company) -> None:
    visit = intake.look(errand(alice), standing.looked_up())
    keys.revoke(prefix=ApiKey.objects.get().prefix, actor="test")
    (result,) = open_all([visit.opening])
    assert isinstance(result, Stale)
    assert not Job.objects.exists()


def test_and_is_looked_up_anew(alice: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = intake.look(errand(alice), standing.looked_up())
    monkeypatch.setattr(intake, "_remembered", lambda _: replace(visit, is_remembered=True))
    prices.publish(price_key="openai/gpt-4o-mini", prices=DEARER, source="test")
    opened = asyncio.run(intake.admit(errand(alice)))
    assert opened.call.unit_prices == DEARER.as_json()
    keys.revoke(prefix=ApiKey.objects.get().prefix, actor="test")
    with pytest.raises(Unauthenticated):
        asyncio.run(intake.admit(errand(alice)))


def test_a_change_that_is_taken_back_leaves_everything_remembered(alice: Company) -> None:
    visit = intake.look(errand(alice), standing.looked_up())
    with transaction.atomic():
        Team.objects.update(name="Another")
        with transaction.atomic():
            Team.objects.update(name="Yet another")
        transaction.set_rollback(True)
    assert standing.stamp_now() == visit.opening.stamp
    assert isinstance(open_all([visit.opening])[0], intake.OpenCall)


def test_work_itself_changes_no_stamp(live: Live, alice: Company) -> None:
    stamp = standing.stamp_now()
    with live.client(alice.headers) as client:
        assert [asked(client)[0], asked(client)[0]] == [200, 200]
    health.failed(deployment_id=Deployment.objects.get().pk, reason="timeout")
    stamp_after_a_failure = standing.stamp_now()
    health.failed(deployment_id=Deployment.objects.get().pk, reason="timeout")
    factories.top_up(alice.team, NANO)
    assert standing.stamp_now() == stamp_after_a_failure != stamp


def _new_deployment() -> Deployment:
    return Deployment.objects.create(alias=Alias.objects.get(), model="demo/echo")


TABLES: dict[str, Callable[[], Any]] = {
    "organization": lambda: Organization.objects.update(name="x"),
    "team": lambda: Team.objects.update(name="x"),
    "key": lambda: ApiKey.objects.update(name="x"),
    "key made": lambda: keys.issue(team=Team.objects.get(), actor="test"),
    "alias": lambda: Alias.objects.update(description="x"),
    "group": lambda: AccessGroup.objects.update(is_active=True),
    "alias granted": lambda: AccessGroup.objects.get().aliases.add(
        Alias.objects.create(name="other")
    ),
    "alias withdrawn": lambda: AccessGroup.objects.get().aliases.clear(),
    "team granted": lambda: AccessGroup.objects.create(name="x").teams.add(Team.objects.get()),
    "team withdrawn": lambda: Team.objects.get().access_groups.clear(),
    "deployment": lambda: Deployment.objects.update(weight=7),
    "deployment made": _new_deployment,
    "credential": lambda: ProviderCredential.objects.update(extra={}),
    "price": lambda: prices.publish(price_key="openai/gpt-4o-mini", prices=DEARER, source="test"),
    "breaker": lambda: DeploymentHealth.objects.create(deployment=Deployment.objects.get()),
    "plan": lambda: PricePlan.objects.update(name="x"),
    "version": lambda: plans.draft(plan=PricePlan.objects.earliest("pk")),
    "assignment": lambda: PlanAssignment.objects.create(
        plan=PricePlan.objects.earliest("pk"), team=Team.objects.get(), effective_from=clock.now()
    ),
    "budget": lambda: budgets.create(
        owner=Team.objects.get(), period="day", limit_nanocredits=1, actor="test"
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_change_of_any_of_these_is_a_new_stamp(alice: Company, table: str) -> None:
    before = standing.stamp_now()
    TABLES[table]()
    assert standing.stamp_now() != before


def test_what_takes_effect_while_it_is_being_asked_for_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = clock.now()
    planned = moment + timedelta(milliseconds=5)
    now = [moment]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def ask() -> str:
        told = "old" if now[0] < planned else "new"
        now[0] = planned + timedelta(milliseconds=1)
        return told

    def until(_: str, asked_at: datetime) -> datetime | None:
        return planned if planned > asked_at else None

    memory = Memory(1)
    assert memory.recall("k", ask, until=until) == "old"
    assert memory.recall("k", ask, until=until) == "new"
    assert memory.recall("k", ask, until=until) == "new"
