"""The work in the admin: jobs and their calls, profit, reconciliation with providers' bills."""

from jobs.admin import profit, reconciliation, work

__all__ = ["profit", "reconciliation", "work"]
