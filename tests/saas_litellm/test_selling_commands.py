"""The same selling from the command line: text, --json, and a failure where it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.models import Account, BalanceThreshold, Budget, Entry, PlanVersion, RecurringGrant
from jobs import rollups
from jobs.models import Job, ProfitDay, RollupDay, Shadow
from saas_litellm import verification, worker
from saas_litellm.base import clock
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Unauthenticated
from teams import operators
from teams.models import Team, User
from tests import factories, work
from tests.saas_litellm.test_commands import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db: None) -> Team:
    return factories.company().team


@pytest.fixture
def job(alice: Team) -> Job:
    job = work.job(alice)
    work.call(job, prompt=1000)  # 0.1 credits
    return work.close(job)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"job_rules": [{"credits": 2}]}))
    return file


def test_a_plan_from_a_file_to_a_team(alice: Team, spec: Path) -> None:
    assert run("plan", "draft", str(spec), "gold") == {"plan": "gold", "version": 1}
    with pytest.raises(CommandError, match="no version in effect"):
        call_command("plan", "assign", "gold", "--team", "alice")
    run("plan", "activate", "1", "gold")
    run("plan", "assign", "gold", "--team", "alice")
    assert work.paid(work.close(work.job(alice))) == "2"
    (shown,) = run("plan", "show", "gold")
    assert (shown["state"], shown["job_rules"][0]["credits"]) == ("active", 2)
    with pytest.raises(CommandError, match="active already"):
        call_command("plan", "activate", "1", "gold")
    run("plan", "assign", "consumption_usd", "--organization", "alice-org", "--from", "2999-01-01")


def test_a_plan_file_of_nonsense_is_refused(alice: Team, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    for text in ("{", '{"job_rules": [{"credits": -1}]}', '{"colour": 1}', "[]"):
        file.write_text(text)
        with pytest.raises(CommandError):
            call_command("plan", "draft", str(file), "gold")
    with pytest.raises(CommandError):
        call_command("plan", "draft", str(tmp_path / "none.json"), "gold")
    assert not PlanVersion.objects.filter(plan__slug="gold").exists()


def test_credits_limits_and_schedules(alice: Team) -> None:
    adjusted = run("adjust_credits", "alice", "-130", "--reason", "mistake")
    assert (adjusted["credits"], adjusted["lost"], adjusted["balance"]) == ("-100", "30", "0")
    assert run("set_credit_limit", "alice", "7.5")["credit_limit"] == "7.5"
    assert run("set_wallet", "alice", "organization")["draws_on"] == "organization"
    assert run("set_wallet", "alice", "team")["draws_on"] == "team"
    run("set_budget", "week", "3", "--team", "alice", "--soft")
    assert not Budget.objects.get().is_hard
    run("auto_refill", "alice", "10", "monthly", "--cap", "50", "--subscription", "--paid-usd", "1")
    assert RecurringGrant.objects.get().kind == "subscription"
    assert run("low_balance", "alice", "5", "1")["thresholds"] == ["5", "1"]
    assert BalanceThreshold.objects.count() == 2
    assert run("sweep")["recurring_grants"] == 1
    assert Account.objects.get().balance_nanocredits == 10 * NANO
    (month,) = run("deferred_revenue")["months"]
    assert month["sold_usd"] == "1"
    assert verification.verify() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("adjust_credits", "--reason", "x", "alice", "0"),
        ("adjust_credits", "--reason", " ", "alice", "1"),
        ("set_credit_limit", "alice", "-1"),
        ("set_budget", "day", "0", "--team", "alice"),
        ("set_budget", "day", "1", "--key", "nobody"),
        ("set_budget", "day", "1", "--organization", "nobody"),
        ("auto_refill", "alice", "0", "daily"),
        ("low_balance", "alice", "1", "1"),
        ("refund", "--reason", "x", "--job", "00000000-0000-0000-0000-000000000000"),
        ("reprice", "--plan", "nobody", "--since", "2026-01-01"),
        ("reprice", "--plan", "job_based:9", "--since", "2026-01-01"),
        ("shadow_plan", "start", "job_based"),
        ("shadow_plan", "stop"),
        ("issue_operator_key", "nobody"),
        ("revoke_operator_key", "nobody"),
    ],
)
def test_a_refusal_is_a_message_and_a_failure(alice: Team, arguments: tuple[str, ...]) -> None:
    before = Entry.objects.count()
    with pytest.raises(CommandError):
        call_command(*arguments)
    assert Entry.objects.count() == before


def test_a_job_is_refunded_once_for_a_key(job: Job) -> None:
    once = ("refund", "--job", str(job.pk), "--credits", "0.04", "--reason", "x")
    for _ in range(2):
        assert run(*once, "--idempotency-key", "k")["credits"] == "0.04"
    call = job.calls.get()
    assert run("refund", "--call", str(call.pk), "--reason", "x")["credits"] == "0.06"
    with pytest.raises(CommandError, match="At most 0 credits"):
        call_command(*once)


def test_profit_repricing_and_shadows(job: Job, spec: Path, tmp_path: Path) -> None:
    shown = run("profit", "--by", "job_type")
    assert [(row["key"], row["revenue_usd"]) for row in shown["rows"]] == [("contract", "0.01")]
    run("plan", "draft", str(spec), "gold")
    since = f"{clock.now():%Y-%m-01}"
    listed = tmp_path / "jobs.csv"
    tried = run("reprice", "--plan", "gold", "--since", since, "--csv", str(listed))
    assert (tried["total"]["candidate_revenue_usd"], tried["total"]["difference_usd"]) == (
        "0.2",
        "0.19",
    )
    assert listed.read_text().splitlines()[1].split(",")[-1] == "0.2"
    assert run("shadow_plan", "start", "gold:1", "--team", "alice")["id"] == Shadow.objects.get().pk
    work.close(work.job(Team.objects.get()))
    (day,) = run("shadow_plan", "show")["days"]
    assert (day["jobs"], day["shadow_usd"]) == (1, "0.2")
    run("shadow_plan", "stop", "--id", str(Shadow.objects.get().pk))
    assert run("cost_drift") == {"drifts": []}


def test_kept_days_are_updated_proved_and_made_anew(job: Job) -> None:
    assert run("rollups", "update") == {"days": 0}
    day = clock.now().date()
    rollups.roll(day)
    assert run("rollups", "compare") == {"differences": []}
    ProfitDay.objects.filter(calls=1).update(calls=2)
    with pytest.raises(CommandError, match="calls is 2, should be 1"):
        call_command("rollups", "compare")
    run("rollups", "rebuild")
    assert RollupDay.objects.get(day=day).is_dirty


def test_an_operator_key_is_issued_and_revoked(db: None) -> None:
    User.objects.create_superuser("olga", password="x" * 20)
    issued = run("issue_operator_key", "olga", "--name", "ci")
    assert operators.authenticate(issued["key"]).user.username == "olga"
    run("revoke_operator_key", issued["prefix"])
    with pytest.raises(Unauthenticated):
        operators.authenticate(issued["key"])
    User.objects.create_user("carl", password="x" * 20)
    with pytest.raises(CommandError, match="not a staff user"):
        call_command("issue_operator_key", "carl")


def test_a_chore_that_fails_does_not_stop_the_others(alice: Team, monkeypatch: Any) -> None:
    def broken() -> int:
        raise RuntimeError("broken")

    chores = {"broken": broken, **worker.CHORES}
    monkeypatch.setattr(worker, "CHORES", chores)
    assert worker.sweep()["folded accounts"] == 1
