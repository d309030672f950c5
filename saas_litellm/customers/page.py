"""What the page of one team, or of one organization, shows: gathered in a bounded number of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.urls import reverse

from billing.models import Account, Entry
from jobs.facts import Filters, Sums
from jobs.models import Job
from saas_litellm.base import shown
from saas_litellm.customers import parts, spending, statement, wallets
from saas_litellm.customers.parts import Figure, May, PlanView
from saas_litellm.customers.spending import Spending
from saas_litellm.customers.wallets import Owner, Wallet
from teams import catalog
from teams.models import Alias, ApiKey, Membership, Organization, Team

TEAMS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do before a new customer's first job; ``link`` for those who may."""

    text: str
    link: str
    is_done: bool
    is_dialog: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerPage:
    """What both pages have. None: not for this operator's eyes."""

    owner: Owner
    acts: Mapping[str, str]
    state: str
    steps: Sequence[Step]
    figures: Sequence[Figure]
    wallet: Wallet | None
    lines: Sequence[statement.Line] | None
    spending: Spending | None
    with_profit: bool
    budgets: Sequence[parts.BudgetRow] | None
    plan: PlanView | None
    limits: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamPage(CustomerPage):
    """``shared_with``: the organization whose wallet pays, and ``left_over`` in the team's own."""

    shared_with: Organization | None
    left_over: str
    aliases: Sequence[Alias] | None
    keys: Sequence[parts.KeyRow] | None
    jobs: Sequence[parts.JobRow] | None
    members: Sequence[Membership] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRow:
    """A team in its organization's page; ``is_shared``: it draws on the organization's wallet."""

    team: Team
    state: str
    is_shared: bool
    available: str
    lasts: str
    spent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationPage(CustomerPage):
    """``sharing``: how many teams draw on the organization's own wallet."""

    sees_credits: bool
    sharing: int
    rows: Sequence[TeamRow]
    teams: Page[Team] | None


def of_team(team: Team, *, may: May, acts: Mapping[str, str]) -> TeamPage:
    shared = wallets.payer_of(team) != team
    keys = parts.keys_of(team) if may("teams.view_apikey") else None
    aliases = catalog.granted(team) if may("teams.view_alias") else None
    return TeamPage(
        **_common(team, may, acts, Filters(team=team.slug)),
        steps=_steps(team, acts),
        plan=parts.plan_of_team(team) if may("billing.view_planassignment") else None,
        shared_with=team.organization if shared else None,
        left_over=_left_over(team) if shared and may("billing.view_account") else "",
        aliases=aliases,
        keys=keys,
        jobs=parts.jobs_of(team, may=may) if may("jobs.view_job") else None,
        members=parts.members_of(team) if may("teams.view_membership") else None,
    )


def of_organization(
    organization: Organization, *, may: May, acts: Mapping[str, str], number: str | int = 1
) -> OrganizationPage:
    """``number``: which page of its teams."""
    common = _common(organization, may, acts, Filters(organization=organization.slug))
    teams, sharing = organization.teams.all(), 0
    rows: Sequence[TeamRow] = ()
    page = None
    if may("teams.view_team"):
        sharing = teams.filter(draws_on=Team.Wallet.ORGANIZATION).count()
        page = Paginator(_with_wallets(teams), TEAMS).get_page(number)
        spent = spending.by_team(organization.slug) if may("jobs.view_job") else {}
        rows = [_row(team, spent, may) for team in page]
    if may("billing.view_account"):
        common["figures"] = [_total(organization), *common["figures"]]
    return OrganizationPage(
        **common,
        steps=_first_team(organization, acts, teams),
        plan=parts.plan_of_organization(organization)
        if may("billing.view_planassignment")
        else None,
        sees_credits=may("billing.view_account"),
        sharing=sharing,
        rows=rows,
        teams=page,
    )


def _common(owner: Owner, may: May, acts: Mapping[str, str], filters: Filters) -> dict[str, Any]:
    wallet = wallets.of(owner) if may("billing.view_account") else None
    if wallet is not None and wallet.account is None and isinstance(owner, Organization):
        wallet = None  # Its teams have their own, and it never had one.
    worked = spending.of(filters) if may("jobs.view_job") else None
    with_profit = may("jobs.view_profitday")
    sees_lines = wallet is not None and may("billing.view_entry")
    return {
        "owner": owner,
        "acts": acts,
        "state": parts.STATES[owner.status],
        "figures": [
            *(parts.money_figures(wallet) if wallet else ()),
            *(parts.work_figures(worked, with_profit=with_profit) if worked else ()),
        ],
        "wallet": wallet,
        "lines": statement.last_lines(wallet.account, count=parts.LINES)
        if wallet is not None and sees_lines
        else None,
        "spending": worked,
        "with_profit": with_profit,
        "budgets": parts.budgets_of(owner) if may("billing.view_budget") else None,
        "limits": parts.limits_of(owner),
    }


def _steps(team: Team, acts: Mapping[str, str]) -> list[Step]:
    """From a new team to its first job; none once it has had one."""
    if Job.objects.filter(team=team).exists():
        return []
    account = wallets.find(team)
    granted = Entry.objects.filter(account=account, kind=Entry.Kind.GRANT) if account else None
    return [
        Step(
            text="Top up its credits",
            link=acts.get("top_up", ""),
            is_done=granted is not None and granted.exists(),
        ),
        Step(
            text="Grant it models: choose an access group below",
            link="#team_form",
            is_done=bool(catalog.granted(team)),
            is_dialog=False,
        ),
        Step(
            text="Issue an API key",
            link=acts.get("issue_key", ""),
            is_done=ApiKey.objects.filter(team=team).exists(),
        ),
        Step(
            text="Send the first call, as the API reference shows",
            link="/docs",
            is_done=False,
            is_dialog=False,
        ),
    ]


def _first_team(
    organization: Organization, acts: Mapping[str, str], teams: QuerySet[Team]
) -> list[Step]:
    if teams.exists():
        return []
    return [
        Step(
            text="Add the first team: it holds credits, keys and limits",
            link=acts.get("add_team", ""),
            is_done=False,
            is_dialog=False,
        )
    ]


def _left_over(team: Team) -> str:
    """What lies in a team's own wallet while another one pays."""
    own = Account.objects.filter(team=team).exclude(balance_nanocredits=0).first()
    return shown.credit_amount(own.balance_nanocredits) if own else ""


def _total(organization: Organization) -> Figure:
    """Over every wallet of the organization; summed here, for a database's sum may overflow."""
    accounts = Account.objects.filter(team__organization=organization)
    own = Account.objects.filter(organization=organization)
    balances = [
        *accounts.values_list("balance_nanocredits", flat=True),
        *own.values_list("balance_nanocredits", flat=True),
    ]
    return parts.credit_figure("All wallets", sum(balances), note="its own and its teams'")


def _with_wallets(teams: QuerySet[Team]) -> QuerySet[Team]:
    return teams.select_related("account__pace", "organization__account__pace")


def _row(team: Team, spent: Mapping[str, Sums], may: May) -> TeamRow:
    sees = may("billing.view_account")
    available, lasts = wallets.in_list(team) if sees else ("", "")
    return TeamRow(
        team=team,
        state=parts.STATES[team.status],
        is_shared=wallets.payer_of(team) != team,
        available=available,
        lasts=lasts,
        spent=shown.credit_amount(spending.net(spent.get(team.slug, Sums()))),
    )


def address(owner: Owner) -> str:
    """The owner's page."""
    return reverse(f"admin:teams_{owner._meta.model_name}_change", args=[owner.pk])
