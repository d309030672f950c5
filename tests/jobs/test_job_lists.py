"""The lists of jobs and calls: each filter keeps exactly its rows, and none counts them all."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs import calls, links, refunds, search
from jobs.models import Call, Job
from saas_litellm.base import paging
from tests import factories, work
from tests.teams.test_roles import browser, person
from tests.work import Clock

JOBS, CALLS = "/admin/jobs/job/", "/admin/jobs/call/"


@pytest.fixture
def shop(db: None, pages_served: None, monkeypatch: Any) -> Clock:
    """Five jobs of two teams, each named by its task id."""
    clock = Clock(monkeypatch)
    clock.set(2026, 2, 20)
    alice = factories.company(alias="chat").team
    bob = factories.company(name="bob", alias="smart").team
    clock.set(2026, 3, 1)
    kept = work.job(alice, "letters", external_task_id="kept", user_id="u1", metadata={"doc": "d1"})
    work.call(kept, prompt=1000)
    work.close(kept)
    clock.set(2026, 3, 2)
    failed = work.job(alice, "summary", external_task_id="failed", metadata={"pages": 5})
    work.call(failed, prompt=2000, delivered=False)
    work.close(failed, "failed")
    clock.set(2026, 3, 2, 23, 59)
    running = work.job(bob, "letters", external_task_id="running", metadata={"doc__x": True})
    calls.dispatch(work.start(running, model="smart"))
    clock.set(2026, 3, 3)
    work.close(
        work.job(
            bob, "letters", external_task_id="cancelled", user_id="u2", metadata={"doc": "d2"}
        ),
        "cancelled",
    )
    refunded = work.job(alice, "letters", external_task_id="refunded", user_id="u1")
    work.call(refunded, prompt=3000)
    clock.set(2026, 3, 5)
    refunds.refund_job(
        job=work.close(refunded), nanocredits=None, reason="x", actor="x", idempotency_key="x"
    )
    return clock


@pytest.fixture
def vera(shop: Clock) -> Client:
    return browser(person("vera", "viewer"))


def tasks(client: Client, query: str) -> list[str]:
    """The task ids of the jobs that the list shows, in its order."""
    answer = client.get(f"{JOBS}?{query}")
    assert answer.status_code == 200
    return [job.external_task_id for job in answer.context["cl"].result_list]


ALL = {"kept", "failed", "running", "cancelled", "refunded"}


JOB_FILTERS: list[tuple[str, set[str]]] = [
    ("", ALL),
    ("status=completed", {"kept", "refunded"}),
    ("status=failed", {"failed"}),
    ("status=open", {"running"}),
    ("status=in_progress", {"running"}),
    ("job_type=summary", {"failed"}),
    ("job_type=summ", set()),
    ("team=alice", {"kept", "failed", "refunded"}),
    ("team=nobody", set()),
    ("user=u1", {"kept", "refunded"}),
    ("user=u", set()),
    ("created_from=2026-03-02&created_to=2026-03-02", {"failed", "running"}),
    ("created_to=2026-03-01", {"kept"}),
    ("closed_from=2026-03-04", {"refunded"}),
    ("metadata=doc", {"kept", "cancelled"}),
    ("metadata=doc%3Dd2", {"cancelled"}),
    ("metadata=pages%3D5", {"failed"}),
    ("metadata=doc__x%3Dtrue", {"running"}),
    ("metadata=doc%3Dd", set()),
    ("metadata=pages%3DNaN", set()),
    ("metadata=pages%3D1e999", set()),
    ("cost_from=0.02", {"failed", "refunded"}),
    ("cost_from=0.01&cost_to=0.02", {"kept", "failed"}),
    ("losing=on", {"failed", "refunded"}),
    ("losing=on&job_type=letters", {"refunded"}),
    ("losing=on&team=bob", set()),
    ("status=&team=&losing=&cost_from=", ALL),
    ("q=alice", {"kept", "failed", "refunded"}),
    ("q=running", {"running"}),
    ("q=u2", {"cancelled"}),
    ("q=summary", {"failed"}),
    ("q=lette", set()),
    ("q=alice&status=failed", {"failed"}),
]


def test_a_filter_keeps_exactly_its_jobs(vera: Client) -> None:
    for query, expected in JOB_FILTERS:
        found = tasks(vera, query)
        assert sorted(found) == sorted(expected), query


def test_a_job_is_found_by_the_beginning_of_its_id(vera: Client) -> None:
    job = Job.objects.get(external_task_id="kept")
    Job.objects.filter(external_task_id="failed").update(external_task_id=str(job.pk)[:4])
    for length in (4, 8, 23, 36):
        assert "kept" in tasks(vera, f"q={str(job.pk)[:length]}")
    assert tasks(vera, f"q={uuid4()}") == []


def test_a_name_that_two_kinds_share_finds_both(vera: Client) -> None:
    Job.objects.filter(external_task_id="cancelled").update(user_id="alice")
    assert set(tasks(vera, "q=alice")) == {"kept", "failed", "refunded", "cancelled"}


def test_the_newest_come_first_and_the_dearest_where_a_cost_is_asked_for(vera: Client) -> None:
    assert tasks(vera, "")[-1] == "kept"
    assert tasks(vera, "cost_from=0.01") == ["refunded", "failed", "kept"]
    assert tasks(vera, "closed_to=2026-03-03") == ["cancelled", "failed", "kept"]


def test_what_a_filter_cannot_read_is_said_and_finds_nothing(vera: Client) -> None:
    for query in ("created_from=yesterday", "cost_from=a+lot", "status=odd", "metadata=%00"):
        answer = vera.get(f"{JOBS}?{query}")
        assert list(answer.context["cl"].result_list) == []
        assert 'role="alert"' in answer.content.decode()


CALL_FILTERS: list[tuple[str, set[str]]] = [
    ("", {"kept", "failed", "running", "refunded"}),
    ("status=dispatched", {"running"}),
    ("status=settled", {"kept", "refunded"}),
    ("team=bob", {"running"}),
    ("alias=chat", {"kept", "failed", "refunded"}),
    ("alias=none", set()),
    ("error=provider_timeout", {"failed"}),
    ("slow=30", {"kept"}),
    ("slow=10", {"kept", "refunded"}),
    ("created_from=2026-03-02&created_to=2026-03-02", {"failed", "running"}),
    ("q=bob", {"running"}),
]


def test_a_filter_keeps_exactly_its_calls(vera: Client) -> None:
    named = {name: Call.objects.filter(job__external_task_id=name) for name in ALL}
    named["failed"].update(error_code="provider_timeout")
    named["kept"].update(latency_ms=30_000)
    named["refunded"].update(latency_ms=29_999)
    for query, expected in CALL_FILTERS:
        found = vera.get(f"{CALLS}?{query}").context["cl"].result_list
        assert {call.job.external_task_id for call in found} == expected, query
    job = Job.objects.get(external_task_id="kept")
    for of_one in (f"job={job.pk}", f"q={job.pk}"):
        (only,) = vera.get(f"{CALLS}?{of_one}").context["cl"].result_list
        assert only.job_id == job.pk


def test_a_long_list_is_cut_and_says_so(vera: Client, monkeypatch: Any) -> None:
    assert "More than" not in vera.get(JOBS).content.decode()
    monkeypatch.setattr(paging, "MOST", 4)
    answer = vera.get(JOBS)
    assert answer.context["cl"].result_count == 4
    assert "More than 4 match" in answer.content.decode()


def test_the_list_asks_as_much_for_many_jobs_as_for_one(vera: Client, shop: Clock) -> None:
    team = Job.objects.filter(team__slug="alice")[0].team
    vera.get(JOBS)
    with CaptureQueriesContext(connection) as few:
        vera.get(JOBS)
    for number in range(20):
        work.job(team, f"type-{number}")
    with CaptureQueriesContext(connection) as many:
        vera.get(JOBS)
    assert len(many) == len(few)
    assert not any("LIKE" in query["sql"] for query in many.captured_queries)


def test_job_types_are_suggested_in_order(shop: Clock) -> None:
    assert search.job_types() == ["letters", "summary"]
    assert search.job_types(most=1) == ["letters"]


def test_a_reports_row_leads_to_its_jobs_and_to_those_at_a_loss(vera: Client) -> None:
    report = "/admin/jobs/profitday/?start=2026-03-01&end=2026-03-06"
    shown = vera.get(f"{report}&group_by=job_type").content.decode()
    start = date(2026, 3, 1)
    leads = links.of_row("job_type", "letters", start=start, end=start + timedelta(days=5))
    assert leads.losing.replace("&", "&amp;") in shown
    assert tasks(vera, leads.losing.partition("?")[2]) == ["refunded"]
    assert set(tasks(vera, leads.all.partition("?")[2])) == {"kept", "cancelled", "refunded"}


LEADS = {
    ("day", "2026-03-02"): {"failed"},
    ("month", "2026-03"): {"kept", "failed", "cancelled", "refunded"},
    ("team", "bob"): {"cancelled"},
    ("team", "total"): {"kept", "failed", "cancelled", "refunded"},
}


def test_a_row_leads_to_what_it_sums(vera: Client) -> None:
    span = {"start": date(2026, 2, 1), "end": date(2026, 4, 1)}
    for (group_by, name), expected in LEADS.items():
        leads = links.of_row(group_by, name, **span)
        assert set(tasks(vera, leads.all.partition("?")[2])) == expected
    assert links.of_row("team", "(corrections)", **span).all == ""


def test_the_overviews_losses_lead_to_their_jobs(vera: Client, shop: Clock) -> None:
    shown = vera.get("/admin/?period=7d").content.decode()
    assert "team=alice&amp;closed_from=2026-02-27&amp;closed_to=2026-03-05&amp;losing=on" in shown
    assert "alias=chat&amp;created_from=2026-02-27" in shown
