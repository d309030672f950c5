"""Credits of work, one act at a time: set aside, charged, given back. ``book`` does many at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from billing import budgets
from billing.budgets import Spender
from billing.ledger.bills import Bill, Charge
from billing.ledger.book import Book
from billing.models import Account, Hold
from saas_litellm.base.standing import Memory
from teams.models import Organization, Team


def account_of(team: Team) -> Account:
    """The account the team draws on, its own or its organization's; made on first use."""
    if team.draws_on == Team.Wallet.ORGANIZATION:
        return account_of_organization(team.organization)
    return Account.objects.get_or_create(team=team)[0]


def account_id_of(team: Team, memory: Memory) -> int:
    """The id of ``account_of``'s account, once it is known without a look."""
    return memory.recall(("account", team.pk), lambda: account_of(team).pk)


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
) -> Hold | None:
    """Set credits aside (None for an amount of 0). Call it inside the caller's transaction, last.

    Raises BudgetExceeded or InsufficientCredits, upon which the whole transaction must roll back.
    """
    if amount_nanocredits == 0:
        return None
    period_ids = budgets.current(spender) if spender is not None else []
    book = Book.open(account_ids=[account_id], period_ids=period_ids)
    held = book.hold(
        account_id=account_id,
        amount_nanocredits=amount_nanocredits,
        reference=reference,
        expires_at=expires_at,
        period_ids=period_ids,
    )
    book.write()
    return held


def release(held: Hold) -> None:
    """Give a hold back, to its pool as far as it came from there. Raises HoldAlreadyClosed."""
    book = _book_for(held)
    book.release(held)
    book.write()


def settle(
    *,
    account_id: int,
    held: Hold | None,
    bill: Bill,
    budget_period_ids: Sequence[int] = (),
) -> Charge:
    """Turn a hold into the true charge, inside the caller's transaction, exactly once.

    As ``Book.settle`` does. Raises HoldAlreadyClosed.
    """
    if held is None:
        book = Book.open(account_ids=[account_id], period_ids=budget_period_ids)
    else:
        book = _book_for(held)
    charge = book.settle(account_id=account_id, held=held, bill=bill, period_ids=budget_period_ids)
    book.write()
    return charge


def nothing(*, account_id: int) -> Charge:
    """The charge of work that costs nothing and held nothing: no entry, no lock."""
    return Charge(
        charged_nanocredits=0,
        overrun_nanocredits=0,
        price_nano_usd=0,
        balance_nanocredits=balance_of(account_id),
    )


def balance_of(account_id: int) -> int:
    """What an account holds now, in nanocredits; nothing is locked."""
    figures = Account.objects.values_list("balance_nanocredits", flat=True)
    balance: int = figures.get(pk=account_id)
    return balance


def _book_for(held: Hold) -> Book:
    return Book.open(
        account_ids=[held.account_id],
        period_ids=held.budget_period_ids,
        pool_ids=[pk for pk in (held.pool_id, held.pk) if pk is not None],
    )
