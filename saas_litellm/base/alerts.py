"""Alerts: alarms told to operators where they are, by e-mail and in a chat.

A first sighting is told at once, repeats once an hour with their number. The worker sends; whoever
sounds an alarm waits for nothing. Each alarm is claimed by compare-and-set, and told again in a
minute where no way of telling it worked.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from datetime import timedelta

import httpcore
import orjson
from django.conf import settings
from django.core.mail import send_mail
from django.db import connection
from django.db.models import F, Q

from saas_litellm.base import clock
from saas_litellm.base.models import Alarm

LOOK_SECONDS = 2.0
REPEATED_AFTER = timedelta(hours=1)
TRIED_AGAIN_AFTER = timedelta(minutes=1)
TOLD_WITHIN = timedelta(days=1)
AT_ONCE = 20
_SEND_SECONDS = 10.0
# Alarms hold no secret; this is for the day on which one is told something that does.
_SECRETS = re.compile(r"\b(?:sl[ko]_[0-9a-f]{12}_|sk-|whsec_)[\w/+=-]+")
logger = logging.getLogger("saas_litellm.alerts")


def run_until(stopped: threading.Event) -> None:
    """Tell what is due, every other second, until told to stop."""
    while not stopped.is_set():
        try:
            tell()
        except Exception:
            logger.exception("alerts: failed; trying again")
        finally:
            if not settings.EMBEDDED:
                # Back to the pool: a thread that waits needs no connection.
                connection.close()
        stopped.wait(LOOK_SECONDS)


def tell() -> int:
    """Tell operators of every alarm that is due, in one message; returns how many. Nothing is done
    where nobody is to be told."""
    if not (settings.ALERT_EMAILS or settings.ALERT_SLACK_URL):
        return 0
    claimed = _claim()
    if not claimed:
        return 0
    lines = [_line(alarm) for alarm in claimed]
    if not _send(lines):
        return 0
    now = clock.now()
    for alarm in claimed:
        Alarm.objects.filter(pk=alarm.pk).update(
            alerted_at=now, alerted_sightings=alarm.sightings, next_alert_at=now + REPEATED_AFTER
        )
    return len(claimed)


def _claim() -> list[Alarm]:
    now = clock.now()
    due = Alarm.objects.filter(
        Q(next_alert_at=None) | Q(next_alert_at__lte=now),
        sightings__gt=F("alerted_sightings"),
        # What is older is history: nobody wants all of it on the day that a way is set up.
        last_seen_at__gt=now - TOLD_WITHIN,
    ).order_by("last_seen_at")
    return [
        alarm
        for alarm in due[:AT_ONCE]
        if Alarm.objects.filter(pk=alarm.pk, next_alert_at=alarm.next_alert_at).update(
            next_alert_at=now + TRIED_AGAIN_AFTER
        )
    ]


def _line(alarm: Alarm) -> str:
    again = alarm.sightings - alarm.alerted_sightings
    often = f" ({again} times since {alarm.alerted_at:%H:%M} UTC)" if alarm.alerted_at else ""
    detail = f": {alarm.detail}" if alarm.detail else ""
    return _SECRETS.sub("[secret]", f"{alarm.kind}: {alarm.subject}{often}{detail}")


def _send(lines: Sequence[str]) -> bool:
    """By every way there is; whether one of them worked."""
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    text = "\n".join([*lines, "", f"{settings.PUBLIC_URL.rstrip('/')}/admin/base/alarm/"])
    worked = False
    if settings.ALERT_EMAILS:
        title = f"{lines[0]}{more}".replace("\n", " ")[:150]
        try:
            send_mail(title, text, None, settings.ALERT_EMAILS)
            worked = True
        except Exception as error:
            logger.error("alerts: no e-mail left: %s", type(error).__name__)
    if settings.ALERT_SLACK_URL:
        try:
            _post(settings.ALERT_SLACK_URL, text)
            worked = True
        except Exception as error:
            # Not the error's text: the address is a secret.
            logger.error("alerts: the chat did not take it: %s", type(error).__name__)
    return worked


class NotTaken(Exception):
    """The chat answered with an error."""


def _post(url: str, text: str) -> None:
    # Characters that Slack gives a meaning to.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    waits = dict.fromkeys(("connect", "read", "write", "pool"), _SEND_SECONDS)
    with httpcore.ConnectionPool() as pool:
        answer = pool.request(
            "POST",
            url,
            headers={"content-type": "application/json"},
            content=orjson.dumps({"text": escaped}),
            extensions={"timeout": waits},
        )
    if not 200 <= answer.status < 300:
        raise NotTaken
