"""The money in the admin: wallets and their ledger, price plans, budgets and schedules."""

from billing.admin import accounts, entries, limits, plans

__all__ = ["accounts", "entries", "limits", "plans"]
