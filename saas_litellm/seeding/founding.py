"""The catalog, prices, plans and customers, as they stood on the first day."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.text import slugify

from billing import plan_specs, plans
from billing.models import Account, PlanAssignment, PricePlan
from billing.plan_specs import VersionSpec
from billing.pricing import Plan
from saas_litellm.base import clock
from saas_litellm.base.refusals import Invalid
from saas_litellm.seeding import market
from saas_litellm.seeding.market import Buyer
from teams import keys, prices
from teams.models import AccessGroup, Alias, Deployment, Organization, Team
from teams.prices import UnitPrices

ACTOR = "seed_demo"
GROUP = "standard"
# Keys for the first teams: each is hashed, and nobody will use those of ten thousand.
TEAMS_WITH_KEYS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An alias and its deployments, in order, with their unit prices."""

    alias_id: int
    deployments: tuple[tuple[int, UnitPrices], ...]


@dataclass(slots=True, kw_only=True)
class Customer:
    """A team at work. ``left_nanocredits`` is its balance as the days go by."""

    team_id: int
    slug: str
    account_id: int
    key_id: int | None
    plan: Plan
    buyer: Buyer
    left_nanocredits: int = 0
    spent_nanocredits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    aliases: dict[str, Served]
    customers: list[Customer]


def found(buyers: list[Buyer]) -> Shop:
    """Make all of it, as of the clock. Raises Invalid where there is something of it already."""
    if PricePlan.objects.filter(slug__in=market.PLANS).exists():
        raise Invalid("This database has been seeded before: take a fresh one.")
    aliases = {name: _serve(name) for name in market.DEPLOYMENTS}
    versions = {slug: _plan(slug) for slug in market.PLANS}
    return Shop(aliases=aliases, customers=_customers(buyers, versions))


def _serve(name: str) -> Served:
    if Alias.objects.filter(name=name).exists():
        raise Invalid(f"There is an alias {name} already: take a fresh database.")
    alias = Alias.objects.create(name=name)
    AccessGroup.objects.get_or_create(name=GROUP)[0].aliases.add(alias)
    deployments = []
    for priority, (model, sheet) in enumerate(market.DEPLOYMENTS[name]):
        deployment = Deployment.objects.create(alias=alias, model=model, priority=priority)
        prices.publish(price_key=model, prices=sheet, source="built-in demo")
        deployments.append((deployment.pk, sheet))
    return Served(alias_id=alias.pk, deployments=tuple(deployments))


def _plan(slug: str) -> Plan:
    name, spec = market.PLANS[slug]
    plan = plan_specs.create_plan(slug=slug, name=name, actor=ACTOR)
    version = plan_specs.draft(plan=plan, spec=VersionSpec(**spec), actor=ACTOR)
    return plans.load(plans.activate(version=version, actor=ACTOR).pk)


def _customers(buyers: list[Buyer], versions: dict[str, Plan]) -> list[Customer]:
    """In bulk: what directory.create_team does ten thousand times would take minutes."""
    now = clock.now()
    names = list(dict.fromkeys(buyer.organization for buyer in buyers))
    Organization.objects.bulk_create(Organization(slug=slugify(n), name=n) for n in names)
    organizations = Organization.objects.in_bulk([slugify(n) for n in names], field_name="slug")
    default = Alias.objects.get(name="fast")
    teams = Team.objects.bulk_create(
        Team(
            slug=slugify(f"{buyer.organization} {buyer.name}"),
            name=f"{buyer.organization}: {buyer.name}",
            organization=organizations[slugify(buyer.organization)],
            default_alias=default,
        )
        for buyer in buyers
    )
    # Django stamps these rows with the time of writing, whatever the clock says.
    Organization.objects.filter(slug__in=organizations).update(created_at=now)
    Team.objects.filter(pk__in=[team.pk for team in teams]).update(created_at=now)
    group = AccessGroup.objects.get(name=GROUP)
    Team.access_groups.through._default_manager.bulk_create(
        Team.access_groups.through(team_id=team.pk, accessgroup_id=group.pk) for team in teams
    )
    plan_ids = dict(PricePlan.objects.filter(slug__in=versions).values_list("slug", "pk"))
    PlanAssignment.objects.bulk_create(
        PlanAssignment(plan_id=plan_ids[buyer.plan], team=team, effective_from=now)
        for team, buyer in zip(teams, buyers, strict=True)
    )
    accounts = Account.objects.bulk_create(Account(team=team) for team in teams)
    return [
        Customer(
            team_id=team.pk,
            slug=team.slug,
            account_id=account.pk,
            key_id=keys.issue(team=team, actor=ACTOR, name="production")[0].pk
            if number < TEAMS_WITH_KEYS
            else None,
            plan=versions[buyer.plan],
            buyer=buyer,
        )
        for number, (team, account, buyer) in enumerate(zip(teams, accounts, buyers, strict=True))
    ]
