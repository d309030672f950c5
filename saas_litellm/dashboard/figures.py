"""What was earned, what it cost and what is left, for a period and the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from jobs import links, profit, rankings
from jobs.facts import Sums
from saas_litellm.base import shown
from saas_litellm.base.charts import Bar, Chart, Series, in_cells
from saas_litellm.base.money import from_nano
from saas_litellm.dashboard.periods import Period

# A single day is one bar: its chart goes back so far that a trend can be seen.
SHORTEST_CHART_DAYS = 14
ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure; ``change`` is in per cent of the period before, None where that had none."""

    name: str
    value: str
    exact: str
    change: Decimal | None
    is_good: bool | None
    note: str = ""

    @property
    def direction(self) -> str:
        if self.change is None or self.change == 0:
            return ""
        return "up" if self.change > 0 else "down"


@dataclass(frozen=True, slots=True)
class Row:
    """One team, job type or alias; the bar is its margin."""

    name: str
    sums: Sums
    bar: Bar
    leads: links.RowLinks

    @property
    def revenue(self) -> str:
        return shown.usd(self.sums.revenue_nano_usd)

    @property
    def cost(self) -> str:
        return shown.usd(self.sums.provider_cost_nano_usd)

    @property
    def margin(self) -> str:
        return shown.usd(self.sums.margin_nano_usd)

    @property
    def margin_percent(self) -> str:
        return shown.percent(self.sums.margin_percent)

    @property
    def is_loss(self) -> bool:
        return self.sums.margin_nano_usd < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The best and the worst by margin, the worst last; ``left_out`` lie between."""

    title: str
    group_by: str
    rows: Sequence[Row]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    now: Sums
    tiles: Sequence[Tile]
    chart: Chart
    rankings: Sequence[Ranking]


def of(period: Period) -> Figures:
    """All of it, each figure exact (``jobs.profit``), and each of as few rows as it takes."""
    before = period.before
    job_types = _report(period, "job_type")
    teams = rankings.ends(start=period.start, end=period.end, group_by="team", rows=ROWS)
    active = teams.active, rankings.active(start=before.start, end=before.end, group_by="team")
    return Figures(
        now=job_types.total,
        tiles=tiles(job_types.total, _report(before, None).total, active=active),
        chart=by_day(period),
        rankings=[
            ranking("Teams", teams.report, left_out=teams.left_out),
            ranking("Job types", job_types),
            ranking("Models", _report(period, "alias")),
        ],
    )


def tiles(sums: Sums, past: Sums, *, active: Sequence[int]) -> list[Tile]:
    """``active``: teams with a job or a call, now and before."""
    failed_share = Decimal(sums.failed_calls) * 100 / sums.calls if sums.calls else None
    return [
        _money("Revenue", sums.revenue_nano_usd, past.revenue_nano_usd, is_more_good=True),
        _money("Provider cost", sums.provider_cost_nano_usd, past.provider_cost_nano_usd),
        _money(
            "Margin",
            sums.margin_nano_usd,
            past.margin_nano_usd,
            is_more_good=True,
            note=f"{shown.percent(sums.margin_percent)} of revenue",
        ),
        _number("Active teams", *active, is_more_good=True),
        _number(
            "Jobs",
            sums.jobs,
            past.jobs,
            is_more_good=True,
            note=f"{sums.failed_jobs:,} failed or cancelled",
        ),
        _number(
            "Failed calls",
            sums.failed_calls,
            past.failed_calls,
            is_more_good=False,
            note=f"{shown.percent(failed_share)} of {sums.calls:,}",
        ),
    ]


def by_day(period: Period, *, title: str = "") -> Chart:
    """Revenue, cost and margin, a slot a day, the days without work included."""
    first = min(period.start, period.end - timedelta(days=SHORTEST_CHART_DAYS))
    report = profit.report(start=first, end=period.end, group_by="day")
    return of_days(report, title=title)


def days_of(report: profit.Report) -> list[tuple[str, Sums]]:
    """Every day of a report by day, with its label, those without work included."""
    found = dict(report.rows)
    days = [report.start + timedelta(days=n) for n in range((report.end - report.start).days)]
    return [(_label(day), found.get(f"{day:%Y-%m-%d}", Sums())) for day in days]


def of_days(report: profit.Report, *, title: str = "") -> Chart:
    """The same, of a report by day that is there already."""
    labels, sums = zip(*days_of(report), strict=True)

    def line(name: str, of: Callable[[Sums], int], *, is_bar: bool = True) -> Series:
        values = [from_nano(of(of_day)) for of_day in sums]
        return Series(name=name, values=values, kind="bar" if is_bar else "line")

    return Chart(
        title=title or "Revenue, provider cost and margin by day",
        unit="USD",
        labels=labels,
        series=[
            line("Revenue", lambda of_day: of_day.revenue_nano_usd),
            line("Provider cost", lambda of_day: of_day.provider_cost_nano_usd),
            line("Margin", lambda of_day: of_day.margin_nano_usd, is_bar=False),
        ],
    )


def ranking(title: str, report: profit.Report, *, left_out: int = 0) -> Ranking:
    """At most ROWS of the best and ROWS of the worst; ``left_out``: those the report has not."""
    ordered = sorted(report.rows, key=lambda row: (-row[1].margin_nano_usd, row[0]))
    is_long = len(ordered) > 2 * ROWS
    chosen = [*ordered[:ROWS], *ordered[-ROWS:]] if is_long else ordered
    left_out += len(ordered) - len(chosen)
    bars = in_cells([sums.margin_nano_usd for _, sums in chosen])
    group_by = report.group_by or ""
    rows = [
        Row(name, sums, bar, links.of_row(group_by, name, start=report.start, end=report.end))
        for (name, sums), bar in zip(chosen, bars, strict=True)
    ]
    return Ranking(title=title, group_by=group_by, rows=rows, left_out=left_out)


def change(now: int, before: int) -> Decimal | None:
    """Per cent of the size of what was before, to a tenth; None when there was nothing."""
    if before == 0:
        return None
    share = Decimal(now - before) * 100 / abs(before)
    return share.quantize(Decimal("0.1"), ROUND_HALF_EVEN)


def _report(period: Period, group_by: str | None) -> profit.Report:
    return profit.report(start=period.start, end=period.end, group_by=group_by)


def _money(
    name: str, now: int, before: int, *, is_more_good: bool | None = None, note: str = ""
) -> Tile:
    tile = _number(name, now, before, is_more_good=is_more_good, note=note)
    return replace(tile, value=shown.usd(now), exact=f"{from_nano(now)} USD")


def _number(
    name: str, now: int, before: int, *, is_more_good: bool | None = None, note: str = ""
) -> Tile:
    return Tile(
        name=name,
        value=shown.count(now),
        exact=str(now),
        change=change(now, before),
        is_good=None if is_more_good is None or now == before else is_more_good == (now > before),
        note=note,
    )


def _label(day: date) -> str:
    return f"{day:%-d %b}"
