"""Credits that come and go without work: grants, refunds, adjustments, expiry, credit limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Sum

from billing import telling
from billing.ledger import wallet
from billing.models import Account, Entry, Grant, Loss
from billing.refusals import (
    BadAmount,
    CreditLimitInUse,
    IdempotencyKeyReused,
    RefundBeyondCharge,
)
from saas_litellm.base import alarms, audit, clock
from saas_litellm.base.money import MAX_AMOUNT, divide_half_even, from_nano
from saas_litellm.base.refusals import Invalid

LONGEST_REFERENCE = 90
_TOP_UP = "topup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """What an adjustment did: its entry, and the loss where credits were short."""

    entry: Entry | None
    loss: Loss | None


def grant(
    *,
    account: Account,
    amount_nanocredits: int,
    actor: str,
    idempotency_key: str,
    kind: str = Grant.Kind.PURCHASE,
    paid_nano_usd: int = 0,
    reason: str = "",
    expires_at: datetime | None = None,
    priority: int = 100,
    reference: str = _TOP_UP,
) -> Entry:
    """Add credits. The same key and figures again return the first entry and add nothing.

    ``reference``: what it was paid by; see ``reference_of``. Raises BadAmount, Invalid for an expiry in the past, or IdempotencyKeyReused when the key
    stands for other figures.
    """
    if not 0 < amount_nanocredits <= MAX_AMOUNT:
        raise BadAmount(param="credits")
    if not 0 <= paid_nano_usd <= MAX_AMOUNT:
        raise BadAmount("What was paid must be 0 or more.", param="paid_usd")
    _check_texts(reason, idempotency_key)
    with transaction.atomic():
        # The lock queues a second request with the same key behind this one.
        wallet.lock(account.pk)
        # A space of its own: no key that a caller thinks of can stand in a settlement's way.
        key = f"grant:{idempotency_key}"
        earlier = _earlier(account, key)
        if earlier is not None:
            return _same_grant(earlier, amount_nanocredits, paid_nano_usd)
        if expires_at is not None and expires_at <= clock.now():
            raise Invalid("expires_at lies in the past.", param="expires_at")
        entry = _enter(
            account,
            Entry.Kind.GRANT,
            amount_nanocredits,
            reference=reference,
            reason=reason,
            actor=actor,
            idempotency_key=key,
        )
        Grant.objects.create(
            entry=entry,
            kind=kind,
            paid_nano_usd=paid_nano_usd,
            expires_at=expires_at,
            priority=priority,
        )
        balance = entry.balance_after_nanocredits
        audit.record(
            actor=actor,
            action="credits.grant",
            target=str(account),
            reason=reason,
            before={"balance": str(from_nano(balance - amount_nanocredits))},
            after={"balance": str(from_nano(balance))},
            kind=kind,
            paid_usd=str(from_nano(paid_nano_usd)),
        )
        telling.added(entry, kind=kind, expires_at=expires_at)
    return entry


def reference_of(text: str) -> str:
    """The reference of a top-up paid elsewhere, by an invoice's or a transfer's number.

    In a space of its own: nobody's text stands for a call, a job or a payment. Raises Invalid.
    """
    text = text.strip()
    if len(text) > LONGEST_REFERENCE:
        raise Invalid(
            f"A payment reference has {LONGEST_REFERENCE} characters at most.",
            param="payment_reference",
        )
    return f"{_TOP_UP}:{text}" if text else _TOP_UP


def payment_reference(entry: Entry) -> str:
    """What ``reference_of`` was given; "" for other entries."""
    kind, _, text = entry.reference.partition(":")
    return text if kind == _TOP_UP else ""


def refund(
    *, charge: Entry, amount_nanocredits: int, reason: str, actor: str, idempotency_key: str
) -> Entry:
    """Give back part or all of what a charge took; the lots it drew are restored by the fold.

    The same key and figures again return the first refund. Raises BadAmount, RefundBeyondCharge,
    IdempotencyKeyReused.
    """
    if charge.kind != Entry.Kind.CHARGE:
        raise Invalid("Only a charge can be refunded.", param="entry")
    if not 0 < amount_nanocredits <= MAX_AMOUNT:
        raise BadAmount(param="credits")
    _check_texts(reason, idempotency_key)
    with transaction.atomic():
        wallet.lock(charge.account_id)
        earlier = _earlier(charge.account, idempotency_key)
        if earlier is not None:
            if earlier.corrects_id != charge.pk or earlier.amount_nanocredits != amount_nanocredits:
                raise IdempotencyKeyReused
            return earlier
        taken = -charge.amount_nanocredits
        before = refunded_of(charge)
        if before + amount_nanocredits > taken:
            raise RefundBeyondCharge(left=taken - before)
        # The dollars telescope: parts of a refund add up to the whole charge's value.
        value = charge.price_nano_usd or 0
        after_usd = divide_half_even(value * (before + amount_nanocredits), taken)
        before_usd = divide_half_even(value * before, taken)
        return _enter(
            charge.account,
            Entry.Kind.REFUND,
            amount_nanocredits,
            reference=charge.reference,
            reason=reason,
            actor=actor,
            idempotency_key=idempotency_key,
            corrects=charge,
            plan_version=charge.plan_version,
            price_nano_usd=before_usd - after_usd,
            labels=charge.labels,
        )


def refunded_of(charge: Entry) -> int:
    """Nanocredits of a charge that were given back so far."""
    refunds = Entry.objects.filter(corrects=charge, kind=Entry.Kind.REFUND)
    return int(refunds.aggregate(total=Sum("amount_nanocredits"))["total"] or 0)


def adjust(
    *, account: Account, amount_nanocredits: int, reason: str, actor: str, idempotency_key: str
) -> Adjusted:
    """Correct a balance up or down, with a reason and an actor.

    Downward it takes at most what is available: the rest is a loss, with an alarm. The same key
    and figures again change nothing. Raises BadAmount, Invalid without a reason,
    IdempotencyKeyReused.
    """
    if amount_nanocredits == 0 or abs(amount_nanocredits) > MAX_AMOUNT:
        raise BadAmount("The amount must not be 0, and within range.", param="credits")
    if not reason.strip():
        raise Invalid("An adjustment needs a reason.", param="reason")
    _check_texts(reason, idempotency_key)
    with transaction.atomic():
        available = wallet.lock(account.pk).available
        key = f"adjustment:{idempotency_key}"
        earlier = _earlier_adjustment(account, key, amount_nanocredits)
        if earlier is not None:
            return earlier
        taken = max(amount_nanocredits, -max(0, available))
        named = {"reason": reason, "actor": actor, "idempotency_key": key}
        entry = loss = None
        if taken:
            entry = _enter(account, Entry.Kind.ADJUSTMENT, taken, reference="adjustment", **named)
        if entry is not None and taken > 0:
            Grant.objects.create(entry=entry, kind=Grant.Kind.ADJUSTMENT)
        if taken != amount_nanocredits:
            loss = Loss.objects.create(
                account=account,
                entry=entry,
                amount_nanocredits=taken - amount_nanocredits,
                reference="adjustment",
                created_at=clock.now(),
                **named,
            )
        audit.record(
            actor=actor,
            action="credits.adjust",
            target=str(account),
            reason=reason,
            before={"balance": str(from_nano(entry.balance_after_nanocredits - taken))}
            if entry
            else None,
            after={"balance": str(from_nano(entry.balance_after_nanocredits))} if entry else None,
            credits=str(from_nano(amount_nanocredits)),
        )
    if loss is not None:
        alarms.sound(
            kind="credits.loss",
            subject=str(account),
            detail=f"{from_nano(loss.amount_nanocredits)} credits could not be taken: {reason}"[
                :900
            ],
        )
    return Adjusted(entry=entry, loss=loss)


def expire(
    *, account: Account, lot: Grant, amount_nanocredits: int, actor: str, reason: str, key: str
) -> Entry:
    """Take what is left of a lot, inside the caller's transaction, which holds the account's lock."""
    return _enter(
        account,
        Entry.Kind.EXPIRY,
        -amount_nanocredits,
        reference=f"lot:{lot.pk}",
        reason=reason,
        actor=actor,
        idempotency_key=key,
        corrects=lot.entry,
    )


def set_credit_limit(
    *, account: Account, limit_nanocredits: int, actor: str, reason: str = ""
) -> wallet.Wallet:
    """How far below zero the account may go. Raises BadAmount, CreditLimitInUse."""
    if not 0 <= limit_nanocredits <= MAX_AMOUNT:
        raise BadAmount("A credit limit is 0 or more, and within range.", param="credit_limit")
    with transaction.atomic():
        before = wallet.lock(account.pk).credit_limit
        after = wallet.set_credit_limit(account.pk, limit_nanocredits)
        if after is None:
            raise CreditLimitInUse
        audit.record(
            actor=actor,
            action="credits.limit",
            target=str(account),
            reason=reason,
            before={"credit_limit": str(from_nano(before))},
            after={"credit_limit": str(from_nano(limit_nanocredits))},
        )
    return after


def _enter(account: Account, kind: str, amount: int, **columns: Any) -> Entry:
    moved = wallet.move(account.pk, balance=amount)
    if moved is None:
        raise BadAmount("The balance would leave its bounds.", param="credits")
    entry: Entry = Entry.objects.create(
        account=account,
        kind=kind,
        amount_nanocredits=amount,
        balance_after_nanocredits=moved.balance,
        created_at=clock.now(),
        **columns,
    )
    return entry


def _check_texts(reason: str, idempotency_key: str) -> None:
    if len(reason) > 500:
        raise Invalid("The reason may have 500 characters at most.", param="reason")
    if not 0 < len(idempotency_key) <= 150:
        raise Invalid("An idempotency key has 1 to 150 characters.", param="idempotency_key")


def _earlier(account: Account, idempotency_key: str) -> Entry | None:
    found: Entry | None = Entry.objects.filter(
        account=account, idempotency_key=idempotency_key
    ).first()
    return found


def _same_grant(earlier: Entry, amount_nanocredits: int, paid_nano_usd: int) -> Entry:
    if (
        earlier.kind != Entry.Kind.GRANT
        or earlier.amount_nanocredits != amount_nanocredits
        or earlier.grant.paid_nano_usd != paid_nano_usd
    ):
        raise IdempotencyKeyReused
    return earlier


def _earlier_adjustment(account: Account, key: str, amount: int) -> Adjusted | None:
    entry = _earlier(account, key)
    loss = Loss.objects.filter(account=account, idempotency_key=key).first()
    if entry is None and loss is None:
        return None
    done = (entry.amount_nanocredits if entry else 0) - (loss.amount_nanocredits if loss else 0)
    if done != amount or (entry is not None and entry.kind != Entry.Kind.ADJUSTMENT):
        raise IdempotencyKeyReused
    return Adjusted(entry=entry, loss=loss)
