"""Deliveries over real HTTP: what arrives, what is tried again, who delivers when many could."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from standardwebhooks import Webhook, WebhookVerificationError

from billing import ledger
from saas_litellm import worker
from saas_litellm.base import clock, encryption, outbox
from saas_litellm.base.models import Alarm, Event, Listener
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.webhooks import making
from tests.webhooks.receiver import Receiver, Reply
from webhooks import deliveries, endpoints, signing
from webhooks.models import Attempt, Delivery, Endpoint, Secret
from webhooks.sending import Answer


def test_a_jobs_story_arrives_in_order_and_signed(couriers: Any, receiver: Receiver) -> None:
    alice = factories.company()
    _, secret = making.endpoint(
        receiver.url, team=alice.team, types=["job.created", "job.completed"]
    )
    couriers()
    job = work.job(alice.team)
    work.call(job)
    work.close(job)
    wait_until(lambda: len(receiver.got) == 2)
    for got in receiver.got:
        said = Webhook(secret).verify(got.body, got.headers)
        assert said["id"] == got.id
        assert said["data"]["job_id"] == str(job.pk)
    assert [got.message["type"] for got in receiver.got] == ["job.created", "job.completed"]
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(receiver.got[0].body, receiver.got[0].headers)


def test_for_a_day_both_secrets_sign(couriers: Any, receiver: Receiver, forward: Any) -> None:
    endpoint, old = making.endpoint(receiver.url)
    new, _ = endpoints.rotate_secret(endpoint=endpoint, actor="test")
    couriers()
    making.happen("a")
    wait_until(lambda: receiver.got)
    for secret in (old, new):
        Webhook(secret).verify(receiver.got[0].body, receiver.got[0].headers)
    assert old not in str(list(Secret.objects.values()))
    forward(24 * 3600 + 1)
    assert endpoints.secrets_of(endpoint) == [new]
    assert endpoints.forget_secrets() == 1


@pytest.mark.parametrize(
    ("reply", "status", "failure"),
    [
        (Reply(status=204, body=b""), 204, ""),
        (Reply(status=500, body=b"oh \x00 no"), 500, "answered 500"),
        (Reply(status=400), 400, "answered 400"),
        (Reply(status=302, headers={"location": "/elsewhere"}), 302, "answered 302"),
        (Reply(status=307, headers={"location": "/elsewhere"}), 307, "answered 307"),
        (Reply(is_cut=True), None, "RemoteProtocolError"),
        (Reply(delay=1.5), None, "no answer within 0.8 s"),
        (Reply(body=b"x" * 10_000_000), 200, ""),
        (Reply(body=b"x" * 100, drip=0.2), 200, ""),
    ],
    ids=["204", "500", "400", "302", "307", "cut", "slow", "large", "dripping"],
)
def test_what_comes_of_an_attempt_is_written_down(
    couriers: Any,
    receiver: Receiver,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    status: int | None,
    failure: str,
) -> None:
    monkeypatch.setattr("webhooks.sending._BODY_SECONDS", 0.5)
    settings.WEBHOOK_TIMEOUT_SECONDS = 0.8
    receiver.default = reply
    endpoint, _ = making.endpoint(receiver.url)
    couriers()
    making.happen("a")
    wait_until(lambda: Attempt.objects.filter(milliseconds__isnull=False).exists())
    attempt = making.last_attempt(endpoint)
    assert (attempt.number, attempt.response_status) == (1, status)
    assert attempt.failure.startswith(failure)
    assert bool(attempt.failure) == bool(failure)
    assert len(attempt.excerpt) <= 500
    wait_until(lambda: making.statuses(endpoint) == ["pending" if failure else "delivered"])
    # Never led elsewhere.
    assert {got.path for got in receiver.got} == {"/hooks"}


def test_what_failed_steps_aside_and_comes_back(
    couriers: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "FIRST_DELAY_SECONDS", 0.3)
    endpoint, _ = making.endpoint(receiver.url)
    first, second, third = making.happen("a", "b", "c")
    receiver.reply = lambda got: (
        Reply(status=500) if got.id == first and receiver.ids.count(first) == 1 else None
    )
    couriers()
    wait_until(lambda: making.statuses(endpoint) == ["delivered"] * 3)
    assert receiver.ids == [first, second, third, first]
    # The same bytes, whenever they are sent.
    assert len({got.body for got in receiver.got if got.id == first}) == 1


def test_an_endpoint_that_is_down_rests_and_what_waits_keeps_its_order(
    couriers: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "FIRST_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(deliveries, "FIRST_REST_SECONDS", 1)
    receiver.default = Reply(status=503)
    endpoint, _ = making.endpoint(receiver.url)
    ids = making.happen(*"abcdefgh")
    couriers()
    wait_until(lambda: len(receiver.got) == 3)
    time.sleep(0.5)
    assert len(receiver.got) == 3
    receiver.default = Reply()
    wait_until(lambda: making.statuses(endpoint) == ["delivered"] * 8)
    assert [one for one in receiver.ids[3:] if one in ids[3:]] == ids[3:]
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since) == (0, None)


@pytest.mark.parametrize("asked", ["3", "date"])
def test_retry_after_is_respected(couriers: Any, receiver: Receiver, asked: str) -> None:
    text = {"date": format_datetime(clock.now() + timedelta(seconds=1000), usegmt=True)}.get(
        asked, "1000"
    )
    receiver.default = Reply(status=429, headers={"retry-after": text})
    endpoint, _ = making.endpoint(receiver.url)
    making.happen("a", "b")
    couriers()
    wait_until(lambda: receiver.got)
    time.sleep(0.4)
    assert len(receiver.got) == 1
    endpoint.refresh_from_db()
    first = Delivery.objects.order_by("id")[0]
    for moment in (endpoint.resting_until, first.next_at):
        assert moment is not None
        assert 900 < (moment - clock.now()).total_seconds() <= 1000


def test_one_endpoint_has_one_message_at_a_time_however_many_workers(
    couriers: Any, receiver: Receiver
) -> None:
    receiver.default = Reply(delay=0.01)
    endpoint, _ = making.endpoint(receiver.url)
    couriers(2)
    ids = making.happen(*[f"n{number}" for number in range(30)])
    wait_until(lambda: making.statuses(endpoint) == ["delivered"] * 30, seconds=30)
    assert receiver.ids == ids
    assert receiver.most_in_hand == 1


def test_a_slow_endpoint_delays_no_other(couriers: Any, receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOK_TIMEOUT_SECONDS = 5
    receiver.reply = lambda got: Reply(delay=3) if got.path == "/slow" else None
    slow, _ = making.endpoint(receiver.url.replace("hooks", "slow"))
    quick, _ = making.endpoint(receiver.url)
    couriers()
    making.happen("a", "b", "c")
    wait_until(lambda: making.statuses(quick) == ["delivered"] * 3, seconds=2.5)
    assert making.statuses(slow) == ["pending"] * 3


def test_no_team_takes_every_place(db: None, near: None, receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOK_CONCURRENCY = 8
    alice, bob = factories.team(), factories.team(name="bob")
    for _ in range(6):
        making.endpoint(receiver.url, team=alice)
    of_bob, _ = making.endpoint(receiver.url, team=bob)
    platforms, _ = making.endpoint(receiver.url)
    making.happen("a", team=alice)
    making.happen("b", team=bob)
    deliveries.fan_out()
    first = [pk for pk, _ in deliveries.claim(most=8)]
    assert len(first) == 4
    assert {of_bob.pk, platforms.pk} < set(first)
    assert deliveries.claim(most=8) == []
    Endpoint.objects.filter(pk__in=first).update(leased_until=clock.now())
    # The others of alice have waited longer.
    second = [pk for pk, _ in deliveries.claim(most=8)]
    assert len(second) == 4
    assert set(second) & set(first) == {of_bob.pk, platforms.pk}


def test_it_is_tried_for_three_days(
    db: None, near: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven by hand: the clock goes from one attempt to the next."""
    moved = work.Clock(monkeypatch)
    endpoint, _ = making.endpoint(receiver.url)
    making.happen("a")
    deliveries.fan_out()
    delivery = Delivery.objects.get()
    begun, waits = moved.moment, []
    for _ in range(40):
        fail(endpoint)
        delivery.refresh_from_db()
        if delivery.status != "pending":
            break
        waits.append((delivery.next_at - moved.moment).total_seconds())
        endpoint.refresh_from_db()
        moved.moment = max(delivery.next_at, endpoint.resting_until or delivery.next_at)
    assert delivery.status == "failed"
    assert timedelta(hours=60) < moved.moment - begun <= timedelta(hours=72)
    assert 4 <= waits[0] <= 6
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[:7]))
    assert max(waits) <= deliveries.LONGEST_DELAY_SECONDS * 1.2
    assert len(waits) > 12


def fail(endpoint: Endpoint) -> None:
    ((endpoint_id, lease),) = deliveries.claim(most=1)
    parcel = deliveries.next_parcel(endpoint_id, lease=lease)
    assert parcel is not None
    answer = Answer(milliseconds=1, status=500, failure="answered 500")
    deliveries.finish(parcel, answer)
    deliveries.give_back(endpoint_id, lease=lease)


def test_what_waits_for_too_long_is_given_up(
    db: None, near: None, receiver: Receiver, forward: Any
) -> None:
    endpoint, _ = making.endpoint(receiver.url)
    making.happen("a")
    deliveries.fan_out()
    assert deliveries.give_up() == 0
    forward(72 * 3600 + 1)
    assert worker.sweep()["webhooks given up"] == 1
    assert making.statuses(endpoint) == ["failed"]


def test_an_endpoint_that_only_fails_is_switched_off_with_an_alarm(
    db: None, near: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = work.Clock(monkeypatch)
    endpoint, _ = making.endpoint(receiver.url, team=factories.team())
    for day in range(12):
        making.happen(f"n{day}", team=endpoint.team)
        deliveries.fan_out()
        fail(endpoint)
        moved.tick(12 * 3600)
        endpoint.refresh_from_db()
        if not endpoint.is_active:
            break
        making.happen(f"again{day}", team=endpoint.team)
    assert not endpoint.is_active
    assert endpoint.failures == 11
    assert "only failures since 2026-03-10" in endpoint.disabled_reason
    assert Alarm.objects.get().kind == "webhook.disabled"
    assert not Listener.objects.exists()
    assert deliveries.claim(most=5) == []
    on = endpoints.change(endpoint=endpoint, is_active=True, actor="test")
    assert (on.failures, on.failing_since, on.disabled_reason) == (0, None, "")
    assert deliveries.claim(most=5)


def test_what_another_worker_took_over_is_not_settled_by_the_first(
    db: None, near: None, receiver: Receiver, forward: Any
) -> None:
    endpoint, _ = making.endpoint(receiver.url)
    making.happen("a")
    deliveries.fan_out()
    ((pk, lease),) = deliveries.claim(most=1)
    assert deliveries.claim(most=1) == []
    slow = deliveries.next_parcel(pk, lease=lease)
    assert slow is not None
    forward(100)
    ((pk, newer),) = deliveries.claim(most=1)
    again = deliveries.next_parcel(pk, lease=newer)
    assert again is not None
    assert again.number == 2
    assert deliveries.next_parcel(pk, lease=lease) is None
    deliveries.finish(slow, Answer(milliseconds=1, status=500, failure="answered 500"))
    endpoint.refresh_from_db()
    assert endpoint.failures == 0
    deliveries.finish(again, Answer(milliseconds=1, status=200))
    deliveries.finish(slow, Answer(milliseconds=1, status=500, failure="answered 500"))
    assert making.statuses(endpoint) == ["delivered"]


def test_a_worker_that_is_killed_over_a_message_loses_nothing(
    transactional_db: None, near: None, receiver: Receiver
) -> None:
    endpoint, _ = making.endpoint(receiver.url)
    (sent,) = making.happen("a")
    receiver.reply = lambda got: Reply(delay=60) if len(receiver.got) == 1 else None
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DEBUG": "1",
        "WEBHOOK_PRIVATE_TARGETS": "1",
        # A lease is twice as long and ten seconds more.
        "WEBHOOK_TIMEOUT_SECONDS": "1",
        "SWEEP_INTERVAL_SECONDS": "1",
    }
    command = [sys.executable, "manage.py", "worker"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, cwd=ROOT, env={**environment, "WEBHOOK_TIMEOUT_SECONDS": "1"}
        )

    killed = subprocess.Popen(
        command, cwd=ROOT, env={**environment, "WEBHOOK_TIMEOUT_SECONDS": "3"}
    )
    wait_until(lambda: receiver.got, seconds=30)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    other = start()
    try:
        wait_until(lambda: making.statuses(endpoint) == ["delivered"], seconds=40)
    finally:
        other.terminate()
        assert other.wait(20) == 0
    assert receiver.ids == [sent, sent]
    assert list(Attempt.objects.values_list("number", "response_status")) == [(1, None), (2, 200)]
    assert Delivery.objects.get().tries == 2


@pytest.mark.skipif(connection.vendor != "sqlite", reason="embedded is SQLite")
def test_the_one_process_of_the_embedded_mode_delivers(
    spawned: Any, near: None, receiver: Receiver
) -> None:
    alice = factories.company()
    making.endpoint(receiver.url, team=alice.team, types=["job.created"])
    served = spawned(DEBUG="1", WEBHOOK_PRIVATE_TARGETS="1")
    with served.client(alice.headers) as http:
        http.post("/api/jobs/create", json={"team_id": "alice", "job_type": "x"})
    wait_until(lambda: receiver.got)
    assert receiver.got[0].message["data"]["team_id"] == "alice"


def test_an_endpoint_whose_secret_cannot_be_read_is_sent_nothing(
    couriers: Any, receiver: Receiver
) -> None:
    endpoint, _ = making.endpoint(receiver.url)
    Secret.objects.update(ciphertext="gone")
    couriers()
    making.happen("a")
    wait_until(lambda: Attempt.objects.exclude(failure="").exists())
    assert receiver.got == []
    assert "rotate it" in making.last_attempt(endpoint).failure


def test_teams_hear_their_own_and_operators_all(db: None, near: None, receiver: Receiver) -> None:
    alice, bob = factories.team(name="alice"), factories.team(name="bob")
    of_alice, _ = making.endpoint(receiver.url, team=alice)
    of_bob, _ = making.endpoint(receiver.url, team=bob, types=["job.created"])
    of_all, _ = making.endpoint(receiver.url)
    making.happen("a", team=alice)
    making.happen("b", team=bob)
    deliveries.fan_out()
    deliveries.fan_out()
    assert [len(making.statuses(one)) for one in (of_alice, of_bob, of_all)] == [1, 0, 2]


def test_a_shared_wallet_is_heard_by_those_who_draw_on_it(
    db: None, near: None, receiver: Receiver
) -> None:
    alice, other = factories.team(), factories.team(name="other")
    shares, _ = making.endpoint(receiver.url, team=alice)
    stranger, _ = making.endpoint(receiver.url, team=other)
    account = ledger.account_of_organization(alice.organization)

    def grant(key: str) -> None:
        ledger.grant(account=account, amount_nanocredits=5, actor="test", idempotency_key=key)
        deliveries.fan_out()

    grant("1")
    assert making.statuses(shares) == []
    alice.draws_on = "organization"
    alice.save()
    grant("2")
    assert making.statuses(shares) == ["pending"]
    assert making.statuses(stranger) == []


def test_events_and_their_deliveries_are_purged(
    db: None, near: None, receiver: Receiver, forward: Any, settings: Any
) -> None:
    making.endpoint(receiver.url)
    making.happen("a", "b")
    deliveries.fan_out()
    forward(settings.EVENT_RETENTION_DAYS * 86_400 + 1)
    assert outbox.purge() == 2
    assert not Event.objects.exists()
    assert not Delivery.objects.exists()


def test_new_encryption_keys_reseal_secrets(
    db: None, near: None, receiver: Receiver, settings: Any
) -> None:
    endpoint, secret = making.endpoint(receiver.url)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    assert endpoints.reseal_all(actor="test") == 1
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    assert encryption.decrypt(Secret.objects.get().ciphertext) == secret
    assert endpoints.secrets_of(endpoint) == [secret]
