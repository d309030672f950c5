"""A team's first page: what is left and how long it lasts, and what it went on."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.db.models import Count
from django.http import HttpResponse

from billing import lots, runway
from billing.models import Account, Lot
from jobs.models import Job
from saas_litellm.base import charts, clock, shown
from saas_litellm.base.charts import Chart, Series
from saas_litellm.base.days import midnight
from saas_litellm.base.money import from_nano
from saas_litellm.portal import wallets
from saas_litellm.portal.access import Visit, team_page
from teams.models import Team

PERIODS = (30, 90)
LOTS = 50
TYPES = 15


@team_page
def overview(visit: Visit) -> HttpResponse:
    days = 90 if visit.request.GET.get("days") == "90" else 30
    end = clock.now().date() + timedelta(days=1)
    start = end - timedelta(days=days)
    wallet = wallets.in_use(visit.team)
    # Before its first use there is no account, and looking makes none.
    account = wallet.account or Account()
    live = lots.kept_lots(account) if wallet.account else []
    used = wallets.used_by_day(visit.team, start=start, end=end)
    return visit.show(
        "portal/overview.html",
        {
            "account": _amounts(account),
            "is_shared": wallet.is_shared,
            "is_empty": account.available_nanocredits <= 0,
            "runway": _lasts(wallet.account),
            "lots": [_lot(lot) for lot in live[:LOTS]],
            "lots_left_out": max(0, len(live) - LOTS),
            "are_lots_behind": wallet.account is not None and lots.is_behind(wallet.account),
            "days": days,
            "periods": PERIODS,
            "used": shown.credit_amount(sum(used.values())),
            "chart": _chart(used),
            "types": _types(visit.team, start=start, end=end),
        },
    )


def _amounts(account: Account) -> list[tuple[str, str, str, str]]:
    """Name, as read, every digit, and what it means."""
    held = "for work that is running"
    figures = [
        ("Available", account.available_nanocredits, "for new work"),
        ("Balance", account.balance_nanocredits, "what is there in all"),
        ("Held", account.held_nanocredits, held),
    ]
    if account.credit_limit_nanocredits:
        figures.append(("Credit limit", account.credit_limit_nanocredits, "beyond the balance"))
    return [
        (name, shown.credit_amount(amount), str(from_nano(amount)), note)
        for name, amount, note in figures
    ]


def _lasts(account: Account | None) -> tuple[str, str]:
    """How long the credits last, and what that rests on."""
    paced = runway.current(account) if account else None
    if paced is None or paced.days is None:
        return "–", "nothing was used of late"
    slowest = "for ever" if paced.days_at_slowest is None else f"{paced.days_at_slowest}"
    return (
        f"{paced.days:,} days",
        f"between {paced.days_at_fastest} and {slowest}, at the pace of the last"
        f" {paced.basis_days} days",
    )


def _lot(lot: Lot) -> dict[str, Any]:
    now = clock.now()
    return {
        "kind": lot.grant.get_kind_display(),
        "granted_at": lot.grant.entry.created_at,
        "amount": shown.credit_amount(lot.amount_nanocredits),
        "remaining": shown.credit_amount(lot.remaining_nanocredits),
        "expires_at": lot.expires_at,
        "is_soon": lot.expires_at is not None and lot.expires_at < now + timedelta(days=7),
    }


def _chart(used: dict[date, int]) -> Chart:
    return Chart(
        title="Credits used by day",
        unit="credits",
        labels=[f"{day:%-d %b}" for day in used],
        series=[Series(name="Used", values=[from_nano(n) for n in used.values()], kind="bar")],
    )


def _types(team: Team, *, start: date, end: date) -> list[dict[str, Any]]:
    """What the credits went on; the smallest ones together."""
    found = wallets.used_by_type(team, start=start, end=end)
    rows, rest = found[:TYPES], found[TYPES:]
    names = [name for name, _ in rows]
    closed = dict(
        Job.objects.filter(
            team=team,
            closed_at__gte=midnight(start),
            closed_at__lt=midnight(end),
            job_type__in=names,
        )
        .order_by()
        .values_list("job_type")
        .annotate(Count("pk"))
    )
    if rest:
        rows.append((f"({len(rest)} more)", sum(used for _, used in rest)))
    bars = charts.in_cells([used for _, used in rows])
    return [
        {
            "name": name or "(of no job)",
            "used": shown.credit_amount(used),
            "jobs": shown.count(closed[name]) if name in closed else "–",
            "bar": bar,
        }
        for (name, used), bar in zip(rows, bars, strict=True)
    ]
