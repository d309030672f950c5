"""Purchases that are paid back (a refund of the payment, a dispute), and those that are paid again.

``take_back`` and ``give_back`` are adjustments that point at the purchase's grant: its own lot is
drawn first, and what comes back is worth what was taken. Each happens in the transaction of whoever
books the payment, which keeps its keys apart.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Sum

from billing import lots
from billing.ledger import wallet
from billing.ledger.credits import Adjusted, _enter
from billing.models import Account, Draw, Entry, Grant, Loss
from billing.refusals import BadAmount
from saas_litellm.base import alarms, clock
from saas_litellm.base.money import divide_half_even, from_nano


def take_back(
    *, bought: Entry, amount_nanocredits: int, reason: str, actor: str, idempotency_key: str
) -> Adjusted:
    """Take credits of a purchase back: at most what is available, the rest is a loss with an alarm.

    ``bought`` is the purchase's grant entry. Raises BadAmount.
    """
    if amount_nanocredits <= 0:
        raise BadAmount(param="credits")
    account = bought.account
    taken = min(amount_nanocredits, max(0, wallet.lock(account.pk).available))
    entry = loss = None
    if taken:
        entry = _adjusted(bought, -taken, reason=reason, actor=actor, key=idempotency_key)
    if taken < amount_nanocredits:
        loss = _lose(
            account,
            amount_nanocredits - taken,
            entry=entry,
            reference=bought.reference,
            reason=reason,
            actor=actor,
            key=idempotency_key,
        )
        alarms.sound(
            kind="credits.loss",
            subject=str(account),
            detail=f"{from_nano(loss.amount_nanocredits)} credits could not be taken: {reason}"[
                :900
            ],
        )
    return Adjusted(entry=entry, loss=loss)


def give_back(
    *, bought: Entry, amount_nanocredits: int, reason: str, actor: str, idempotency_key: str
) -> Entry:
    """Return credits that ``take_back`` took: a lot with the purchase's rules, paid for as they were.

    Where the purchase's lot has ended since, it is good for 30 days. Raises BadAmount for more than
    was taken.
    """
    account = bought.account
    wallet.lock(account.pk)
    moved = Entry.objects.filter(corrects=bought, kind=Entry.Kind.ADJUSTMENT)
    taken = -_sum(moved.filter(amount_nanocredits__lt=0), "amount_nanocredits")
    given = _sum(moved.filter(amount_nanocredits__gt=0), "amount_nanocredits")
    if not 0 < amount_nanocredits <= taken - given:
        raise BadAmount(param="credits")
    lots.fold(account)
    paid = _sum(Draw.objects.filter(entry__in=moved, kind=Draw.Kind.PAID_BACK), "paid_nano_usd")
    # Parts of what comes back add up to the whole.
    worth = divide_half_even(paid * (given + amount_nanocredits), taken)
    worth -= divide_half_even(paid * given, taken)
    entry = _adjusted(bought, amount_nanocredits, reason=reason, actor=actor, key=idempotency_key)
    Grant.objects.create(
        entry=entry,
        kind=Grant.Kind.ADJUSTMENT,
        paid_nano_usd=max(0, worth),
        priority=bought.grant.priority,
        expires_at=_good_until(bought.grant),
    )
    return entry


def recover_loss(
    *, bought: Entry, amount_nanocredits: int, reason: str, actor: str, idempotency_key: str
) -> Loss:
    """A loss of ``take_back`` that is none any more, for the money came back; no balance moves."""
    if amount_nanocredits <= 0:
        raise BadAmount(param="credits")
    return _lose(
        bought.account,
        -amount_nanocredits,
        entry=None,
        reference=bought.reference,
        reason=reason,
        actor=actor,
        key=idempotency_key,
    )


def _adjusted(bought: Entry, amount: int, *, reason: str, actor: str, key: str) -> Entry:
    return _enter(
        bought.account,
        Entry.Kind.ADJUSTMENT,
        amount,
        reference=bought.reference,
        reason=reason[:500],
        actor=actor,
        idempotency_key=key,
        corrects=bought,
    )


def _lose(
    account: Account,
    amount: int,
    *,
    entry: Entry | None,
    reference: str,
    reason: str,
    actor: str,
    key: str,
) -> Loss:
    made: Loss = Loss.objects.create(
        account=account,
        entry=entry,
        amount_nanocredits=amount,
        reference=reference,
        reason=reason[:500],
        actor=actor,
        idempotency_key=key,
        created_at=clock.now(),
    )
    return made


def _good_until(grant: Grant) -> datetime | None:
    if grant.expires_at is None or grant.expires_at > clock.now():
        return grant.expires_at
    return clock.now() + lots.REFUND_LOT_LIFETIME


def _sum(rows: object, column: str) -> int:
    total = rows.aggregate(total=Sum(column))["total"]  # type: ignore[attr-defined]
    return int(total or 0)
