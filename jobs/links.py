"""Addresses of jobs and calls in the admin, narrowed to what a figure sums."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLinks:
    """Where a report's row leads; empty where it sums what no list shows.

    ``losing``: to those of its jobs that cost more than they brought.
    """

    name: str
    all: str = ""
    losing: str = ""

    def named(self) -> str:
        return _anchor(self.all, self.name) if self.all else self.name

    def losing_named(self) -> str:
        return _anchor(self.losing, "loss-making jobs") if self.losing else ""


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


def of_row(
    group_by: str, name: str, *, start: date, end: date, team: str = "", job_type: str = ""
) -> RowLinks:
    """Where the row of that name leads in a report from ``start`` up to but excluding ``end``."""
    if name.startswith("(") or group_by in {"organization", "deployment"}:
        return RowLinks(name=name)
    if group_by == "job" and name != "total":
        return RowLinks(name=name, all=reverse("admin:jobs_job_change", args=[name]))
    if group_by == "alias" and name != "total":
        return RowLinks(name=name, all=calls(alias=name, team=team, start=start, end=end))
    if name != "total":
        match group_by:
            case "team":
                team = name
            case "job_type":
                job_type = name
            case "day" | "month":
                start, end = _within(name, start, end)
    narrowed = {"team": team, "job_type": job_type, "start": start, "end": end}
    return RowLinks(
        name=name,
        all=jobs(**narrowed),  # type: ignore[arg-type]
        losing=jobs(**narrowed, is_losing=True),  # type: ignore[arg-type]
    )


def _within(name: str, start: date, end: date) -> tuple[date, date]:
    """The part of [start, end) that is the day or the month of that name."""
    if len(name) == len("2026-01-01"):
        first = date.fromisoformat(name)
        after = first + timedelta(days=1)
    else:
        first = datetime.strptime(name, "%Y-%m").date()  # noqa: DTZ007 - only its date is kept
        after = (first + timedelta(days=32)).replace(day=1)
    return max(first, start), min(after, end)


def _last(end: date | None) -> date | None:
    return None if end is None else end - timedelta(days=1)


def _address(page: str, **asked: str | date | None) -> str:
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{reverse(f'admin:{page}_changelist')}?{query}"


def _anchor(address: str, text: str) -> str:
    return format_html('<a href="{}" class="row-link">{}</a>', address, text)
