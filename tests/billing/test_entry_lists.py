"""The ledger's list: each filter keeps exactly its lines, and none counts or reads them all."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing import ledger, lots, runway
from billing.models import Account, Draw, Entry
from jobs import refunds
from jobs.models import Job
from saas_litellm.base import paging
from saas_litellm.base.money import NANO
from tests import factories, work
from tests.teams.test_roles import browser, person
from tests.work import Clock

LEDGER, DRAWS, ACCOUNTS = (f"/admin/billing/{name}/" for name in ("entry", "draw", "account"))


@pytest.fixture
def job(db: None, pages_served: None, monkeypatch: Any) -> Job:
    """Alice's, charged on the 2nd and refunded on the 4th; Bob has his organization's wallet."""
    clock = Clock(monkeypatch)
    clock.set(2026, 3, 1)
    alice = factories.company().team
    bob = factories.company(name="bob").team
    ledger.grant(
        account=ledger.account_of_organization(bob.organization),
        amount_nanocredits=7 * NANO,
        actor="test",
        idempotency_key="shared",
    )
    clock.set(2026, 3, 2, 23, 59)
    job = work.job(alice)
    work.call(job, prompt=3000)
    clock.set(2026, 3, 4)
    refunds.refund_job(
        job=work.close(job), nanocredits=None, reason="x", actor="x", idempotency_key="x"
    )
    return job


@pytest.fixture
def vera(job: Job) -> Client:
    return browser(person("vera", "viewer"))


def kinds(client: Client, query: str, path: str = LEDGER) -> list[str]:
    """What the list shows, in its order."""
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 200
    return [row.kind for row in answer.context["cl"].result_list]


FILTERS = {
    "": ["refund", "charge", "grant", "grant", "grant"],
    "kind=charge": ["charge"],
    "kind=grant": ["grant", "grant", "grant"],
    "kind=expiry": [],
    "account=alice": ["refund", "charge", "grant"],
    "account=alice&kind=grant": ["grant"],
    "account=nobody": [],
    "created_from=2026-03-02&created_to=2026-03-02": ["charge"],
    "created_from=2026-03-02": ["refund", "charge"],
    "created_to=2026-03-01": ["grant", "grant", "grant"],
    "account=alice&created_from=2026-03-03": ["refund"],
    "q=alice": ["refund", "charge", "grant"],
    "q=alice&kind=refund": ["refund"],
    "q=ali": [],
}


def test_a_filter_keeps_exactly_its_lines(vera: Client) -> None:
    for query, expected in FILTERS.items():
        assert kinds(vera, query) == expected, query


def test_an_organization_is_asked_for_as_a_team_is(vera: Client) -> None:
    shared = Account.objects.exclude(organization=None).get()
    assert shared.organization is not None
    for query in (f"account={shared.organization.slug}", f"q={shared.organization.slug}"):
        (line,) = vera.get(f"{LEDGER}?{query}").context["cl"].result_list
        assert line.account_id == shared.pk


def test_a_line_is_found_by_its_reference_and_by_its_call(vera: Client, job: Job) -> None:
    charge = Entry.objects.get(kind="charge")
    for text in (charge.reference, f" {charge.reference.partition(':')[2].upper()} "):
        found = vera.get(LEDGER, {"q": text}).context["cl"].result_list
        assert charge in found
        assert {line.account_id for line in found} == {charge.account_id}
    assert kinds(vera, f"q={job.pk}x") == []


def test_a_hold_is_found_by_its_call(vera: Client, job: Job) -> None:
    call = job.calls.get()
    assert call.hold is not None
    for text in (call.hold.reference, str(call.pk)):
        with CaptureQueriesContext(connection) as seen:
            (hold,) = vera.get("/admin/billing/hold/", {"q": text}).context["cl"].result_list
        assert hold == call.hold
        assert not any("LIKE" in query["sql"] for query in seen)


def test_what_a_filter_cannot_read_is_said_and_finds_nothing(vera: Client) -> None:
    for query in ("created_from=yesterday", "kind=odd", "account=%00"):
        answer = vera.get(f"{LEDGER}?{query}")
        assert list(answer.context["cl"].result_list) == []
        assert 'role="alert"' in answer.content.decode()


def test_draws_are_filtered_by_kind_and_day(vera: Client) -> None:
    lots.fold_all()
    assert {draw.kind for draw in Draw.objects.all()} == {"charge", "refund"}
    assert kinds(vera, "", DRAWS) == ["refund", "charge"]
    assert kinds(vera, "kind=refund", DRAWS) == ["refund"]
    assert kinds(vera, "at_to=2026-03-02", DRAWS) == ["charge"]
    assert kinds(vera, "at_from=2026-03-03", DRAWS) == ["refund"]


@pytest.mark.parametrize("model", ["billing/hold", "jobs/costline", "base/auditentry"])
def test_no_list_counts_all_its_rows(vera: Client, monkeypatch: Any, model: str) -> None:
    monkeypatch.setattr(paging, "MOST", 1)
    work.call(work.job(Job.objects.get().team))
    with CaptureQueriesContext(connection) as seen:
        answer = vera.get(f"/admin/{model}/")
    assert "More than 1 match" in answer.content.decode()
    counts = [query["sql"] for query in seen if "COUNT(" in query["sql"]]
    assert all("LIMIT 2" in sql for sql in counts)
    assert counts


def test_many_lines_and_accounts_ask_as_much_as_few(vera: Client) -> None:
    def asked() -> list[int]:
        counts = []
        for path in (LEDGER, f"{LEDGER}?account=alice", f"{LEDGER}?q=alice", ACCOUNTS):
            vera.get(path)
            with CaptureQueriesContext(connection) as seen:
                vera.get(path)
            assert not any("LIKE" in query["sql"] for query in seen)
            counts.append(len(seen))
        return counts

    few = asked()
    for number in range(12):
        company = factories.company(name=f"c{number}")
        work.call(work.job(company.team))
        work.call(work.job(Job.objects.order_by("created_at")[0].team))
    assert asked() == few


def test_the_list_of_accounts_says_how_long_they_last(vera: Client) -> None:
    account = Account.objects.get(team__slug="alice")
    assert runway.keep_paces() == Account.objects.count()
    days = runway.current(account).days
    assert f"{days} days" in vera.get(ACCOUNTS).content.decode()
