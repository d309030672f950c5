"""The wallet row: each change is one conditional UPDATE whose WHERE clause is the rule.

It is right under any concurrency on PostgreSQL and SQLite alike (SQLite drops SELECT FOR UPDATE
without a word). Only the ledger's own modules call this.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection

from saas_litellm.base.money import MAX_AMOUNT

COLUMNS = ("balance_nanocredits", "held_nanocredits")


def _rule(balance: str, held: str) -> str:
    """What must hold of a row that these are added to."""
    row = "billing_account"
    return (
        f"{row}.held_nanocredits + {held} >= 0"
        f" AND {row}.balance_nanocredits + {balance} BETWEEN -{MAX_AMOUNT} AND {MAX_AMOUNT}"
        f" AND {row}.balance_nanocredits + {balance} + {row}.credit_limit_nanocredits"
        f" >= {row}.held_nanocredits + {held}"
    )


# For rows.add.
RULE = _rule("v.balance_nanocredits", "v.held_nanocredits")


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
            "UPDATE billing_account SET"  # noqa: S608 - the rule has no value in it
            " balance_nanocredits = balance_nanocredits + %(balance)s,"
            " held_nanocredits = held_nanocredits + %(held)s"
            f" WHERE id = %(id)s AND {_rule('%(balance)s', '%(held)s')}"
            " RETURNING balance_nanocredits, held_nanocredits, credit_limit_nanocredits",
            {"balance": balance, "held": held, "id": account_id},
        )
        found = cursor.fetchall()
    return Wallet(*found[0]) if found else None


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
