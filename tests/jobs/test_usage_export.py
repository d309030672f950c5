"""Usage for those who bill elsewhere: every event once, with an id that stays, in two shapes."""

from __future__ import annotations

import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from jsonschema import FormatChecker, validate

from billing.models import Entry
from jobs import refunds, usage_export
from jobs.usage_export import Span, as_lago, as_openmeter
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from teams import operators
from tests import factories, leaks, work
from tests.conftest import Live
from tests.teams.test_roles import person

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
EVER = Span(start=START, end=END)
pytestmark = pytest.mark.django_db
# The CloudEvents specification's JSON schema: what it requires, and of which form each is.
CLOUD_EVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "additionalProperties": False,
}
# Lago's EventInput.
LAGO_EVENT = {
    "type": "object",
    "required": ["transaction_id", "external_subscription_id", "code"],
    "properties": {
        "transaction_id": {"type": "string", "minLength": 1},
        "external_subscription_id": {"type": "string", "minLength": 1},
        "code": {"type": "string", "minLength": 1},
        "timestamp": {"type": "integer"},
        "properties": {"type": "object"},
    },
    "additionalProperties": False,
}


def company(name: str = "alice") -> factories.Company:
    """Two jobs of three calls, one of them refunded, and one that delivered nothing."""
    made = factories.company(name=name)
    for _ in range(2):
        job = work.job(made.team, "letters", user_id="u1")
        for _ in range(3):
            work.call(job, prompt=1000, output=100, cached=10)
        work.close(job)
    work.call(work.job(made.team), prompt=10, delivered=False)
    refunds.refund_job(job=job, nanocredits=None, reason="x", actor="test", idempotency_key="1")
    return made


def test_credits_add_up_to_the_ledger() -> None:
    company()
    factories.company(name="flat", plan="job_based", credits_=5)
    work.close(work.job(factories.Team.objects.get(slug="flat")))
    found = list(usage_export.events(EVER))
    assert Counter(event.type for event in found) == {"llm_call": 6, "llm_job": 3, "llm_refund": 3}
    moved = Entry.objects.filter(kind__in=["charge", "refund"])
    taken = -sum(moved.values_list("amount_nanocredits", flat=True))
    assert sum((event.figures["credits"] for event in found), Decimal(0)) == from_nano(taken)
    worth = sum(moved.values_list("price_nano_usd", flat=True))
    assert sum((event.figures["price_usd"] for event in found), Decimal(0)) == from_nano(worth)
    first = found[0].figures
    assert (first["prompt_tokens"], first["cached_tokens"], first["total_tokens"]) == (
        1000,
        10,
        1100,
    )
    assert (first["model"], first["job_type"], first["user_id"]) == ("chat", "letters", "u1")


def test_both_shapes_are_what_is_documented() -> None:
    company()
    for event in usage_export.events(EVER):
        written = json.loads(json.dumps(as_openmeter(event), default=str))
        validate(written, CLOUD_EVENT, format_checker=FormatChecker())
        assert datetime.fromisoformat(written["time"]).utcoffset() == timedelta(0)
        validate(json.loads(json.dumps(as_lago(event), default=str)), LAGO_EVENT)


def test_ids_stay_and_pages_join_without_gaps_or_repeats(monkeypatch: Any) -> None:
    company()
    whole = [event.id for event in usage_export.events(EVER)]
    assert len(set(whole)) == len(whole) == 11
    for size in (1, 2, 4):
        monkeypatch.setattr(usage_export.page, "__kwdefaults__", {"after": "", "limit": size})
        assert [event.id for event in usage_export.events(EVER)] == whole
    for number, last in enumerate(whole):
        rest = [event.id for event in usage_export.events(EVER, after=last)]
        assert rest == whole[number + 1 :]


def test_a_span_is_half_open_and_of_one_team() -> None:
    alice, bob = company(), company("bob")
    at = max(event.at for event in usage_export.events(Span(start=START, end=END, team=alice.team)))
    teams = {event.team for event in usage_export.events(EVER)}
    assert teams == {"alice", "bob"}
    of_bob = list(usage_export.events(Span(start=START, end=END, team=bob.team)))
    assert {event.team for event in of_bob} == {"bob"}
    moment = of_bob[0].at
    assert of_bob[0] not in list(usage_export.events(Span(start=START, end=moment, team=bob.team)))
    assert of_bob[0] in list(usage_export.events(Span(start=moment, end=END, team=bob.team)))
    assert at < END
    with pytest.raises(Invalid):
        Span(start=END, end=START)


@pytest.mark.parametrize(
    "after", ["x", "call:1", "call:00000000-0000-0000-0000-000000000001", "entry:x"]
)
def test_an_unknown_id_is_refused(after: str) -> None:
    with pytest.raises(Invalid, match="no event's id"):
        usage_export.page(EVER, after=after)


def test_nothing_of_providers_or_costs_is_in_it() -> None:
    made = factories.company(model=leaks.OPENAI_MODEL, sheet=leaks.SHEET, plan="")
    work.call(work.job(made.team), prompt=137, output=29)
    text = json.dumps([as_openmeter(event) for event in usage_export.events(EVER)], default=str)
    words = [*leaks.MARKS, leaks.OPENAI_MODEL, "1478661", "0.001478661", "cost"]
    assert [word for word in words if word in text] == []


def test_the_command_writes_lines_and_batches() -> None:
    company()

    def exported(*more: str) -> list[Any]:
        out = io.StringIO()
        span = ["--start", "2020-01-01", "--end", "2100-01-01"]
        call_command("export_usage", *span, *more, stdout=out)
        return [json.loads(line) for line in out.getvalue().splitlines()]

    lines = exported("--format", "openmeter", "--team", "alice")
    assert len(lines) == 11
    assert exported("--format", "openmeter", "--batches") == [lines]
    (batch,) = exported("--format", "lago", "--batches")
    assert [event["transaction_id"] for event in batch["events"]] == [e["id"] for e in lines]
    assert exported("--format", "openmeter", "--after", lines[-2]["id"]) == lines[-1:]
    with pytest.raises(CommandError, match="no team"):
        exported("--format", "lago", "--team", "nobody")


@pytest.mark.django_db(transaction=True)
def test_over_http_it_is_streamed_and_goes_on(live: Live, monkeypatch: Any) -> None:
    company()
    monkeypatch.setattr(usage_export.page, "__kwdefaults__", {"after": "", "limit": 4})
    key = operators.issue(user=person("vera", "viewer"), actor="test")[1]
    with live.client({"Authorization": f"Bearer {key}"}) as client:

        def ask(**more: str) -> Any:
            span = {"format": "openmeter", "start": "2020-01-01", "end": "2100-01-01T00:00:00Z"}
            return client.get("/api/reports/usage-events", params={**span, **more})

        answer = ask()
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert len(lines) == 11
        rest = ask(after=lines[4]["id"], team_id="alice").text.splitlines()
        assert [json.loads(line) for line in rest] == lines[5:]
        assert json.loads(ask(format="lago").text.splitlines()[0])["code"] == "llm_call"
        assert ask(after="x").status_code == 422
        assert ask(team_id="nobody").status_code == 404
        assert ask(format="csv").status_code == 422
    with live.client() as nobody:
        assert nobody.get("/api/reports/usage-events").status_code == 401
