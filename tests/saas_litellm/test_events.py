"""What each part of the platform tells, to whom, and what telling costs a call."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import budgets, exhaustion, expiry, ledger, plans, thresholds
from billing.models import Grant, PlanVersion
from billing.refusals import InsufficientCredits
from jobs import calls, closing, lifecycle, margins
from jobs.models import Call, Job
from jobs.usage import Usage
from saas_litellm.base import clock, outbox
from saas_litellm.base.events import SHAPES, TYPES
from saas_litellm.base.models import Event
from saas_litellm.base.money import NANO
from teams import health, keys
from teams.models import Deployment, DeploymentHealth
from tests import factories, leaks, work
from tests.conftest import Live
from tests.factories import Company

USAGE = Usage(prompt_tokens=137, completion_tokens=29)


@pytest.fixture
def alice(db: None) -> Company:
    return factories.company(model=leaks.OPENAI_MODEL)


@pytest.fixture
def heard(alice: Company) -> Any:
    """A function that tells what was heard since, as pairs of type and data."""
    listen_to_all()
    seen = [0]

    def since() -> list[tuple[str, dict[str, Any]]]:
        found = list(Event.objects.filter(pk__gt=seen[0]).order_by("id"))
        seen[0] = found[-1].pk if found else seen[0]
        for event in found:
            SHAPES[event.type].model_validate_json(event.data)
        return [(event.type, json.loads(event.data)) for event in found]

    return since


def listen_to_all(*types: str) -> None:
    outbox.listen("test", types=types or TYPES)
    outbox.forget()


def types(told: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in told]


def test_a_job_tells_its_life(alice: Company, heard: Any) -> None:
    job = work.job(alice.team, user_id="u1", external_task_id="t1")
    work.call(job, prompt=10_000)
    work.call(job, prompt=10_000)
    work.close(job)
    work.close(job)
    told = heard()
    assert types(told) == ["job.created", "job.started", "job.completed"]
    said = told[-1][1]
    assert said["job_id"] == str(job.pk)
    assert (said["team_id"], said["user_id"], said["external_task_id"]) == ("alice", "u1", "t1")
    assert (said["status"], said["credits_charged"], said["successful_calls"]) == (
        "completed",
        2,
        2,
    )
    assert [data["status"] for _, data in told] == ["pending", "in_progress", "completed"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_however_a_job_ends_it_is_told(alice: Company, heard: Any, status: str) -> None:
    work.close(work.job(alice.team), status, error_message="enough")
    name, said = heard()[-1]
    assert (name, said["error_message"]) == (f"job.{status}", "enough")


def test_what_the_worker_ends_is_told(alice: Company, heard: Any, forward: Any) -> None:
    work.start(work.job(alice.team))
    forward(700)
    calls.abandon_expired()
    forward(25 * 3600)
    closing.expire_idle()
    told = heard()
    assert types(told)[-2:] == ["call.failed", "job.failed"]
    assert (told[-2][1]["error_code"], told[-1][1]["error_message"]) == ("abandoned", "expired")


def test_a_failed_call_names_its_alias(alice: Company, heard: Any) -> None:
    opened = work.start(work.job(alice.team))
    outcome = calls.Outcome(
        usage=USAGE, latency_ms=1, is_output_delivered=False, error_code="provider_error"
    )
    calls.settle(opened=opened, attempt=calls.dispatch(opened), outcome=outcome)
    told = heard()
    assert types(told) == ["job.created", "job.started", "call.failed"]
    assert (told[-1][1]["model"], told[-1][1]["error_code"]) == ("chat", "provider_error")


def test_nothing_a_team_hears_tells_who_answered_or_what_it_cost(
    alice: Company, heard: Any
) -> None:
    job = work.job(alice.team)
    work.call(job, prompt=137, output=29)
    work.call(job, prompt=137, output=29, delivered=False)
    opened = work.start(job)
    outcome = calls.Outcome(
        usage=USAGE, latency_ms=1, is_output_delivered=False, error_code="provider_error"
    )
    calls.settle(opened=opened, attempt=calls.dispatch(opened), outcome=outcome)
    work.close(job)
    costs = {str(call.provider_cost_nano_usd) for call in Call.objects.all()} - {"0"}
    costs.add(str(Job.objects.get().provider_cost_nano_usd))
    shown = [
        leaks.Shown(what=name, status=200, headers=[], body=json.dumps(data))
        for name, data in heard()
        if TYPES[name].is_for_teams
    ]
    assert len(shown) == 4
    assert len(costs) > 1
    assert leaks.leaks(shown, also=costs) == []


def test_credits_tell_when_they_come_run_low_and_are_missing(alice: Company, heard: Any) -> None:
    account = ledger.account_of(alice.team)
    thresholds.replace(account=account, nanocredits=[50 * NANO], actor="test")
    job = work.job(alice.team)
    work.call(job, prompt=600_000)
    thresholds.fire()
    thresholds.fire()
    refusal = InsufficientCredits(needed=90 * NANO, available=40 * NANO)
    for _ in range(3):
        exhaustion.tell(alice.team, refusal)
    factories.top_up(alice.team, 7 * NANO)
    exhaustion.tell(alice.team, refusal)
    told = [pair for pair in heard() if pair[0].startswith("credits")]
    assert types(told) == ["credits.low", "credits.exhausted", "credits.added", "credits.exhausted"]
    assert (told[0][1]["threshold"], told[0][1]["balance"]) == (50, 40)
    assert (told[1][1]["credits_needed"], told[1][1]["credits_available"]) == (90, 40)
    assert (told[2][1]["credits"], told[2][1]["balance"]) == (7, 47)
    assert {data["team_id"] for _, data in told} == {"alice"}


def test_an_organizations_wallet_is_told_without_a_team(alice: Company, heard: Any) -> None:
    account = ledger.account_of_organization(alice.team.organization)
    ledger.grant(account=account, amount_nanocredits=NANO, actor="test", idempotency_key="x")
    (told,) = heard()
    assert (told[1]["team_id"], told[1]["organization_id"]) == (None, "alice-org")
    assert Event.objects.get().team_id is None


def test_a_refused_job_tells_though_all_of_it_is_rolled_back(
    live: Live, alice: Company, heard: Any
) -> None:
    dear = factories.plan("dear", flat=1000 * NANO)
    plans.assign(plan=dear, team=alice.team, actor="test")
    with live.client({**alice.headers, "Idempotency-Key": "once"}) as http:
        for _ in range(2):
            refused = http.post("/api/jobs/create", json={"team_id": "alice", "job_type": "x"})
            assert refused.status_code == 402
    assert types(heard()) == ["credits.exhausted"]
    assert not Job.objects.exists()


def test_what_ends_soon_is_told_once(alice: Company, heard: Any) -> None:
    soon = clock.now() + timedelta(days=3)
    for name, ends_at in (("soon", soon), ("late", soon + timedelta(days=30))):
        keys.issue(team=alice.team, actor="test", name=name, expires_at=ends_at)
        ledger.grant(
            account=ledger.account_of(alice.team),
            amount_nanocredits=5 * NANO,
            actor="test",
            idempotency_key=name,
            expires_at=ends_at,
            kind=Grant.Kind.PROMOTIONAL,
        )
    expiry.expire_due()
    heard()
    for _ in range(2):
        keys.tell_expiring()
        expiry.tell_soon()
    told = heard()
    assert types(told) == ["key.expiring", "credits.expiring"]
    assert (told[0][1]["name"], told[1][1]["credits"]) == ("soon", 5)


def test_a_budget_tells_once(alice: Company, heard: Any) -> None:
    budgets.create(
        owner=alice.team, period="day", limit_nanocredits=NANO, is_hard=False, actor="test"
    )
    work.call(work.job(alice.team), prompt=200_000)
    heard()
    assert (budgets.alert(), budgets.alert()) == (1, 0)
    ((name, said),) = heard()
    assert (name, said["limit"], said["used"], said["period"]) == ("budget.reached", 1, 20, "day")


def test_a_deployment_tells_that_it_is_down_and_up_again(alice: Company, heard: Any) -> None:
    deployment = Deployment.objects.get()
    for _ in range(health.FAILURES_TO_OPEN + 2):
        health.failed(deployment_id=deployment.pk, reason="refused")
    row = DeploymentHealth.objects.get()
    health.answered(row)
    health.answered(row)
    told = heard()
    assert types(told) == ["provider.down", "provider.up"]
    assert told[0][1]["model"] == deployment.model


def test_a_thin_margin_is_told_once_a_day(alice: Company, heard: Any) -> None:
    PlanVersion.objects.update(margin_floor_basis_points=9999)
    job = work.job(alice.team)
    work.call(job, prompt=10_000)
    work.close(job)
    heard()
    for _ in range(2):
        assert margins.sound() == 1
    ((name, said),) = heard()
    assert (name, said["kind"], said["team_id"]) == ("margin.alarm", "thin", "alice")


def story(alice: Company) -> None:
    job = lifecycle.create(team=alice.team, api_key=None, job_type="x")
    work.call(job, prompt=1000)
    work.close(job)


def statements(alice: Company) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        story(alice)
    return [query["sql"] for query in queries]


def test_a_calls_path_has_no_statement_more_while_nobody_listens(alice: Company) -> None:
    story(alice)
    silent = statements(alice)
    assert [sql for sql in silent if "base_event" in sql or "base_listener" in sql] == []
    listen_to_all("job.completed", "call.failed")
    outbox.is_heard(TYPES["job.completed"], team_id=alice.team.pk, organization_id=None)
    heard = statements(alice)
    assert len([sql for sql in heard if "base_event" in sql]) == 1
    # The event, and who the job's team and its organization are.
    assert len(heard) <= len(silent) + 2
