"""What a customer's work took and brought, day by day: the profit report of them alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from jobs import profit
from jobs.facts import Filters, Sums
from saas_litellm.base import clock
from saas_litellm.base.charts import Chart, Series
from saas_litellm.base.money import from_nano
from saas_litellm.dashboard import figures

DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Of the last DAYS whole UTC days, today included."""

    sums: Sums
    credits: Chart
    money: Chart

    @property
    def spent_nanocredits(self) -> int:
        return net(self.sums)


def of(filters: Filters) -> Spending:
    """One report, drawn twice: in the customer's credits, and in the founder's dollars."""
    report = _report("day", filters)
    days = figures.days_of(report)
    credits_spent = Chart(
        title="Credits spent by day",
        unit="credits",
        labels=[label for label, _ in days],
        series=[
            Series(name="Spent", values=[from_nano(net(sums)) for _, sums in days], kind="bar")
        ],
    )
    return Spending(sums=report.total, credits=credits_spent, money=figures.of_days(report))


def by_team(organization: str) -> dict[str, Sums]:
    """The same days of each team of an organization that worked in them, by slug."""
    return dict(_report("team", Filters(organization=organization)).rows)


def net(sums: Sums) -> int:
    """Nanocredits charged, less what was given back."""
    return sums.charged_nanocredits - sums.refunded_nanocredits


def _report(group_by: str, filters: Filters) -> profit.Report:
    tomorrow = clock.now().date() + timedelta(days=1)
    start = tomorrow - timedelta(days=DAYS)
    return profit.report(start=start, end=tomorrow, group_by=group_by, filters=filters)
