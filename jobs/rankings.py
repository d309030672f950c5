"""Profit of thousands of teams or organizations, a few rows at a time.

One amount for each of them says which rows are wanted; only those are then summed in full.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from django.db.models import F, Sum

from jobs import facts, profit
from jobs.facts import Filters, Sums
from jobs.profit import Report
from saas_litellm.base import replica

# A row's key: of a team or an organization; None: corrections that no call explains.
Key = int | None
Amount = Literal["revenue", "margin"]
GROUPS = ("team", "organization")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Both ends of a ranking; ``left_out`` lie between, ``active`` had a job or a call."""

    report: Report
    left_out: int
    active: int


_KEYS = {"team": "team_id", "organization": "team__organization_id"}
_REVENUE = F("price_nano_usd") - F("refunded_nano_usd")
_AMOUNTS = {"revenue": _REVENUE, "margin": _REVENUE - F("provider_cost_nano_usd")}


@replica.reading()
def page(
    *, start: date, end: date, group_by: str, filters: Filters, number: int, rows: int
) -> tuple[Report, int]:
    """A page of the report by one of GROUPS, the greatest revenue first, and how many rows it has.

    Its total is of all. Raises Invalid.
    """
    profit.require_sensible(start, end, group_by)
    amounts = _amounts(start, end, group_by, filters, "revenue")
    order = _ordered(amounts)
    chosen = order[(number - 1) * rows : number * rows]
    found = _of(start, end, group_by, filters, chosen)
    found.total = profit.report(start=start, end=end, filters=filters).total
    return found, len(order)


@replica.reading()
def ends(*, start: date, end: date, group_by: str, rows: int) -> Ends:
    """So many of the best and of the worst by margin. Raises Invalid."""
    profit.require_sensible(start, end, group_by)
    order = _ordered(_amounts(start, end, group_by, Filters(), "margin"))
    chosen = order if len(order) <= 2 * rows else [*order[:rows], *order[-rows:]]
    return Ends(
        report=_of(start, end, group_by, Filters(), chosen),
        left_out=len(order) - len(chosen),
        active=len(set(order) - {None}),
    )


def active(*, start: date, end: date, group_by: str) -> int:
    """How many of them had a job or a call that ended in those days."""
    ranges = profit.open_ranges(start, end)
    kept = profit.kept(start, end, ranges, group_by, Filters())
    keys = set(kept.values_list(_KEYS[group_by], flat=True).distinct())
    keys |= {row["key"] for row in profit.open_rows(start, end, ranges, group_by, Filters())}
    return len(keys - {None})


def _amounts(
    start: date, end: date, group_by: str, filters: Filters, amount: Amount
) -> dict[Key, int]:
    ranges = profit.open_ranges(start, end)
    kept = profit.kept(start, end, ranges, group_by, filters).values_list(_KEYS[group_by])
    found: dict[Key, int] = defaultdict(int)
    for key, summed in kept.annotate(amount=Sum(_AMOUNTS[amount])):
        found[key] += int(summed)
    for row in profit.open_rows(start, end, ranges, group_by, filters):
        sums = Sums()
        sums.add(row)
        found[row["key"]] += getattr(sums, f"{amount}_nano_usd")
    return found


def _ordered(amounts: dict[Key, int]) -> list[Key]:
    """The greatest first; of equals, the oldest."""
    return sorted(amounts, key=lambda key: (-amounts[key], key or 0))


def _of(start: date, end: date, group_by: str, filters: Filters, chosen: list[Key]) -> Report:
    """The full sums of those rows, the greatest revenue first."""
    keys = frozenset(key for key in chosen if key is not None)
    is_by_team = group_by == "team"
    narrowed = (
        replace(filters, team_ids=keys) if is_by_team else replace(filters, organization_ids=keys)
    )
    found = profit.report(start=start, end=end, group_by=group_by, filters=narrowed)
    if None in chosen:
        cost = sum(row["provider_cost_nano_usd"] for row in facts.corrections(start, end, ()))
        found.rows.append((profit.NO_NAME[group_by], Sums(provider_cost_nano_usd=cost)))
        found.rows.sort(key=lambda row: (-row[1].revenue_nano_usd, row[0]))
    return found
