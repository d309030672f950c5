"""Alarms told to operators: at once the first time, then once an hour, by each way there is."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import connection

from saas_litellm.base import alarms, alerts
from saas_litellm.base.models import Alarm
from tests.conftest import free_port
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Receiver, Reply

Mails = list[EmailMessage]


@pytest.fixture
def chat() -> Any:
    yield from receivers.receiving()


@pytest.fixture
def told(db: None, settings: Any, chat: Receiver, mailoutbox: Mails) -> Receiver:
    settings.ALERT_EMAILS = ["ops@example.com", "owner@example.com"]
    settings.ALERT_SLACK_URL = f"http://127.0.0.1:{chat.port}/services/T0/B0/secret-path"
    settings.PUBLIC_URL = "https://llm.example.com/"
    return chat


def sound(detail: str = "5 refused") -> None:
    alarms.sound(kind="deployment.cooling", subject="deployment 7", detail=detail)


def test_the_first_sighting_is_told_at_once_everywhere(told: Receiver, mailoutbox: Mails) -> None:
    sound()
    assert alerts.tell() == 1
    (mail,) = mailoutbox
    assert mail.subject == "deployment.cooling: deployment 7: 5 refused"
    assert mail.to == ["ops@example.com", "owner@example.com"]
    assert "https://llm.example.com/admin/base/alarm/" in mail.body
    (got,) = told.got
    assert got.path == "/services/T0/B0/secret-path"
    assert got.message["text"].startswith("deployment.cooling: deployment 7: 5 refused\n")
    assert alerts.tell() == 0


def test_repeats_are_told_once_an_hour_with_their_number(
    told: Receiver, mailoutbox: Mails, forward: Any
) -> None:
    sound()
    alerts.tell()
    for _ in range(20):
        sound()
        alerts.tell()
    assert len(mailoutbox) == 1
    forward(3601)
    assert alerts.tell() == 1
    assert "(20 times since" in mailoutbox[1].subject
    forward(3601)
    assert alerts.tell() == 0
    sound()
    assert alerts.tell() == 1


def test_many_are_told_in_one_message(told: Receiver, mailoutbox: Mails) -> None:
    for number in range(5):
        alarms.sound(kind="call.overrun", subject=f"team {number}")
    assert alerts.tell() == 5
    assert mailoutbox[0].subject == "call.overrun: team 0 and 4 more"
    assert len(told.got) == 1


def test_no_secret_is_told_though_an_alarm_had_one(told: Receiver, mailoutbox: Mails) -> None:
    key = f"slk_{'a1' * 6}_{'x' * 43}"
    sound(detail=f"key {key}, sk-live-0123, whsec_abc+/= <b>&")
    alerts.tell()
    for text in (mailoutbox[0].subject, mailoutbox[0].body, told.got[0].message["text"]):
        assert text.count("[secret]") == 3
        assert key not in text
    assert "&lt;b&gt;&amp;" in told.got[0].message["text"]


def test_what_nobody_took_is_told_again_in_a_minute(
    told: Receiver, mailoutbox: Mails, settings: Any, forward: Any, caplog: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    told.default = Reply(status=500)
    sound()
    assert alerts.tell() == 0
    assert alerts.tell() == 0
    assert len(told.got) == 1
    assert "secret-path" not in caplog.text
    forward(61)
    told.default = Reply()
    assert alerts.tell() == 1
    assert Alarm.objects.get().alerted_sightings == 1


def test_without_a_way_nothing_is_done(db: None, django_assert_num_queries: Any) -> None:
    sound()
    with django_assert_num_queries(0):
        assert alerts.tell() == 0


def test_what_is_history_stays_it(told: Receiver, forward: Any) -> None:
    sound()
    forward(25 * 3600)
    assert alerts.tell() == 0


@pytest.mark.django_db(transaction=True)
def test_two_workers_tell_once_and_whoever_sounds_waits_for_nothing(
    transactional_db: None, settings: Any, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALERT_SLACK_URL = f"http://127.0.0.1:{chat.port}/"
    chat.default = Reply(delay=1.5)
    monkeypatch.setattr(alerts, "LOOK_SECONDS", 0.05)
    stopped = threading.Event()

    def run() -> None:
        alerts.run_until(stopped)
        connection.close()

    workers = [threading.Thread(target=run) for _ in range(2)]
    for thread in workers:
        thread.start()
    began = time.monotonic()
    sound()
    assert time.monotonic() - began < 1.2
    time.sleep(2.5)
    stopped.set()
    for thread in workers:
        thread.join(10)
    assert len(chat.got) == 1
