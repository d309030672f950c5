"""Plain functions that make the rows a test needs, through the domain's own functions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from billing import ledger, plans
from billing.models import CallRule, JobRule, PricePlan
from saas_litellm.base.money import NANO, femto
from teams import credentials, directory, keys, prices
from teams.models import AccessGroup, Alias, Deployment, Organization, Team
from teams.prices import Rates, UnitPrices

_numbers = itertools.count(1)
# 10 USD per million in, 1 cached, 30 out: a token of input is 10^-5 USD.
SHEET = UnitPrices(
    base=Rates(input=femto("0.00001"), cached_read=femto("0.000001"), output=femto("0.00003"))
)


@dataclass(frozen=True)
class Company:
    """Alice's team, with credits and a key, and the alias `chat` it may use."""

    team: Team
    key: str
    alias: Alias

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def company(
    *,
    name: str = "alice",
    credits_: int = 100,
    model: str = "demo/echo",
    api_base: str = "",
    plan: str = "consumption_usd",
    sheet: UnitPrices = SHEET,
    alias: str = "chat",
) -> Company:
    made = team(name=name, credits_=credits_, plan=plan)
    served = serve(made, alias=alias, model=model, api_base=api_base, sheet=sheet)
    made.default_alias = served
    made.save()
    return Company(team=made, key=keys.issue(team=made, actor="test")[1], alias=served)


def team(*, name: str = "alice", credits_: int = 100, plan: str = "consumption_usd") -> Team:
    organization = Organization.objects.filter(slug=f"{name}-org").first() or (
        directory.create_organization(slug=f"{name}-org", actor="test")
    )
    made = directory.create_team(slug=name, organization=organization, actor="test")
    if plan:
        plans.assign(plan=plans.ensure_preset(plan).plan, team=made, actor="test")
    if credits_:
        top_up(made, credits_ * NANO)
    return made


def top_up(to: Team, nanocredits: int) -> None:
    ledger.grant(
        account=ledger.account_of(to),
        amount_nanocredits=nanocredits,
        actor="test",
        idempotency_key=f"test-{next(_numbers)}",
    )


def serve(
    to: Team, *, alias: str, model: str, api_base: str = "", sheet: UnitPrices | None = SHEET
) -> Alias:
    served, _ = Alias.objects.get_or_create(name=alias)
    credential = None
    if api_base:
        credential = credentials.save(
            name=f"c{next(_numbers)}", api_key="sk-upstream-secret", actor="test", api_base=api_base
        )
    Deployment.objects.create(alias=served, model=model, credential=credential)
    if sheet is not None:
        prices.publish(price_key=model, prices=sheet, source="test")
    group, _ = AccessGroup.objects.get_or_create(name=f"group-{to.slug}")
    group.aliases.add(served)
    to.access_groups.add(group)
    return served


def plan(slug: str, *, flat: int | None = None, **call_rule: Any) -> PricePlan:
    made = PricePlan.objects.create(slug=slug, name=slug)
    version = plans.draft(plan=made)
    if flat is not None:
        JobRule.objects.create(version=version, price_nanocredits=flat)
    if call_rule:
        CallRule.objects.create(version=version, **call_rule)
    plans.activate(version=version, actor="test")
    return made
