"""Credits that come by themselves: auto-refills up to a cap, and subscriptions' shares."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta

from django.db import transaction

from billing import ledger
from billing.models import Account, Entry, RecurringGrant
from saas_litellm.base import audit, clock
from saas_litellm.base.money import MAX_AMOUNT, from_nano
from saas_litellm.base.refusals import Invalid

# A schedule that slept for years is not paid out in one night.
_MAX_AT_ONCE = 400


def occurrence_at(*, starts_at: datetime, period: str, number: int) -> datetime:
    """When the number-th grant (from 0) is due. A month keeps to its day, or its last one."""
    if period == RecurringGrant.Period.DAILY:
        return starts_at + timedelta(days=number)
    if period == RecurringGrant.Period.WEEKLY:
        return starts_at + timedelta(weeks=number)
    year, month = divmod(starts_at.year * 12 + starts_at.month - 1 + number, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    return starts_at.replace(year=year, month=month + 1, day=min(starts_at.day, last_day))


def create(
    *,
    account: Account,
    kind: str,
    period: str,
    amount_nanocredits: int,
    actor: str,
    paid_nano_usd: int = 0,
    cap_nanocredits: int | None = None,
    lot_days: int | None = None,
    priority: int = 100,
    starts_at: datetime | None = None,
) -> RecurringGrant:
    """A schedule whose first grant is due at ``starts_at`` (now when None). Raises Invalid."""
    if kind not in RecurringGrant.Kind.values or period not in RecurringGrant.Period.values:
        raise Invalid("period must be daily, weekly or monthly.", param="period")
    if not 0 < amount_nanocredits <= MAX_AMOUNT or not 0 <= paid_nano_usd <= MAX_AMOUNT:
        raise Invalid("credits must be a positive amount.", param="credits")
    if cap_nanocredits is not None and not 0 < cap_nanocredits <= MAX_AMOUNT:
        raise Invalid("cap must be a positive amount.", param="cap")
    if lot_days is not None and not 0 < lot_days <= 3650:
        raise Invalid("lot_days must be 1 to 3650.", param="lot_days")
    first = starts_at or clock.now()
    with transaction.atomic():
        schedule = RecurringGrant.objects.create(
            account=account,
            kind=kind,
            period=period,
            amount_nanocredits=amount_nanocredits,
            paid_nano_usd=paid_nano_usd,
            cap_nanocredits=cap_nanocredits,
            lot_days=lot_days,
            priority=priority,
            starts_at=first,
            next_at=first,
        )
        audit.record(
            actor=actor,
            action="recurring_grant.create",
            target=f"recurring_grant:{schedule.pk}",
            after={
                "account": str(account),
                "credits": str(from_nano(amount_nanocredits)),
                "period": period,
            },
        )
    return schedule


def stop(*, schedule: RecurringGrant, actor: str) -> None:
    """No grant from now on; what was granted stays."""
    with transaction.atomic():
        stopped = RecurringGrant.objects.filter(pk=schedule.pk, is_active=True).update(
            is_active=False
        )
        if stopped:
            audit.record(
                actor=actor,
                action="recurring_grant.stop",
                target=f"recurring_grant:{schedule.pk}",
                before={"is_active": True},
                after={"is_active": False},
            )


def grant_due() -> int:
    """Grant everything that is due by now, each occurrence once; returns how many entries."""
    now = clock.now()
    due = RecurringGrant.objects.filter(is_active=True, next_at__lte=now).select_related("account")
    granted = 0
    for schedule in due[:500]:
        for _ in range(_MAX_AT_ONCE):
            if schedule.next_at > now:
                break
            granted += _grant_next(schedule)
    return granted


def _grant_next(schedule: RecurringGrant) -> int:
    """One occurrence, claimed by compare-and-set together with its entry."""
    number, due_at = schedule.occurrence, schedule.next_at
    schedule.occurrence += 1
    schedule.next_at = occurrence_at(
        starts_at=schedule.starts_at, period=schedule.period, number=number + 1
    )
    with transaction.atomic():
        claimed = RecurringGrant.objects.filter(
            pk=schedule.pk, occurrence=number, is_active=True
        ).update(occurrence=schedule.occurrence, next_at=schedule.next_at)
        if not claimed:
            return 0
        return int(_grant(schedule, number, due_at) is not None)


def _grant(schedule: RecurringGrant, number: int, due_at: datetime) -> Entry | None:
    amount = schedule.amount_nanocredits
    if schedule.cap_nanocredits is not None:
        # Under the row's lock, so that a refill beside a purchase still ends at the cap.
        balance = ledger.lock(schedule.account_id).balance
        amount = min(amount, schedule.cap_nanocredits - balance)
    expires_at = due_at + timedelta(days=schedule.lot_days) if schedule.lot_days else None
    if amount <= 0 or (expires_at is not None and expires_at <= clock.now()):
        return None
    return ledger.grant(
        account=schedule.account,
        amount_nanocredits=amount,
        paid_nano_usd=schedule.paid_nano_usd,
        kind=schedule.kind,
        priority=schedule.priority,
        expires_at=expires_at,
        reason=f"{schedule.period} {schedule.kind}, {due_at:%Y-%m-%d}",
        actor="worker",
        idempotency_key=f"recurring:{schedule.pk}:{number}",
    )
