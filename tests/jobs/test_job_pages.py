"""A job's page: its figures are the books', its story is told, and what it offers can be done."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing import rules
from billing.models import Entry
from billing.plans import load
from jobs import calls, profit, refunds, story, timeline
from jobs.models import Attempt, Call, CostLine, Job, StatusChange
from jobs.story import CallTold, Figures
from saas_litellm import verification
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO
from teams.models import Deployment, Team, User
from tests import factories, work
from tests.teams.test_roles import browser, person
from tests.work import Clock


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def team(db: None, pages_served: None, clock: Clock) -> Team:
    """Alice's team, with two deployments behind its alias."""
    clock.set(2026, 3, 9)
    company = factories.company()
    Deployment.objects.create(alias=company.alias, model="demo/echo", priority=2)
    clock.set(2026, 3, 10)
    return company.team


@pytest.fixture
def owner(team: Team) -> Client:
    return browser(person("olga", "owner"))


def signed_in_now() -> Client:
    """An owner whose session began after the story, which would have outlasted an earlier one."""
    return browser(person("owen", "owner"))


def page(client: Client, job: Job) -> Any:
    answer = client.get(f"/admin/jobs/job/{job.pk}/change/")
    assert answer.status_code == 200
    return answer


def text_of(answer: Any) -> str:
    """What a reader sees, without the tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def told_of(job: Job) -> story.Story:
    told = story.of(job.pk)
    assert told is not None
    return told


def job_with_everything(team: Team, clock: Clock) -> Job:
    """A minimum of 1 credit; a fallback, a failed call, one that was lost, a refund."""
    plan = work.plan(
        "gold",
        job_rules=[{"job_type": "contract", "kind": "minimum", "credits": 1}],
        call_rules=[{"kind": "markup", "markup_percent": 50}],
    )
    work.plans.assign(plan=plan, team=team, actor="test")
    job = work.job(team, metadata={"doc": "<d1>"}, user_id="u1")
    clock.tick(1)
    work.fail_over(work.start(job), prompt=1000, output=10)
    clock.tick(1)
    work.call(job, prompt=2000, delivered=False)
    lost = work.start(job)
    calls.dispatch(lost)
    clock.tick(10_000)
    assert calls.abandon_expired() == 1
    closed = work.close(job)
    refunds.refund_job(
        job=closed, nanocredits=NANO // 10, reason="slow", actor="user:olga", idempotency_key="k"
    )
    return Job.objects.get(pk=job.pk)


def test_the_pages_figures_are_the_books(team: Team, clock: Clock) -> None:
    job = job_with_everything(team, clock)
    told = told_of(job)
    parts = [*(one.figures for one in told.calls), told.own]
    for name in Figures.__dataclass_fields__:
        assert sum(getattr(part, name) for part in parts) == getattr(told.total, name), name
    day = clock.moment.date()
    report = profit.report(start=day, end=day + timedelta(days=1)).total
    assert told.total.margin_nano_usd == report.margin_nano_usd == job.margin_nano_usd
    assert told.lines[-1].so_far == told.total.net_nanocredits == job.net_nanocredits
    assert sum(line.amount_nano_usd for line in told.cost_lines) == job.provider_cost_nano_usd
    assert {line.kind for line in told.cost_lines} == {"attempt", "estimate"}
    shown = text_of(page(signed_in_now(), job))
    for line in Entry.objects.filter(reference__endswith=str(job.pk)):
        assert f"{line.amount_nanocredits / NANO:g}" in shown
    assert verification.verify() == []


def test_the_page_tells_the_story(team: Team, clock: Clock) -> None:
    job = job_with_everything(team, clock)
    shown = text_of(page(signed_in_now(), job))
    for words in (
        "failed, rate_limited (429) after 0 ms: come back later",
        "then chat → demo/echo: answered",
        "failed, abandoned",
        "2026-03-10 00:00:00",
        "completed test",
        "team:alice",
        "contract: at least 1 credit a completed job",
        "any job, any alias: provider cost + 50 %, 10 credits a USD",
        "gold v1",
        "user:olga slow",
        "&lt;d1&gt;",
        "The job itself",
    ):
        assert words in shown, words


def test_who_moved_a_job_is_kept(team: Team) -> None:
    job = work.job(team, actor="key:abc")
    work.call(job)
    work.close(job)
    steps = StatusChange.objects.values_list("to_status", "actor")
    assert list(steps) == [
        ("pending", "key:abc"),
        ("in_progress", "team:alice"),
        ("completed", "test"),
    ]


def test_a_failed_attempt_ends_when_the_next_begins(team: Team, clock: Clock) -> None:
    work.fail_over(work.start(work.job(team)))
    first, second = Attempt.objects.order_by("number")
    assert first.ended_at == second.started_at == clock.moment


def test_a_page_asks_as_much_for_sixty_calls_as_for_three(team: Team, owner: Client) -> None:
    job = work.job(team)
    for _ in range(3):
        work.fail_over(work.start(job))
    page(owner, job)
    with CaptureQueriesContext(connection) as few:
        page(owner, job)
    for _ in range(57):
        work.call(job)
    with CaptureQueriesContext(connection) as many:
        page(owner, job)
    assert Call.objects.count() == 60
    assert len(many) == len(few) < 30


def test_of_a_very_long_job_the_first_calls_are_told(
    team: Team, owner: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr(story, "MOST_CALLS", 2)
    job = work.job(team)
    for _ in range(3):
        work.call(job, prompt=1000)
    told = told_of(job)
    assert (len(told.calls), told.left_out) == (2, 1)
    assert told.total.prompt_tokens == 3000
    shown = page(owner, job).content.decode()
    assert f'<a href="/admin/jobs/call/?job={job.pk}">All its calls</a>' in shown


def test_a_job_without_calls_and_one_that_is_not_there(team: Team, owner: Client) -> None:
    shown = text_of(page(owner, work.job(team)))
    assert "No call was made in it yet." in shown
    assert "Nothing was charged yet." in shown
    for strange in ("00000000-0000-0000-0000-000000000001", "nonsense"):
        assert owner.get(f"/admin/jobs/job/{strange}/change/").status_code == 302


def drawn(*spans: tuple[int, int | None]) -> timeline.Timeline:
    """A timeline of calls that began and ended so many seconds after each other."""
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    told = []
    for number, (start, end) in enumerate(spans, 1):
        call = Call(created_at=noon + timedelta(seconds=start), status="dispatched")
        if end is not None:
            call.finished_at, call.status = noon + timedelta(seconds=end), "settled"
        told.append(
            CallTold(
                number=number,
                call=call,
                attempts=[],
                figures=Figures(),
                rule="",
                has_payload=False,
            )
        )
    made = timeline.of(type("Told", (), {"calls": told}))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_time_without_a_call_is_cut_short(clock: Clock) -> None:
    made = drawn((0, 10), (5, 20), (3620, 3640))
    assert [cut.says for cut in made.cuts] == ["1 h without a call"]
    bars = [(track.bars[0].x, track.bars[0].width) for track in made.tracks]
    # Forty seconds of work and half as long for the rest: 60 in all.
    assert bars == [("0.000%", "16.667%"), ("8.333%", "25.000%"), ("66.667%", "33.333%")]


def test_a_running_call_is_drawn_to_now_and_a_short_one_can_be_seen(clock: Clock) -> None:
    clock.set(2026, 3, 10, 12, 1, 40)
    made = drawn((0, 0), (0, None))
    assert made.ends_at == clock.moment
    assert [track.bars[0].width for track in made.tracks] == ["0.600%", "100.000%"]
    assert made.cuts == []


def test_a_part_of_the_page_is_for_those_who_may_see_it(team: Team, clock: Clock) -> None:
    job = job_with_everything(team, clock)
    sam = User.objects.create_user("sam", password="x" * 20, is_staff=True)
    client = browser(sam)
    assert client.get(f"/admin/jobs/job/{job.pk}/change/").status_code == 403
    sam.user_permissions.add(Permission.objects.get(codename="view_job"))
    shown = text_of(page(client, job))
    assert "Tokens, cost and price" in shown
    assert not any(words in shown for words in ("Ledger entries", "Cost lines", "Stored"))


def test_a_stored_prompt_is_linked_for_those_who_may_look(team: Team, owner: Client) -> None:
    team.payload_policy = Team.PayloadPolicy.FULL
    team.save()
    work.call(job := work.job(team))
    call = Call.objects.get()
    link = f"/admin/jobs/call/{call.pk}/payload/"
    assert link in page(owner, job).content.decode()
    assert not AuditEntry.objects.filter(action="payload.look").exists()
    assert "prompt and answer" not in text_of(page(browser(person("fred", "finance")), job))
    assert owner.get(link).status_code == 200
    assert AuditEntry.objects.filter(action="payload.look").count() == 1


CANCEL = {"reason": "asked to", "idempotency_key": "1"}


def test_an_operator_cancels_a_running_job_once(team: Team, owner: Client) -> None:
    job = work.job(team)
    charged = work.call(job, prompt=1000).charged_nanocredits
    assert f"/admin/jobs/job/{job.pk}/cancel/" in page(owner, job).content.decode()
    for _ in range(2):
        answer = owner.post(f"/admin/jobs/job/{job.pk}/cancel/", CANCEL)
        assert answer["Location"] == f"/admin/jobs/job/{job.pk}/change/"
    job.refresh_from_db()
    assert (job.status, job.is_waived, job.net_nanocredits) == ("cancelled", False, charged)
    (entry,) = AuditEntry.objects.filter(action="job.cancel")
    assert (entry.actor, entry.reason) == ("user:olga", "asked to")
    assert (entry.before, entry.after) == ({"status": "in_progress"}, {"status": "cancelled"})
    last = StatusChange.objects.last()
    assert last is not None
    assert (last.actor, last.reason) == ("user:olga", "asked to")
    shown = page(owner, job).content.decode()
    assert f"/admin/jobs/job/{job.pk}/cancel/" not in shown
    assert verification.verify() == []


def test_a_completed_job_is_not_cancelled(team: Team, owner: Client) -> None:
    work.close(job := work.job(team))
    answer = owner.post(f"/admin/jobs/job/{job.pk}/cancel/", CANCEL)
    assert "This job is completed already." in answer.content.decode()
    assert not AuditEntry.objects.filter(action="job.cancel").exists()
    assert owner.post(f"/admin/jobs/job/{job.pk}/cancel/", {}).status_code == 200


def test_a_refund_comes_back_to_the_jobs_page(team: Team, owner: Client) -> None:
    job = work.job(team)
    call = work.call(job, prompt=1000)
    work.close(job)
    for path, credits_ in ((f"job/{job.pk}", "0.04"), (f"call/{call.pk}", "")):
        form = {"credits": credits_, "reason": "slow", "idempotency_key": path}
        for _ in range(2):
            answer = owner.post(f"/admin/jobs/{path}/refund/", form)
            assert answer["Location"] == f"/admin/jobs/job/{job.pk}/change/"
    assert work.paid(job) == "0"
    given = Entry.objects.filter(kind="refund").order_by("id")
    assert [entry.amount_nanocredits for entry in given] == [40_000_000, 60_000_000]
    assert f"/admin/jobs/job/{job.pk}/refund/" not in page(owner, job).content.decode()


@pytest.mark.parametrize(
    ("spec", "of_job", "of_call"),
    [
        (
            {"job_rules": [{"kind": "flat", "credits": 2}]},
            "any job: flat, 2 credits a completed job",
            "In the job's flat price",
        ),
        (
            {"job_rules": [{"kind": "package", "credits": 1, "package_tokens": 5000}]},
            "any job: 1 credit for each started 5,000 tokens",
            "In the job's package",
        ),
        (
            {
                "call_rules": [
                    {
                        "kind": "tokens",
                        "input_credits_per_1k": "0.1",
                        "output_credits_per_1k": "0.3",
                    },
                ]
            },
            "No price of its own: its calls are priced one by one.",
            "any job, any alias: credits per 1,000 tokens: 0.1 in, 0 cached, 0.3 out",
        ),
    ],
)
def test_a_rule_is_said_in_words(db: None, spec: Any, of_job: str, of_call: str) -> None:
    version = work.plan("tin", **spec).versions.get()
    plan = load(version.pk)
    assert rules.of_job(plan, job_type="x") == of_job
    assert rules.of_call(plan, job_type="x", alias="chat") == of_call


def test_a_late_settlements_lines_are_all_told(team: Team, clock: Clock) -> None:
    job = work.job(team)
    opened = work.start(job)
    attempt = calls.dispatch(opened)
    clock.tick(10_000)
    calls.abandon_expired()
    usage = work.Usage(prompt_tokens=100, completion_tokens=20)
    outcome = work.Outcome(usage=usage, latency_ms=1, is_output_delivered=True)
    calls.settle(opened=opened, attempt=attempt, outcome=outcome)
    assert [line.kind for line in told_of(job).cost_lines] == ["estimate", "reversal", "attempt"]
    assert CostLine.objects.count() == 3
    assert "estimate 1 1, chat" in text_of(page(signed_in_now(), job))
