"""The outbox: nothing is written that nobody hears, and no reader misses what is."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from saas_litellm.base import clock, events, outbox
from saas_litellm.base.events import SHAPES, TYPES
from saas_litellm.base.models import Event, Listener


def told(name: str = "x") -> events.KeyExpiring:
    return events.KeyExpiring(team_id="alice", key_prefix=name, name="", expires_at=clock.now())


def emit(name: str = "x", *, team_id: int | None = 1, key: str | None = None) -> None:
    outbox.emit(
        events.KeyExpiring,
        team_id=team_id,
        organization_id=9,
        object_id=name,
        told=lambda: told(name),
        key=key,
    )


def listen(**scope: Any) -> None:
    outbox.listen("test", types=["key.expiring"], **scope)
    outbox.forget()


def names() -> list[str]:
    return list(Event.objects.order_by("position").values_list("object_id", flat=True))


def arranged() -> list[str]:
    with transaction.atomic():
        return [event.object_id for event in outbox.arrange()]


def test_nothing_is_asked_and_nothing_written_while_nobody_listens(db: None) -> None:
    emit()
    with CaptureQueriesContext(connection) as queries:
        emit()
    assert len(queries) == 0
    assert not Event.objects.exists()


def test_an_event_is_one_statement_of_the_open_transaction(db: None) -> None:
    listen(team_id=1, organization_id=9)
    emit()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        emit()
    assert [query["sql"][:24] for query in queries] == ['INSERT INTO "base_event"']


@pytest.mark.parametrize(
    ("scope", "heard"),
    [
        ({"team_id": 1, "organization_id": 9}, ["of team 1", "of its wallet"]),
        ({"team_id": 2, "organization_id": 8}, ["of team 2"]),
        ({}, ["of team 1", "of team 2", "of its wallet"]),
    ],
)
def test_who_listens_is_who_is_written_for(db: None, scope: Any, heard: list[str]) -> None:
    listen(**scope)
    emit("of team 1", team_id=1)
    emit("of team 2", team_id=2)
    emit("of its wallet", team_id=None)
    arranged()
    assert names() == heard


def test_operators_types_are_written_for_no_team(db: None) -> None:
    outbox.listen("team", types=["margin.alarm"], team_id=1, organization_id=9)
    outbox.forget()
    assert not outbox.is_heard(events.MarginAlarm, team_id=1, organization_id=9)
    outbox.listen("platform", types=["margin.alarm"])
    outbox.forget()
    assert outbox.is_heard(events.MarginAlarm, team_id=None, organization_id=None)


def test_what_is_rolled_back_has_not_happened(db: None) -> None:
    listen()
    with transaction.atomic():
        emit()
        assert Event.objects.exists()
        transaction.set_rollback(True)
    assert not Event.objects.exists()


def test_what_has_a_key_is_said_once(db: None) -> None:
    listen()
    for key in ("a", "a", "b", None, None):
        emit(key=key)
    assert Event.objects.count() == 4


def test_a_new_listener_is_heard_of_in_time_and_an_old_one_forgotten(
    db: None, monkeypatch: pytest.MonkeyPatch, forward: Any
) -> None:
    monkeypatch.setattr(outbox, "HEARD_SECONDS", 0)
    emit("before")
    Listener.objects.create(name="elsewhere", types=["key.expiring"])
    emit("while")
    Listener.objects.update(expires_at=clock.now())
    forward(1)
    emit("after")
    arranged()
    assert names() == ["while"]
    outbox.purge()
    assert not Listener.objects.exists()


def test_what_an_event_says_never_changes(db: None) -> None:
    listen()
    emit()
    with pytest.raises(DatabaseError), transaction.atomic():
        Event.objects.update(data="{}")
    assert arranged() == ["x"]


def test_numbers_are_exact(db: None) -> None:
    outbox.listen("test", types=["credits.added"])
    outbox.forget()
    exact = Decimal("12345678.123456789")
    said = events.CreditsAdded(
        team_id=None,
        organization_id="o",
        credits=exact,
        kind="purchase",
        balance=exact,
        expires_at=None,
    )
    outbox.emit(
        events.CreditsAdded, team_id=None, organization_id=1, object_id="x", told=lambda: said
    )
    text = Event.objects.get().data
    assert json.loads(text, parse_float=Decimal)["credits"] == exact


def test_old_events_are_purged_and_positions_go_on(db: None, forward: Any, settings: Any) -> None:
    listen()
    emit("old")
    arranged()
    forward(settings.EVENT_RETENTION_DAYS * 86_400 + 1)
    assert outbox.purge() == 1
    emit("new")
    arranged()
    assert [event.object_id for event in outbox.after(1, team_id=None, organization_id=None)] == [
        "new"
    ]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_what_commits_late_is_not_missed() -> None:
    listen()
    emit("warm")
    is_written, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            emit("slow")
            is_written.set()
            may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert is_written.wait(10)
    emit("quick")
    assert arranged() == ["warm", "quick"]
    seen = outbox.end()
    may_commit.set()
    thread.join()
    ids = dict(Event.objects.values_list("object_id", "pk"))
    assert ids["slow"] < ids["quick"]
    assert arranged() == ["slow"]
    late = outbox.after(seen, team_id=None, organization_id=None)
    assert [event.object_id for event in late] == ["slow"]


@pytest.mark.django_db(transaction=True)
def test_arrangers_at_once_arrange_each_event_once() -> None:
    listen()
    for number in range(40):
        emit(str(number))
    gate, got = threading.Barrier(4), list[str]()

    def arrange() -> None:
        gate.wait()
        got.extend(arranged())
        connection.close()

    threads = [threading.Thread(target=arrange) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [str(number) for number in range(40)]
    assert list(Event.objects.order_by("id").values_list("position", flat=True)) == list(
        range(1, 41)
    )


def test_every_type_is_described_and_teams_hear_no_provider() -> None:
    assert len(TYPES) == 15
    for name, shape in SHAPES.items():
        assert shape.about
        fields = set(shape.model_fields)
        private = {"provider_cost_usd", "deployment_id", "margin", "provider_cost", "reason"}
        assert not (shape.is_for_teams and fields & private), name
    hidden = {name for name, shape in TYPES.items() if not shape.is_for_teams}
    assert hidden == {"provider.down", "provider.up", "margin.alarm"}
