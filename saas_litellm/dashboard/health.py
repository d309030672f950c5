"""Is anything wrong right now: with the money, with the providers, with what was sounded?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F, FloatField, Min, Q, Sum
from django.db.models.functions import Cast
from django.urls import reverse

from billing import runway
from billing.models import Account, Hold
from jobs.facts import Sums
from jobs.models import Attempt, Reconciliation
from saas_litellm.base import clock, shown
from saas_litellm.base.models import Alarm, LedgerCheck
from saas_litellm.observing import state
from teams import prices
from teams.models import Deployment

HEALTH_HOURS = 24
ALARM_DAYS = 7
DRY_DAYS = 30
ROWS = 8
# A hold outlives its call by the deadline and the grace only; beyond this something is stuck.
OLD_HOLD = timedelta(hours=1)
LATE_CHECK = timedelta(hours=36)
LATE_WORKER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a health panel; ``state`` is ok, warn or bad."""

    name: str
    value: str
    state: str = "ok"
    hint: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """An account that runs out, at its pace of late."""

    account: Account
    available: str
    days: str
    between: str
    is_soon: bool
    link: str

    @property
    def name(self) -> str:
        return str(self.account.team or self.account.organization)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One deployment in the last hours."""

    deployment: Deployment
    attempts: int
    failures: int
    latency: str
    breaker: str
    is_well: bool

    @property
    def error_rate(self) -> str:
        return f"{self.failures * 100 / self.attempts:.1f} %" if self.attempts else "–"


def of_money(sums: Sums) -> list[Finding]:
    """Open holds, overruns, estimates, and when the books were last proved; ``sums``: the period's."""
    return [
        _worker(),
        _holds(),
        Finding(
            name="Overruns",
            value=f"{shown.credit_amount(sums.overrun_nanocredits)} credits",
            state="warn" if sums.overrun_nanocredits else "ok",
            hint="Price that no credits covered: your loss." if sums.overrun_nanocredits else "",
        ),
        Finding(
            name="Calls costed by estimate",
            value=shown.count(sums.estimated_calls),
            state="warn" if sums.estimated_calls else "ok",
            hint="Their provider told no usage." if sums.estimated_calls else "",
        ),
        _unpriced(),
        _check(),
        _variance(),
    ]


def _worker() -> Finding:
    age = state.worker_age_seconds()
    is_late = age is None or age > LATE_WORKER.total_seconds()
    return Finding(
        name="Worker",
        value="never ran" if age is None else f"{shown.span(timedelta(seconds=age))} ago",
        state="warn" if is_late else "ok",
        hint="`manage.py worker` gives abandoned credits back: start it." if is_late else "",
    )


def _holds() -> Finding:
    opened = Hold.objects.filter(state=Hold.State.OPEN).aggregate(
        many=Count("pk"),
        total=Sum("amount_nanocredits", default=0),
        oldest=Min("created_at", filter=Q(expires_at__isnull=False)),
    )
    oldest: datetime | None = opened["oldest"]
    is_old = oldest is not None and oldest < clock.now() - OLD_HOLD
    value = f"{opened['many']:,} for {shown.credit_amount(opened['total'])} credits"
    if oldest is not None:
        value += f", oldest of a call {shown.span(clock.now() - oldest)}"
    return Finding(
        name="Open holds",
        value=value,
        state="bad" if is_old else "ok",
        hint="The worker releases abandoned ones: is it running?" if is_old else "",
        link=reverse("admin:billing_hold_changelist") + "?state__exact=open",
    )


def _unpriced() -> Finding:
    active = Deployment.objects.filter(is_active=True, alias__is_active=True)
    keys = sorted({deployment.effective_price_key for deployment in active})
    unpriced = sorted(set(keys) - set(prices.current(keys)))
    return Finding(
        name="Models without a price",
        value=shown.count(len(unpriced)),
        state="warn" if unpriced else "ok",
        hint=f"{', '.join(unpriced[:3])}: refused until priced" if unpriced else "",
        link=reverse("admin:teams_unitprice_changelist"),
    )


def _check() -> Finding:
    last = LedgerCheck.objects.first()
    if last is None:
        return Finding(
            name="Ledger verified",
            value="never",
            state="warn",
            hint="The worker does it once a day; `manage.py verify_ledger` does it now.",
        )
    is_late = last.started_at < clock.now() - LATE_CHECK
    value = shown.ago(last.started_at, now=clock.now())
    return Finding(
        name="Ledger verified",
        value=f"{value}, {shown.counted(last.findings, 'finding')}"
        if last.findings
        else f"{value}, clean",
        state="bad" if last.findings else "warn" if is_late else "ok",
        hint=str(last.examples[0]) if last.examples else "",
        link=reverse("admin:base_ledgercheck_changelist"),
    )


def _variance() -> Finding:
    last = Reconciliation.objects.first()
    link = reverse("admin:jobs_reconciliation_changelist")
    if last is None:
        return Finding(name="Provider bills compared", value="never", state="warn", link=link)
    sums = last.lines.filter(their_nano_usd__isnull=False).aggregate(
        theirs=Sum("their_nano_usd", default=0), ours=Sum("our_nano_usd", default=0)
    )
    beyond = last.lines.filter(is_beyond_threshold=True).count()
    variance = sums["theirs"] - sums["ours"]
    return Finding(
        name="Provider bills compared",
        value=f"{last.source} to {last.last_day:%-d %b}: {shown.usd(variance)} off",
        state="warn" if beyond else "ok",
        hint=f"{beyond} lines beyond the threshold" if beyond else "",
        link=link,
    )


def running_dry() -> list[Dry]:
    """Accounts that last less than DRY_DAYS at their mean pace, the next to run dry first."""
    accounts = (
        Account.objects.filter(pace__mean_nanocredits__gt=0)
        .select_related("team", "organization", "pace")
        .annotate(
            left=F("balance_nanocredits") + F("credit_limit_nanocredits"),
            lasts=Cast(F("left"), FloatField()) / Cast(F("pace__mean_nanocredits"), FloatField()),
        )
        .filter(lasts__lt=DRY_DAYS)
        .order_by("lasts", "pk")[:ROWS]
    )
    return [_dry(account) for account in accounts]


def _dry(account: Account) -> Dry:
    found = runway.at_pace(account, account.pace)
    days, at_slowest = found.days, found.days_at_slowest
    upper = "for ever" if at_slowest is None else f"{at_slowest}"
    owner = "team" if account.team_id else "organization"
    return Dry(
        account=account,
        available=shown.credit_amount(account.available_nanocredits),
        days=f"{days} days",
        between=f"{found.days_at_fastest} to {upper}",
        is_soon=days is not None and days < 7,
        link=reverse(
            f"admin:teams_{owner}_change", args=[account.team_id or account.organization_id]
        ),
    )


def of_supply() -> list[Supply]:
    """Every active deployment, the ones in trouble first."""
    since = clock.now() - timedelta(hours=HEALTH_HOURS)
    failed = ~Q(failure="")
    recent = Attempt.objects.filter(call__finished_at__gte=since)
    # Ids grow with time: without a bound of its own the join may read every attempt there is.
    older = Attempt.objects.filter(call__finished_at__gte=since - timedelta(days=2))
    first = older.order_by("call__finished_at").values_list("pk", flat=True).first()
    found: dict[int, Any] = {
        row["deployment"]: row
        for row in recent.filter(pk__gte=first or 0)
        .order_by()
        .values("deployment")
        .annotate(
            attempts=Count("pk"),
            failures=Count("pk", filter=failed),
            latency=Avg("call__latency_ms", filter=~failed),
        )
    }
    deployments = Deployment.objects.filter(is_active=True).select_related("alias", "health")
    rows = [_supply(deployment, found.get(deployment.pk, {})) for deployment in deployments]
    rows.sort(key=lambda row: (row.is_well, -row.failures, -row.attempts, str(row.deployment)))
    return rows[: 2 * ROWS]


def _supply(deployment: Deployment, found: dict[str, Any]) -> Supply:
    health = getattr(deployment, "health", None)
    breaker = "closed"
    if health is not None and health.open_until is not None:
        is_open = health.open_until > clock.now()
        breaker = f"open until {health.open_until:%H:%M:%S}" if is_open else "half open"
    attempts, failures = found.get("attempts", 0), found.get("failures", 0)
    return Supply(
        deployment=deployment,
        attempts=attempts,
        failures=failures,
        latency=shown.milliseconds(found.get("latency")),
        breaker=breaker,
        is_well=breaker == "closed" and failures * 20 <= attempts,
    )


def alarms() -> Sequence[Alarm]:
    since = clock.now() - timedelta(days=ALARM_DAYS)
    return list(Alarm.objects.filter(last_seen_at__gte=since)[:ROWS])
