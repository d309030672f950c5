"""The work in the admin: jobs and their calls, profit, reconciliation with providers' bills."""

from jobs.admin import calls, profit, reconciliation, work

__all__ = ["calls", "profit", "reconciliation", "work"]
