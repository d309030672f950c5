"""The counts behind tiered prices: one row per team, rule and calendar month (UTC)."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from billing.models import UsageCounter
from saas_litellm.base import clock


def reached(*, team_id: int, rule_id: int, until: datetime) -> int:
    """Where the count stands for a call that will have settled by ``until``.

    A count only grows within its month; a call that may settle in the next one starts from 0.
    """
    now = clock.now()
    if (now.year, now.month) != (until.year, until.month):
        return 0
    counter = UsageCounter.objects.filter(
        team=team_id, rule=rule_id, month=now.date().replace(day=1)
    ).first()
    return counter.quantity if counter else 0


def advance(*, team_id: int, rule_id: int, quantity: int) -> int:
    """Add to this month's count in the settling transaction; returns where it stood before."""
    month = clock.now().date().replace(day=1)
    UsageCounter.objects.bulk_create(
        [UsageCounter(team_id=team_id, rule_id=rule_id, month=month)], ignore_conflicts=True
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_usagecounter SET quantity = quantity + %(more)s"
            " WHERE team_id = %(team)s AND rule_id = %(rule)s AND month = %(month)s"
            " RETURNING quantity",
            {"more": quantity, "team": team_id, "rule": rule_id, "month": month},
        )
        (after,) = cursor.fetchone()
    return int(after) - quantity
