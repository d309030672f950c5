"""Addresses of the lists of jobs and calls in the admin, narrowed to what a figure sums."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import urlencode

from django.urls import reverse


def jobs(
    *,
    team: str = "",
    job_type: str = "",
    start: date | None = None,
    end: date | None = None,
    is_losing: bool = False,
) -> str:
    """Jobs that closed from ``start`` up to but not including ``end``, as reports count them."""
    return _address(
        "jobs_job",
        team=team,
        job_type=job_type,
        closed_from=start,
        closed_to=_last(end),
        losing="on" if is_losing else "",
    )


def calls(
    *, alias: str = "", team: str = "", start: date | None = None, end: date | None = None
) -> str:
    """Calls that began from ``start`` up to but not including ``end``."""
    return _address("jobs_call", alias=alias, team=team, created_from=start, created_to=_last(end))


def _last(end: date | None) -> date | None:
    return None if end is None else end - timedelta(days=1)


def _address(page: str, **asked: str | date | None) -> str:
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{reverse(f'admin:{page}_changelist')}?{query}"
