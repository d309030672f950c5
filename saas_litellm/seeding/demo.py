"""Seed a database with the company: its history in bulk, and what is going on today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction

from billing import budgets, ledger, lots, plan_specs, recurring, revenue, runway, thresholds
from billing.models import Account, Entry, PricePlan
from billing.plan_specs import VersionSpec
from jobs import lifecycle, refunds, rollups
from jobs.models import Call, Job
from saas_litellm.base import clock
from saas_litellm.base.money import NANO
from saas_litellm.seeding import founding, market
from saas_litellm.seeding.days import History
from saas_litellm.seeding.founding import ACTOR, Shop
from saas_litellm.seeding.rows import Rows
from teams.models import Organization, Team

# Beyond this many accounts the worker folds lots in its own time.
FOLDED_AT_ONCE = 500
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    organizations: int
    teams: int
    jobs: int
    calls: int
    entries: int


def seed(size: str, *, tell: Tell = lambda _: None) -> Seeded:
    """All or nothing, in one transaction; then the sums that a worker keeps.

    Raises Invalid for a database that has been seeded before.
    """
    chosen = market.SIZES[size]
    until = clock.now()
    began = until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=chosen.days)
    with transaction.atomic():
        with clock.at(began):
            shop = founding.found(market.buyers(chosen))
        rows = Rows()
        history = History(shop, chosen, began=began, until=until)
        tenth = max(1, chosen.days // 10)
        for day in history.days(rows):
            rows.write()
            if day % tenth == 0:
                tell(f"{day} of {chosen.days} days")
        rows.finish()
        _set_balances(shop)
        _today()
    _analyze()
    tell("summing days up")
    rollups.rebuild()
    revenue.forget()
    runway.keep_paces()
    for account in Account.objects.all()[:FOLDED_AT_ONCE]:
        lots.live_lots(account)
    return Seeded(
        organizations=Organization.objects.count(),
        teams=Team.objects.count(),
        jobs=Job.objects.count(),
        calls=Call.objects.count(),
        entries=Entry.objects.count(),
    )


def _set_balances(shop: Shop) -> None:
    accounts = [
        Account(pk=customer.account_id, balance_nanocredits=customer.left_nanocredits)
        for customer in shop.customers
    ]
    Account.objects.bulk_update(accounts, ["balance_nanocredits"], batch_size=500)


def _today() -> None:
    """What an operator finds on the desk: work under way, complaints, limits, a new price."""
    teams = {team.slug: team for team in Team.objects.filter(slug__in=_SLUGS)}
    for slug in ("northwind-legal-contracts", "tidal-commerce-shop"):
        lifecycle.create(team=teams[slug], api_key=None, job_type="support_reply", user_id="user-3")
    paid = Job.objects.filter(
        team=teams["brightdesk-support-emea"],
        status=Job.Status.COMPLETED,
        charged_nanocredits__gt=0,
    )
    for job in paid.order_by("-closed_at")[3:5]:
        refunds.refund_job(
            job=job,
            nanocredits=None,
            reason="The customer found the answer wrong",
            actor=ACTOR,
            idempotency_key=f"seed:{job.pk}",
        )
    budgets.create(
        owner=teams["brightdesk-support-americas"],
        period="month",
        limit_nanocredits=500 * NANO,
        is_hard=False,
        actor=ACTOR,
    )
    account = ledger.account_of(teams["fjord-travel-content"])
    thresholds.replace(account=account, nanocredits=[50 * NANO], actor=ACTOR)
    recurring.create(
        account=account,
        kind="subscription",
        period="monthly",
        amount_nanocredits=100 * NANO,
        paid_nano_usd=9 * NANO,
        starts_at=clock.now() + timedelta(days=5),
        actor=ACTOR,
    )
    plan = PricePlan.objects.get(slug="per-job")
    plan_specs.draft(plan=plan, spec=VersionSpec(**market.NEXT_PRICES), actor=ACTOR)


_SLUGS = (
    "northwind-legal-contracts",
    "tidal-commerce-shop",
    "brightdesk-support-emea",
    "brightdesk-support-americas",
    "fjord-travel-content",
)


def _analyze() -> None:
    """So many new rows at once: the planner is told before the first page asks for them."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
