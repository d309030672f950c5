"""The ledger: the only package that writes accounts, entries, grants, losses and holds.

Every change of an account is one conditional UPDATE (``wallet``) with its entry in the same
transaction. Rows are taken in one order: the caller's own, pools by id, budget periods by id,
accounts by id.
"""

from __future__ import annotations

from billing.ledger.bills import Bill, Charge
from billing.ledger.book import Book, HoldAlreadyClosed
from billing.ledger.credits import (
    LONGEST_REFERENCE,
    Adjusted,
    adjust,
    expire,
    grant,
    payment_reference,
    reference_of,
    refund,
    set_credit_limit,
)
from billing.ledger.purchases import give_back, recover_loss, take_back
from billing.ledger.wallet import Wallet, lock
from billing.ledger.work import (
    account_id_of,
    account_of,
    account_of_organization,
    balance_of,
    hold,
    nothing,
    release,
    settle,
)

__all__ = [
    "LONGEST_REFERENCE",
    "Adjusted",
    "Bill",
    "Book",
    "Charge",
    "HoldAlreadyClosed",
    "Wallet",
    "account_id_of",
    "account_of",
    "account_of_organization",
    "adjust",
    "balance_of",
    "expire",
    "give_back",
    "grant",
    "hold",
    "lock",
    "nothing",
    "payment_reference",
    "recover_loss",
    "reference_of",
    "refund",
    "release",
    "set_credit_limit",
    "settle",
    "take_back",
]
