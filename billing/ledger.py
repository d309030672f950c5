"""The ledger: the only module that writes accounts, entries, grants and holds.

Every change of an account is one conditional UPDATE whose WHERE clause is the rule, so that it is
right under any concurrency on PostgreSQL and SQLite alike; the entry is written in the same
transaction. Callers that touch other rows take the account last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from billing.models import Account, Entry, Grant, Hold
from billing.refusals import BadAmount, IdempotencyKeyReused, InsufficientCredits
from saas_litellm.base import clock
from saas_litellm.base.money import MAX_AMOUNT, NANO, divide_half_even
from teams.models import Team


class Wallet(NamedTuple):
    """An account's figures as one statement left them, in nanocredits."""

    balance: int
    held: int
    credit_limit: int

    @property
    def available(self) -> int:
        return self.balance + self.credit_limit - self.held


class HoldAlreadyClosed(Exception):
    """Someone else settled or released this hold first; the caller's transaction must roll back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a settlement took. ``charged + overrun`` is the price."""

    charged_nanocredits: int
    overrun_nanocredits: int
    price_nano_usd: int
    balance_nanocredits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A price to be taken, and what its entry says about it."""

    price_nanocredits: int
    nanocredits_per_usd: int
    plan_version_id: int
    reference: str
    reason: str
    actor: str
    labels: Mapping[str, Any]


def account_of(team: Team) -> Account:
    """The account the team draws on, its own or its organization's; made on first use."""
    if team.draws_on == Team.Wallet.ORGANIZATION:
        return Account.objects.get_or_create(organization_id=team.organization_id)[0]
    return Account.objects.get_or_create(team=team)[0]


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
) -> Entry:
    """Add credits. The same key and figures again return the first entry and add nothing.

    Raises BadAmount, or IdempotencyKeyReused when the key stands for other figures.
    """
    if not 0 < amount_nanocredits <= MAX_AMOUNT or not 0 <= paid_nano_usd <= MAX_AMOUNT:
        raise BadAmount(param="credits")
    with transaction.atomic():
        # The lock queues a second request with the same key behind this one.
        _lock(account.pk)
        earlier = Entry.objects.filter(account=account, idempotency_key=idempotency_key).first()
        if earlier is not None:
            return _same_grant(earlier, amount_nanocredits, paid_nano_usd)
        wallet = _move(account.pk, balance=amount_nanocredits)
        if wallet is None:
            raise BadAmount("The balance would leave its bounds.", param="credits")
        entry: Entry = Entry.objects.create(
            account=account,
            kind=Entry.Kind.GRANT,
            amount_nanocredits=amount_nanocredits,
            balance_after_nanocredits=wallet.balance,
            reference="topup",
            reason=reason,
            actor=actor,
            idempotency_key=idempotency_key,
            created_at=clock.now(),
        )
        Grant.objects.create(
            entry=entry, kind=kind, paid_nano_usd=paid_nano_usd, expires_at=expires_at
        )
    return entry


def hold(
    *, account_id: int, amount_nanocredits: int, reference: str, expires_at: datetime | None
) -> Hold | None:
    """Set credits aside (None for an amount of 0). Call it inside the caller's transaction, last.

    Raises InsufficientCredits, upon which the whole transaction must roll back.
    """
    if amount_nanocredits == 0:
        return None
    if _move(account_id, held=amount_nanocredits) is None:
        available = Account.objects.get(pk=account_id).available_nanocredits
        raise InsufficientCredits(needed=amount_nanocredits, available=available)
    return Hold.objects.create(
        account_id=account_id,
        amount_nanocredits=amount_nanocredits,
        reference=reference,
        created_at=clock.now(),
        expires_at=expires_at,
    )


def release(held: Hold) -> None:
    """Give a hold back. Raises HoldAlreadyClosed."""
    _close(held, Hold.State.RELEASED)
    _must_move(held.account_id, held=-held.amount_nanocredits)


def settle(
    *, account_id: int, held: Hold | None, bill: Bill, room_nanocredits: int | None
) -> Charge:
    """Turn a hold into the true charge, inside the caller's transaction, exactly once.

    It takes the price, but at most the hold plus the lesser of what is available and
    ``room_nanocredits`` (what the caller's own caps leave beyond the hold; None: no cap). What
    cannot be taken is overrun. It never fails for want of credits. Raises HoldAlreadyClosed.
    """
    reserved = held.amount_nanocredits if held else 0
    charged = bill.price_nanocredits
    if charged > reserved:
        available = _lock(account_id).available
        beyond = available if room_nanocredits is None else min(available, room_nanocredits)
        charged = min(charged, reserved + max(0, beyond))
    if held is not None:
        _close(held, Hold.State.SETTLED if charged else Hold.State.RELEASED)
    wallet = _must_move(account_id, balance=-charged, held=-reserved)
    usd = divide_half_even(charged * NANO, bill.nanocredits_per_usd)
    if charged:
        Entry.objects.create(
            account_id=account_id,
            kind=Entry.Kind.CHARGE,
            amount_nanocredits=-charged,
            balance_after_nanocredits=wallet.balance,
            reference=bill.reference,
            reason=bill.reason,
            actor=bill.actor,
            idempotency_key=f"charge:{bill.reference}",
            plan_version_id=bill.plan_version_id,
            price_nano_usd=usd,
            labels=dict(bill.labels),
            created_at=clock.now(),
        )
    return Charge(
        charged_nanocredits=charged,
        overrun_nanocredits=bill.price_nanocredits - charged,
        price_nano_usd=usd,
        balance_nanocredits=wallet.balance,
    )


def nothing(*, account_id: int) -> Charge:
    """The charge of work that costs nothing and held nothing: no entry, no lock."""
    balance = Account.objects.values_list("balance_nanocredits", flat=True).get(pk=account_id)
    return Charge(
        charged_nanocredits=0, overrun_nanocredits=0, price_nano_usd=0, balance_nanocredits=balance
    )


def _same_grant(earlier: Entry, amount_nanocredits: int, paid_nano_usd: int) -> Entry:
    if (
        earlier.kind != Entry.Kind.GRANT
        or earlier.amount_nanocredits != amount_nanocredits
        or earlier.grant.paid_nano_usd != paid_nano_usd
    ):
        raise IdempotencyKeyReused
    return earlier


def _close(held: Hold, state: str) -> None:
    closed = Hold.objects.filter(pk=held.pk, state=Hold.State.OPEN).update(
        state=state, closed_at=clock.now()
    )
    if closed != 1:
        raise HoldAlreadyClosed(held.reference)


def _lock(account_id: int) -> Wallet:
    """An UPDATE that changes nothing: it takes the row's lock on both databases."""
    return _must_move(account_id)


def _must_move(account_id: int, *, balance: int = 0, held: int = 0) -> Wallet:
    wallet = _move(account_id, balance=balance, held=held)
    if wallet is None:
        raise RuntimeError(f"account {account_id} cannot move by {balance}, held {held}")
    return wallet


def _move(account_id: int, *, balance: int = 0, held: int = 0) -> Wallet | None:
    """Add to an account's figures if every rule still holds after; None if one would not.

    Written in SQL for RETURNING, which the ORM's update() does not offer.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_account SET"
            " balance_nanocredits = balance_nanocredits + %(balance)s,"
            " held_nanocredits = held_nanocredits + %(held)s"
            " WHERE id = %(id)s"
            " AND held_nanocredits + %(held)s >= 0"
            " AND balance_nanocredits + %(balance)s BETWEEN -%(max)s AND %(max)s"
            " AND balance_nanocredits + %(balance)s + credit_limit_nanocredits"
            " >= held_nanocredits + %(held)s"
            " RETURNING balance_nanocredits, held_nanocredits, credit_limit_nanocredits",
            {"balance": balance, "held": held, "id": account_id, "max": MAX_AMOUNT},
        )
        rows = cursor.fetchall()
    return Wallet(*rows[0]) if rows else None
