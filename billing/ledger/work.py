"""Credits of work: set aside, charged, given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F

from billing import budgets
from billing.budgets import Spender
from billing.ledger import wallet
from billing.models import Account, Entry, Grant, Hold
from billing.refusals import InsufficientCredits
from saas_litellm.base import clock
from saas_litellm.base.money import NANO, divide_half_even
from teams.models import Organization, Team


class HoldAlreadyClosed(Exception):
    """Someone else settled or released this hold first; the caller's transaction must roll back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a settlement took. ``charged + overrun`` is the price; volume tiers may give back."""

    charged_nanocredits: int
    overrun_nanocredits: int
    price_nano_usd: int
    balance_nanocredits: int
    # What stopped it from taking all: wallet, budget, or the name of one of the bill's caps.
    overrun_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A price to be taken, and what its entry says about it.

    ``caps`` name what the caller's own limits leave beyond the hold, in nanocredits.
    """

    price_nanocredits: int
    nanocredits_per_usd: int
    plan_version_id: int
    reference: str
    reason: str
    actor: str
    labels: Mapping[str, Any]
    caps: Mapping[str, int] = field(default_factory=dict)


def account_of(team: Team) -> Account:
    """The account the team draws on, its own or its organization's; made on first use."""
    if team.draws_on == Team.Wallet.ORGANIZATION:
        return account_of_organization(team.organization)
    return Account.objects.get_or_create(team=team)[0]


def account_of_organization(organization: Organization) -> Account:
    """The wallet of an organization, which those of its teams that share it draw on."""
    return Account.objects.get_or_create(organization=organization)[0]


def hold(
    *,
    account_id: int,
    amount_nanocredits: int,
    reference: str,
    expires_at: datetime | None,
    spender: Spender | None = None,
    pool: Hold | None = None,
) -> Hold | None:
    """Set credits aside (None for an amount of 0). Call it inside the caller's transaction, last.

    With a ``pool``, the open hold of the same job, as much as there is comes from it, and the hold
    counts in the pool's budget periods. The caller's lock on the job keeps pools to one writer.
    Raises BudgetExceeded or InsufficientCredits, upon which the whole transaction must roll back.
    """
    if amount_nanocredits == 0:
        return None
    drawn = _draw(pool, amount_nanocredits) if pool is not None else 0
    fresh = amount_nanocredits - drawn
    if pool is not None:
        period_ids = list(pool.budget_period_ids)
    else:
        period_ids = budgets.current(spender) if spender is not None else []
    if fresh:
        budgets.take(period_ids, fresh)
        if wallet.move(account_id, held=fresh) is None:
            available = Account.objects.get(pk=account_id).available_nanocredits
            raise InsufficientCredits(needed=amount_nanocredits, available=available + drawn)
    return Hold.objects.create(
        account_id=account_id,
        amount_nanocredits=amount_nanocredits,
        pool=pool,
        drawn_nanocredits=drawn,
        budget_period_ids=period_ids,
        reference=reference,
        created_at=clock.now(),
        expires_at=expires_at,
    )


def release(held: Hold) -> None:
    """Give a hold back, to its pool as far as it came from there. Raises HoldAlreadyClosed."""
    _close(held, Hold.State.RELEASED)
    freed = held.amount_nanocredits - _give_back(held, held.drawn_nanocredits)
    budgets.move(held.budget_period_ids, used=0, held=-freed)
    wallet.must_move(held.account_id, held=-freed)


def settle(
    *,
    account_id: int,
    held: Hold | None,
    bill: Bill,
    budget_period_ids: Sequence[int] = (),
) -> Charge:
    """Turn a hold into the true charge, inside the caller's transaction, exactly once.

    It takes the price, but at most the hold plus the least of what is available, what every hard
    budget leaves and what the bill's caps leave. What cannot be taken is overrun, so it never
    fails for want of credits. ``budget_period_ids`` are for a bill whose hold is gone already.
    Raises HoldAlreadyClosed.
    """
    period_ids = held.budget_period_ids if held is not None else list(budget_period_ids)
    price, charged, reason = bill.price_nanocredits, bill.price_nanocredits, ""
    reserved = held.amount_nanocredits if held is not None else 0
    drawn = held.drawn_nanocredits if held is not None else 0
    if charged > reserved:
        # The caller's caps first: a pool may hold more than one of them leaves.
        reason, cap = min(bill.caps.items(), key=lambda limit: limit[1], default=("", charged))
        charged = min(charged, reserved + max(0, cap))
    if charged > reserved and held is not None and held.pool_id is not None:
        more = _draw(Hold.objects.get(pk=held.pool_id), charged - reserved)
        reserved, drawn = reserved + more, drawn + more
    if charged > reserved:
        tightest, beyond = _tightest(account_id, period_ids)
        if charged > reserved + max(0, beyond):
            reason, charged = tightest, reserved + max(0, beyond)
    if held is not None:
        _close(held, Hold.State.SETTLED if charged else Hold.State.RELEASED)
        freed = reserved - _give_back(held, max(0, drawn - max(0, charged)))
    else:
        freed = 0
    budgets.move(period_ids, used=charged, held=-freed)
    after = wallet.must_move(account_id, balance=-charged, held=-freed)
    usd = divide_half_even(charged * NANO, bill.nanocredits_per_usd)
    if charged:
        _write_charge(account_id, charged, usd, after.balance, bill)
    return Charge(
        charged_nanocredits=charged,
        overrun_nanocredits=price - charged,
        price_nano_usd=usd,
        balance_nanocredits=after.balance,
        overrun_reason=reason if price > charged else "",
    )


def nothing(*, account_id: int) -> Charge:
    """The charge of work that costs nothing and held nothing: no entry, no lock."""
    balance = Account.objects.values_list("balance_nanocredits", flat=True).get(pk=account_id)
    return Charge(
        charged_nanocredits=0, overrun_nanocredits=0, price_nano_usd=0, balance_nanocredits=balance
    )


def _write_charge(account_id: int, charged: int, usd: int, balance_after: int, bill: Bill) -> None:
    """A charge; or, where volume tiers give back, an adjustment with a lot of its own."""
    kind = Entry.Kind.CHARGE if charged > 0 else Entry.Kind.ADJUSTMENT
    entry = Entry.objects.create(
        account_id=account_id,
        kind=kind,
        amount_nanocredits=-charged,
        balance_after_nanocredits=balance_after,
        reference=bill.reference,
        reason=bill.reason,
        actor=bill.actor,
        idempotency_key=f"charge:{bill.reference}",
        plan_version_id=bill.plan_version_id,
        price_nano_usd=usd,
        labels=dict(bill.labels),
        created_at=clock.now(),
    )
    if charged < 0:
        Grant.objects.create(entry=entry, kind=Grant.Kind.ADJUSTMENT)


def _tightest(account_id: int, period_ids: Sequence[int]) -> tuple[str, int]:
    """What leaves least beyond all that is held, and how much; takes the rows' locks in order."""
    limits = {}
    in_budget = budgets.room(period_ids)
    if in_budget is not None:
        limits["budget"] = in_budget
    limits["wallet"] = wallet.lock(account_id).available
    return min(limits.items(), key=lambda limit: limit[1])


def _draw(pool: Hold, wanted: int) -> int:
    """Take from an open pool as much of ``wanted`` as it has."""
    left = (
        Hold.objects.filter(pk=pool.pk, state=Hold.State.OPEN)
        .values_list("amount_nanocredits", flat=True)
        .first()
    )
    drawn = min(left or 0, wanted)
    if drawn:
        Hold.objects.filter(pk=pool.pk, state=Hold.State.OPEN).update(
            amount_nanocredits=F("amount_nanocredits") - drawn
        )
    return drawn


def _give_back(held: Hold, amount: int) -> int:
    """Put into the hold's pool what was drawn and not used; 0 when there is no pool any more."""
    if held.pool_id is None or amount == 0:
        return 0
    returned = Hold.objects.filter(pk=held.pool_id, state=Hold.State.OPEN).update(
        amount_nanocredits=F("amount_nanocredits") + amount
    )
    return amount * returned


def _close(held: Hold, state: str) -> None:
    closed = Hold.objects.filter(pk=held.pk, state=Hold.State.OPEN).update(
        state=state, closed_at=clock.now()
    )
    if closed != 1:
        raise HoldAlreadyClosed(held.reference)
