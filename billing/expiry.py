"""The end of lots. What open holds would draw, in consumption order, is never taken."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from billing import ledger, lots, telling
from billing.models import Account, Entry, Lot
from billing.refusals import LotNotLive
from saas_litellm.base import audit, clock, events
from saas_litellm.base.money import from_nano

SOON = timedelta(days=7)


def expire_due() -> int:
    """Expire every lot whose time has come, after folding; returns how many entries that took."""
    lots.fold_all()
    now = clock.now()
    due = Lot.objects.filter(remaining_nanocredits__gt=0, expires_at__lte=now)
    accounts = Account.objects.filter(pk__in=due.values("account_id"))
    return sum(_expire_due_of(account, now) for account in accounts[:500])


def tell_soon() -> int:
    """Tell of every lot that will expire soon, once for each; returns how many there are."""
    now = clock.now()
    due = Lot.objects.filter(
        remaining_nanocredits__gt=0, expires_at__gt=now, expires_at__lte=now + SOON
    ).select_related("account")
    heard = [lot for lot in due[:5000] if telling.is_heard(events.CreditsExpiring, lot.account)]
    with transaction.atomic():
        for lot in heard:
            telling.of_wallet(
                events.CreditsExpiring,
                lot.account_id,
                object_id=f"lot:{lot.grant_id}",
                key=f"expiring:{lot.grant_id}",
                lot_id=lot.grant_id,
                credits=from_nano(lot.remaining_nanocredits),
                expires_at=lot.expires_at,
            )
    return len(heard)


def expire_now(*, account: Account, grant_id: int, actor: str, reason: str) -> Entry:
    """End one lot before its time, by an operator's hand. Raises LotNotLive."""
    with transaction.atomic():
        folding, expirable = _expirable(account)
        taken = expirable.get(grant_id, 0)
        if taken == 0:
            raise LotNotLive
        audit.record(actor=actor, action="credits.expire", target=f"lot:{grant_id}", reason=reason)
        return _expire(account, folding.lots[grant_id], taken, actor=actor, reason=reason)


def _expire_due_of(account: Account, now: datetime) -> int:
    with transaction.atomic():
        folding, expirable = _expirable(account)
        due = [
            lot
            for lot in folding.live()
            if lot.expires_at is not None and lot.expires_at <= now and expirable[lot.grant_id]
        ]
        for lot in due:
            _expire(account, lot, expirable[lot.grant_id], actor="worker", reason="expired")
        return len(due)


def _expirable(account: Account) -> tuple[lots.Folding, dict[int, int]]:
    """What of each lot may go: min(what holds leave of it, balance less held), under the lock."""
    purse = ledger.lock(account.pk)
    folding = lots.fold(account)
    held, left = purse.held, max(0, purse.balance - purse.held)
    free = {}
    for lot in folding.live():
        spoken_for = min(held, lot.remaining_nanocredits)
        held -= spoken_for
        free[lot.grant_id] = min(lot.remaining_nanocredits - spoken_for, left)
        left -= free[lot.grant_id] if _is_due(lot) else 0
    return folding, free


def _is_due(lot: Lot) -> bool:
    return lot.expires_at is not None and lot.expires_at <= clock.now()


def _expire(account: Account, lot: Lot, taken: int, *, actor: str, reason: str) -> Entry:
    number = Entry.objects.filter(corrects=lot.grant.entry_id, kind=Entry.Kind.EXPIRY).count()
    entry = ledger.expire(
        account=account,
        lot=lot.grant,
        amount_nanocredits=taken,
        actor=actor,
        reason=reason,
        key=f"expiry:{lot.grant_id}:{number}",
    )
    lots.fold(account)
    return entry
