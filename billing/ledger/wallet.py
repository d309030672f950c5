"""The wallet row: each change is one conditional UPDATE whose WHERE clause is the rule.

It is right under any concurrency on PostgreSQL and SQLite alike (SQLite drops SELECT FOR UPDATE
without a word). Only the ledger's own modules call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db import connection

from saas_litellm.base.money import MAX_AMOUNT

_MOVE = (
    "UPDATE billing_account SET"
    " balance_nanocredits = balance_nanocredits + %(balance)s,"
    " held_nanocredits = held_nanocredits + %(held)s"
    " WHERE id = %(id)s"
    " AND held_nanocredits + %(held)s >= 0"
    " AND balance_nanocredits + %(balance)s BETWEEN -%(max)s AND %(max)s"
    " AND balance_nanocredits + %(balance)s + credit_limit_nanocredits"
    " >= held_nanocredits + %(held)s"
)


class Wallet(NamedTuple):
    """An account's figures as one statement left them, in nanocredits."""

    balance: int
    held: int
    credit_limit: int

    @property
    def available(self) -> int:
        return self.balance + self.credit_limit - self.held


def lock(account_id: int) -> Wallet:
    """An UPDATE that changes nothing: it takes the row's lock on both databases."""
    return must_move(account_id)


def must_move(account_id: int, *, balance: int = 0, held: int = 0) -> Wallet:
    wallet = move(account_id, balance=balance, held=held)
    if wallet is None:
        raise RuntimeError(f"account {account_id} cannot move by {balance}, held {held}")
    return wallet


def move(account_id: int, *, balance: int = 0, held: int = 0) -> Wallet | None:
    """Add to an account's figures if every rule still holds after; None if one would not.

    Written in SQL for RETURNING, which the ORM's update() does not offer.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_MOVE} RETURNING balance_nanocredits, held_nanocredits, credit_limit_nanocredits",
            _by(account_id, balance, held),
        )
        rows = cursor.fetchall()
    return Wallet(*rows[0]) if rows else None


def move_all(moves: Mapping[int, tuple[int, int]]) -> None:
    """Add (balance, held) to each of these accounts, which the caller has locked and looked at.

    Raises RuntimeError if a rule would not hold after: then the caller has looked wrongly, and its
    transaction must roll back.
    """
    if not moves:
        return
    with connection.cursor() as cursor:
        cursor.executemany(_MOVE, [_by(pk, *figures) for pk, figures in moves.items()])
        if cursor.rowcount != len(moves):
            raise RuntimeError(f"one of the accounts cannot move so: {dict(moves)}")


def _by(account_id: int, balance: int, held: int) -> dict[str, int]:
    return {"balance": balance, "held": held, "id": account_id, "max": MAX_AMOUNT}


def set_credit_limit(account_id: int, nanocredits: int) -> Wallet | None:
    """None when more than that is in use."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_account SET credit_limit_nanocredits = %(limit)s"
            " WHERE id = %(id)s AND balance_nanocredits + %(limit)s >= held_nanocredits"
            " RETURNING balance_nanocredits, held_nanocredits, credit_limit_nanocredits",
            {"limit": nanocredits, "id": account_id},
        )
        rows = cursor.fetchall()
    return Wallet(*rows[0]) if rows else None
