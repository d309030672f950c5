"""The money.

An *account* is the wallet of one team or one organization: what it owns (``balance``) and what of
that is set aside for work in flight (``held``). Credits come in as *entries* of kind grant, leave
as charges; every entry carries the balance after it and is never changed. A *hold* sets credits
aside until the work is settled or the hold released; a *budget* bounds what a team, a key or an
organization may spend in a period, in the same transaction. A *lot* is what is left of a grant: the
*fold* attributes each entry to lots, off the hot path. A *plan version* says what work costs; once
active it is immutable.

Only ``billing/ledger.py`` writes Account, Entry, Grant and Hold; ``billing/budgets.py`` writes
BudgetPeriod, ``billing/lots.py`` Lot, Draw and Fold, ``billing/revenue.py``
RevenueDay. Amounts are integers: nanocredits (10^-9
credit) or nano-USD.
"""

from __future__ import annotations

from billing.models.accounts import Account, BalanceThreshold, Hold, Pace, RecurringGrant
from billing.models.archive import ArchivedEntry, ArchivedMonth
from billing.models.budgets import Budget, BudgetPeriod
from billing.models.entries import Draw, Entry, Fold, Grant, Loss, Lot, RevenueDay
from billing.models.plans import (
    CallRule,
    JobRule,
    MonthlyMinimum,
    PlanAssignment,
    PlanVersion,
    PricePlan,
    Rule,
    UsageCounter,
)

__all__ = [
    "Account",
    "ArchivedEntry",
    "ArchivedMonth",
    "BalanceThreshold",
    "Budget",
    "BudgetPeriod",
    "CallRule",
    "Draw",
    "Entry",
    "Fold",
    "Grant",
    "Hold",
    "JobRule",
    "Loss",
    "Lot",
    "MonthlyMinimum",
    "Pace",
    "PlanAssignment",
    "PlanVersion",
    "PricePlan",
    "RecurringGrant",
    "RevenueDay",
    "Rule",
    "UsageCounter",
]
