"""The money in the admin: wallets and their ledger, price plans, budgets and schedules."""

from billing.admin import accounts, limits, plans

__all__ = ["accounts", "limits", "plans"]
