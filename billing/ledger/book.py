"""The book: what one transaction does to wallets, budget periods and holds, of one act or of many.

``open`` takes the rows' locks in their order. What is done then is decided in memory, one act after
the other, and ``write`` puts all of it down at once, each wallet by the conditional UPDATE whose WHERE
clause is the rule. An act that is refused leaves the book as it was.

Row locks are PostgreSQL's; on SQLite the transaction is the only one that writes from its first
statement on (``transaction_mode=IMMEDIATE``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from billing.ledger import wallet
from billing.ledger.bills import Bill, Charge, entry_of
from billing.models import Account, Budget, BudgetPeriod, Entry, Grant, Hold
from billing.refusals import BudgetExceeded, InsufficientCredits
from saas_litellm.base import clock, rows
from saas_litellm.base.money import NANO, divide_half_even

# Said so that PostgreSQL finds a hold by its key, not by the index of all that are open.
_IS_OPEN = "billing_hold.state || '' = 'open'"
_POOL = ("amount_nanocredits",)
_PERIOD = ("used_nanocredits", "held_nanocredits")


class HoldAlreadyClosed(Exception):
    """Someone else settled or released this hold first; the caller's transaction must roll back."""


class Book:
    """Locked rows, and what is to become of them. Lives as long as its transaction."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {}
        self._periods: dict[int, BudgetPeriod] = {}
        self._pools: dict[int, Hold] = {}
        self._holds: list[Hold] = []
        self._closed: list[Hold] = []
        self._entries: list[Entry] = []
        # Each change as (row, column, by how much): to write it, and to take it back.
        self._moves: list[tuple[Account | BudgetPeriod | Hold, str, int]] = []

    @classmethod
    def open(
        cls,
        *,
        account_ids: Iterable[int],
        period_ids: Iterable[int] = (),
        pool_ids: Iterable[int] = (),
    ) -> Book:
        """Lock the pools, the budget periods, theirs too, and then the accounts, each by id."""
        book = cls()
        book._pools = rows.locked(Hold, set(pool_ids), only=_IS_OPEN)
        periods = set(period_ids)
        for pool in book._pools.values():
            periods.update(pool.budget_period_ids)
        if periods:
            book._periods = rows.locked(BudgetPeriod, periods)
            limits = Budget.objects.in_bulk({row.budget_id for row in book._periods.values()})
            for row in book._periods.values():
                row.budget = limits[row.budget_id]
        book._accounts = rows.locked(Account, set(account_ids))
        return book

    @classmethod
    def ask(cls, account_ids: Iterable[int]) -> Callable[[], Book]:
        """``open`` for acts without pools and budgets, to be sent together with other questions."""
        accounts = rows.ask_locked(Account, set(account_ids))

        def opened() -> Book:
            book = cls()
            book._accounts = accounts()
            return book

        return opened

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is done inside is taken back if it raises. Nothing may be settled inside."""
        moves, holds = len(self._moves), len(self._holds)
        try:
            yield
        except BaseException:
            for row, column, by in self._moves[moves:]:
                setattr(row, column, getattr(row, column) - by)
            del self._moves[moves:], self._holds[holds:]
            raise

    def hold(
        self,
        *,
        account_id: int,
        amount_nanocredits: int,
        reference: str,
        expires_at: datetime | None,
        period_ids: Sequence[int] = (),
        pool: Hold | None = None,
    ) -> Hold | None:
        """Set credits aside (None for an amount of 0); the hold is saved when the book is written.

        With a ``pool``, the open hold of the same job, as much as there is comes from it, and the
        hold counts in the pool's budget periods. Raises BudgetExceeded or InsufficientCredits.
        """
        if amount_nanocredits == 0:
            return None
        in_pool = self._left_in(pool)
        drawn = min(in_pool, amount_nanocredits)
        fresh = amount_nanocredits - drawn
        ids = list(pool.budget_period_ids if pool is not None else period_ids)
        if fresh:
            self._require(account_id, ids, fresh=fresh, drawn=drawn)
        self._draw(pool, drawn)
        self._move(account_id, ids, held=fresh)
        held = rows.new(
            Hold,
            account_id=account_id,
            amount_nanocredits=amount_nanocredits,
            pool=pool,
            drawn_nanocredits=drawn,
            budget_period_ids=ids,
            reference=reference,
            created_at=clock.now(),
            expires_at=expires_at,
        )
        self._holds.append(held)
        return held

    def pool(self, hold_id: int) -> Hold | None:
        """A job's own hold, locked, as calls may draw on it; None once it is closed."""
        return self._pools.get(hold_id)

    def amount_of(self, held: Hold) -> int:
        """What it still sets aside: a job's own hold may have been drawn on in this very book."""
        return self._pools.get(held.pk, held).amount_nanocredits

    def release(self, held: Hold) -> None:
        """Give a hold back, to its pool as far as it came from there."""
        freed = self.amount_of(held) - self._give_back(held, held.drawn_nanocredits)
        self._close(held, Hold.State.RELEASED)
        self._move(held.account_id, held.budget_period_ids, held=-freed)

    def settle(
        self,
        *,
        account_id: int,
        held: Hold | None,
        bill: Bill,
        period_ids: Sequence[int] = (),
    ) -> Charge:
        """Turn a hold into the true charge, exactly once.

        It takes the price, but at most the hold plus the least of what is available, what every
        hard budget leaves and what the bill's caps leave. What cannot be taken is overrun, so it
        never fails for want of credits. ``period_ids`` are for a bill without a hold.
        """
        ids = held.budget_period_ids if held is not None else list(period_ids)
        price, charged, reason = bill.price_nanocredits, bill.price_nanocredits, ""
        reserved = self.amount_of(held) if held is not None else 0
        drawn = held.drawn_nanocredits if held is not None else 0
        if charged > reserved:
            # The caller's caps first: a pool may hold more than one of them leaves.
            reason, cap = min(bill.caps.items(), key=lambda limit: limit[1], default=("", charged))
            charged = min(charged, reserved + max(0, cap))
        if charged > reserved and held is not None and held.pool_id is not None:
            pool = self._pools.get(held.pool_id)
            more = min(self._left_in(pool), charged - reserved)
            self._draw(pool, more)
            reserved, drawn = reserved + more, drawn + more
        if charged > reserved:
            tightest, beyond = self._tightest(account_id, ids)
            if charged > reserved + max(0, beyond):
                reason, charged = tightest, reserved + max(0, beyond)
        freed = 0
        if held is not None:
            self._close(held, Hold.State.SETTLED if charged else Hold.State.RELEASED)
            freed = reserved - self._give_back(held, max(0, drawn - max(0, charged)))
        self._move(account_id, ids, held=-freed, spent=charged)
        balance = self._accounts[account_id].balance_nanocredits
        usd = divide_half_even(charged * NANO, bill.nanocredits_per_usd)
        if charged:
            self._entries.append(entry_of(bill, account_id, charged, usd, balance_after=balance))
        return Charge(
            charged_nanocredits=charged,
            overrun_nanocredits=price - charged,
            price_nano_usd=usd,
            balance_nanocredits=balance,
            overrun_reason=reason if price > charged else "",
        )

    def nothing(self, account_id: int) -> Charge:
        """The charge of work that costs nothing and held nothing: no entry."""
        return Charge(
            charged_nanocredits=0,
            overrun_nanocredits=0,
            price_nano_usd=0,
            balance_nanocredits=self.balance_of(account_id),
        )

    def balance_of(self, account_id: int) -> int:
        """As it is now, in nanocredits."""
        return self._accounts[account_id].balance_nanocredits

    def _write_first(self) -> None:
        """Save the rows that others refer to: new holds, a pool before those that draw on it, and
        the entries where one of them brings in a lot."""
        # A pool that is new is saved as its calls have left it.
        self._moves = [move for move in self._moves if move[0].pk is not None]
        for are_drawn in (False, True):
            new = [held for held in self._holds if (held.pool is not None) == are_drawn]
            for held in new:
                # A pool that was saved after it was assigned.
                held.pool = held.pool
            rows.number(new)
            rows.insert(new)
        self._holds = []
        given = [entry for entry in self._entries if entry.kind == Entry.Kind.ADJUSTMENT]
        if given:
            # All of them, for their order is that of the balances they say.
            rows.number(self._entries, ahead=0)
            rows.insert(self._entries)
            rows.insert([Grant(entry=entry, kind=Grant.Kind.ADJUSTMENT) for entry in given])
            self._entries = []

    def write(self) -> None:
        """Put it all down. Raises HoldAlreadyClosed, upon which the transaction must roll back."""
        self._write_first()
        sums: dict[type, dict[int, dict[str, int]]] = {Hold: {}, BudgetPeriod: {}, Account: {}}
        for row, column, by in self._moves:
            if row.pk is not None:
                moved = sums[type(row)].setdefault(row.pk, {})
                moved[column] = moved.get(column, 0) + by
        with rows.gathered():
            rows.add(Hold, _by(sums[Hold], _POOL), _POOL, only=_IS_OPEN)
            # After that: a pool that ends here says what was left in it.
            rows.update(
                self._closed,
                ("state", "closed_at"),
                only=_IS_OPEN,
                missed=HoldAlreadyClosed,
            )
            rows.add(BudgetPeriod, _by(sums[BudgetPeriod], _PERIOD), _PERIOD)
            rows.add(Account, _by(sums[Account], wallet.COLUMNS), wallet.COLUMNS, only=wallet.RULE)
            rows.insert(self._entries)

    def _require(self, account_id: int, ids: Sequence[int], *, fresh: int, drawn: int) -> None:
        for pk in ids:
            period = self._periods[pk]
            room = _room(period)
            if room is not None and fresh > room:
                raise BudgetExceeded(needed=fresh, available=room, period=period.budget.period)
        available = self._accounts[account_id].available_nanocredits
        if fresh > available:
            raise InsufficientCredits(needed=fresh + drawn, available=available + drawn)

    def _tightest(self, account_id: int, ids: Sequence[int]) -> tuple[str, int]:
        """What leaves least beyond all that is held, and how much."""
        rooms = [room for pk in ids if (room := _room(self._periods[pk])) is not None]
        limits = {"budget": max(0, min(rooms))} if rooms else {}
        limits["wallet"] = self._accounts[account_id].available_nanocredits
        return min(limits.items(), key=lambda limit: limit[1])

    def _left_in(self, pool: Hold | None) -> int:
        """What an open pool still has: one that is saved counts as its locked row says."""
        if pool is None:
            return 0
        row = pool if pool.pk is None else self._pools.get(pool.pk)
        return row.amount_nanocredits if row is not None else 0

    def _draw(self, pool: Hold | None, amount: int) -> None:
        if pool is not None and amount:
            row = pool if pool.pk is None else self._pools[pool.pk]
            self._change(row, "amount_nanocredits", -amount)

    def _give_back(self, held: Hold, amount: int) -> int:
        """Put into the hold's pool what was drawn and not used; 0 when there is no pool any more."""
        pool = self._pools.get(held.pool_id) if held.pool_id is not None else None
        if pool is None or amount == 0:
            return 0
        self._change(pool, "amount_nanocredits", amount)
        return amount

    def _close(self, held: Hold, state: str) -> None:
        held.state, held.closed_at = state, clock.now()
        self._closed.append(held)
        self._pools.pop(held.pk, None)

    def _move(
        self, account_id: int, period_ids: Sequence[int], *, held: int, spent: int = 0
    ) -> None:
        for pk in period_ids:
            self._change(self._periods[pk], "used_nanocredits", spent)
            self._change(self._periods[pk], "held_nanocredits", held)
        self._change(self._accounts[account_id], "balance_nanocredits", -spent)
        self._change(self._accounts[account_id], "held_nanocredits", held)

    def _change(self, row: Account | BudgetPeriod | Hold, column: str, by: int) -> None:
        if by:
            setattr(row, column, getattr(row, column) + by)
            self._moves.append((row, column, by))


def _room(period: BudgetPeriod) -> int | None:
    """What a hard budget leaves beyond all that is held; None for one that refuses nothing."""
    budget = period.budget
    if not (budget.is_hard and budget.is_active):
        return None
    return budget.limit_nanocredits - period.used_nanocredits - period.held_nanocredits


def _by(sums: Mapping[int, Mapping[str, int]], columns: Sequence[str]) -> dict[int, list[int]]:
    return {pk: [moved.get(column, 0) for column in columns] for pk, moved in sums.items()}
