"""Which pages are opened, by whom, and on which rows of a seeded database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode


class Page(NamedTuple):
    name: str
    client: Any
    address: str
    headers: dict[str, str] = {}


class Visitor:
    """Somebody who has signed in, and how their pages are called."""

    def __init__(self, user: Any) -> None:
        from django.test import Client

        self.user = user
        self.client = Client(SERVER_NAME="localhost")
        self.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    def page(self, name: str, at: str, *args: Any, **query: Any) -> Page:
        """``at``: the name of its address."""
        from django.urls import reverse

        address = reverse(at, args=args)
        return Page(name, self.client, f"{address}?{urlencode(query)}" if query else address)


class Rows:
    """The team with the most jobs, one in the middle, and work of theirs."""

    def __init__(self) -> None:
        from django.db.models import Count

        from billing.models import Account, PlanVersion
        from jobs.models import Job
        from saas_litellm.base import clock
        from teams.models import Team

        busy = Job.objects.order_by().values_list("team").annotate(jobs=Count("pk"))
        ranked = [team for team, _ in busy.order_by("-jobs", "team")]
        teams = Team.objects.select_related("organization")
        self.biggest = teams.get(pk=ranked[0])
        self.median = teams.get(pk=ranked[len(ranked) // 2])
        self.account = Account.objects.get(team=self.biggest)
        closed = Job.objects.filter(team=self.biggest, closed_at__isnull=False)
        self.job = closed.order_by("-closed_at")[0]
        self.version = PlanVersion.objects.filter(plan__slug="per-job").order_by("number")[0]
        self.today = clock.now().date()
        self.yesterday = self.today - timedelta(days=1)
        self.month_ago = self.today - timedelta(days=30)


def every_page() -> Iterator[Page]:
    rows = Rows()
    owner = Visitor(_operator())
    yield from _of_business(owner, rows)
    yield from _of_customers(owner, rows)
    yield from _of_jobs(owner, rows)
    yield from _of_books(owner, rows)
    yield from _of_prices(owner, rows)
    yield from _of_every_model(owner)
    yield from _of_the_portal(Visitor(_member(rows.biggest)), rows)
    yield from _of_the_api(rows)


def _of_business(owner: Visitor, rows: Rows) -> Iterator[Page]:
    for period in ("today", "7d", "30d", "month"):
        yield owner.page(f"overview, {period}", "admin:index", period=period)
    year = {"from": rows.today - timedelta(days=365), "to": rows.today}
    yield owner.page("overview, a year", "admin:index", period="custom", **year)
    yield owner.page("live", "live")
    for group in ("team", "organization", "job_type", "alias", "deployment", "day", "month", "job"):
        yield owner.page(f"profit by {group}", "admin:jobs_profitday_changelist", group_by=group)
    of_team = {"group_by": "day", "team": rows.biggest.slug}
    yield owner.page("profit of a team by day", "admin:jobs_profitday_changelist", **of_team)
    of_year = {"group_by": "team", "start": rows.today - timedelta(days=365)}
    yield owner.page("profit of a year by team", "admin:jobs_profitday_changelist", **of_year)
    yield owner.page("deferred revenue", "admin:jobs_profitday_deferred_revenue")
    yield owner.page("cost drift", "admin:jobs_profitday_cost_drift")


def _of_customers(owner: Visitor, rows: Rows) -> Iterator[Page]:
    from teams.models import Team

    teams, organizations = "admin:teams_team_changelist", "admin:teams_organization_changelist"
    yield owner.page("teams, searched", teams, q=rows.median.slug)
    yield owner.page("teams, active", teams, status__exact="active")
    yield owner.page("teams, the last page", teams, p=_last_page(Team, 50))
    yield owner.page("teams by balance", teams, o="-5")
    yield owner.page("organizations, searched", organizations, q="cedar")
    yield owner.page("organizations by teams", organizations, o="-4")
    for name, team in (("biggest", rows.biggest), ("median", rows.median)):
        yield owner.page(f"{name} team", "admin:teams_team_change", team.pk)
        at = "admin:teams_organization_change"
        yield owner.page(f"{name} team's organization", at, team.organization_id)
        statement = "admin:teams_team_statement"
        yield owner.page(f"statement of the {name}", statement, team.pk)
        yield owner.page(f"statement of the {name}, all", statement, team.pk, period="all")
        last = {"period": "all", "page": 10**6}
        yield owner.page(f"statement of the {name}, its end", statement, team.pk, **last)
        csv = {"period": "all", "format": "csv"}
        yield owner.page(f"statement of the {name}, CSV begins", statement, team.pk, **csv)
    for dialog in ("top_up", "assign_plan", "issue_key", "invite"):
        yield owner.page(f"dialog {dialog}", f"admin:teams_team_{dialog}", rows.biggest.pk)


def _of_jobs(owner: Visitor, rows: Rows) -> Iterator[Page]:
    from jobs.models import Job

    jobs, calls = "admin:jobs_job_changelist", "admin:jobs_call_changelist"
    team = rows.biggest.slug
    asked: dict[str, dict[str, Any]] = {
        "by team": {"team": team},
        "by status": {"status": "failed"},
        "completed": {"status": "completed"},
        "running": {"status": "open"},
        "by type": {"job_type": "translation"},
        "by end user": {"user": "user-7"},
        "created yesterday": {"created_from": rows.yesterday, "created_to": rows.yesterday},
        "closed in 30 days": {"closed_from": rows.month_ago},
        "by metadata": {"metadata": "document_id=doc-17"},
        "by common metadata": {"metadata": "channel=app"},
        "loss-making": {"losing": "on"},
        "the dearest": {"cost_from": "0.1"},
        "by cost": {"o": "8"},
        "of team, type and days": {
            "team": team,
            "job_type": rows.job.job_type,
            "created_from": rows.month_ago,
        },
        "losing of a user and type": {"losing": "on", "user": "user-7", "job_type": "translation"},
        "searched by id": {"q": str(rows.job.pk)[:8]},
        "searched by end user": {"q": "user-7"},
        "searched in vain": {"q": "nothing of the kind"},
        "the last page": {"p": _last_page(Job, 50)},
    }
    for name, query in asked.items():
        yield owner.page(f"jobs {name}", jobs, **query)
    yield owner.page("a job", "admin:jobs_job_change", rows.job.pk)
    asked = {
        "by team": {"team": team},
        "by status": {"status": "failed"},
        "by alias": {"alias": "fast"},
        "by error": {"error": "rate_limited"},
        "slow": {"slow": "30"},
        "of a job": {"job": rows.job.pk},
        "created yesterday": {"created_from": rows.yesterday, "created_to": rows.yesterday},
        "searched by id": {"q": str(rows.job.pk)[:8]},
    }
    for name, query in asked.items():
        yield owner.page(f"calls {name}", calls, **query)


def _of_books(owner: Visitor, rows: Rows) -> Iterator[Page]:
    from billing.models import Entry

    ledger = "admin:billing_entry_changelist"
    asked: dict[str, dict[str, Any]] = {
        "by account": {"account": rows.biggest.slug},
        "by kind": {"kind": "grant"},
        "by rare kind": {"kind": "expiry"},
        "yesterday": {"created_from": rows.yesterday, "created_to": rows.yesterday},
        "searched by reference": {"q": f"job:{rows.job.pk}"},
        "searched by team": {"q": rows.biggest.slug},
        "searched in vain": {"q": "nothing of the kind"},
        "the last page": {"p": _last_page(Entry, 100)},
    }
    for name, query in asked.items():
        yield owner.page(f"ledger {name}", ledger, **query)
    yield owner.page("holds, open", "admin:billing_hold_changelist", state__exact="open")
    yield owner.page("accounts, searched", "admin:billing_account_changelist", q=rows.biggest.slug)
    yield owner.page("accounts by balance", "admin:billing_account_changelist", o="-2")
    yield owner.page("the biggest's account", "admin:billing_account_change", rows.account.pk)
    yield owner.page("grants, sold", "admin:billing_grant_changelist", kind__exact="purchase")
    yield owner.page("audit log, searched", "admin:base_auditentry_changelist", q=rows.biggest.slug)
    actor = {"actor": "user:nobody"}
    yield owner.page("audit log of somebody", "admin:base_auditentry_changelist", **actor)


def _of_prices(owner: Visitor, rows: Rows) -> Iterator[Page]:
    from django.urls import reverse

    yield owner.page("price plans", "prices:plans")
    plan = rows.version.plan
    yield owner.page("a price plan", "prices:plan", plan.slug)
    yield owner.page("a price plan's teams", "prices:teams", plan.slug)
    yield owner.page("a new version", "prices:new", plan.slug)
    yield owner.page("assign a plan", "prices:assign", plan.slug)
    for jobs in ("own", "all"):
        asked = {"version": rows.version.pk, "jobs": jobs}
        yield owner.page(f"what if, {jobs}", "prices:what_if", **asked)
    asked = {"version": rows.version.pk, "jobs": "all", "team": rows.biggest.slug}
    yield owner.page("what if, one team", "prices:what_if", **asked)
    yield owner.page("shadows", "prices:shadows")
    yield Page("models", owner.client, reverse("admin:teams_alias_models"))


def _of_every_model(owner: Visitor) -> Iterator[Page]:
    """Whatever the admin lists: the list, a search where there is one, a row, and the form for one."""
    from django.contrib import admin

    for model, model_admin in sorted(admin.site._registry.items(), key=lambda item: str(item[0])):
        meta = model._meta
        label = f"{meta.app_label}_{meta.model_name}"
        yield owner.page(f"list of {label}", f"admin:{label}_changelist")
        if model_admin.search_fields:
            yield owner.page(f"list of {label}, searched", f"admin:{label}_changelist", q="cedar")
        newest = model._default_manager.order_by("-pk").first()
        if newest is not None and label != "jobs_profitday":
            yield owner.page(f"one {label}", f"admin:{label}_change", newest.pk)
        if model_admin.has_add_permission(_request_of(owner)):
            yield owner.page(f"add {label}", f"admin:{label}_add")


def _of_the_portal(member: Visitor, rows: Rows) -> Iterator[Page]:
    slug = rows.biggest.slug
    for days in (30, 90):
        yield member.page(f"portal overview, {days} days", "portal:overview", slug, days=days)
    asked: dict[str, dict[str, Any]] = {
        "": {},
        ", by status": {"status": "failed"},
        ", by type": {"job_type": rows.job.job_type},
        ", by end user": {"user_id": "user-7"},
        ", by days": {"first": rows.month_ago, "last": rows.yesterday},
    }
    for name, query in asked.items():
        yield member.page(f"portal jobs{name}", "portal:jobs", slug, **query)
    yield member.page("portal job", "portal:job", slug, rows.job.pk)
    yield member.page("portal statement", "portal:statement", slug)
    last_month = f"{rows.today.replace(day=1) - timedelta(days=1):%Y-%m}"
    yield member.page("portal statement, last month", "portal:statement", slug, month=last_month)
    yield member.page("portal statement, CSV", "portal:statement_csv", slug, month=last_month)
    for name in ("receipts", "budgets", "members", "keys"):
        yield member.page(f"portal {name}", f"portal:{name}", slug)


def _of_the_api(rows: Rows) -> Iterator[Page]:
    from django.test import Client

    from teams import keys

    _, secret = keys.issue(team=rows.biggest, actor="bench")
    headers, client = {"Authorization": f"Bearer {secret}"}, Client(SERVER_NAME="localhost")
    slug = rows.biggest.slug
    for name, address in (
        ("balance", f"/api/credits/teams/{slug}/balance"),
        ("transactions", f"/api/credits/teams/{slug}/transactions"),
        ("jobs", f"/api/teams/{slug}/jobs"),
        ("jobs by status", f"/api/teams/{slug}/jobs?status=failed"),
        ("a job", f"/api/jobs/{rows.job.pk}"),
        ("a job's costs", f"/api/jobs/{rows.job.pk}/costs"),
        ("usage", f"/api/teams/{slug}/usage"),
    ):
        yield Page(f"API {name}", client, address, headers)


def _last_page(model: Any, rows_a_page: int) -> int:
    """As far as a list leads that counts no further than it must."""
    from saas_litellm.base.paging import MOST

    count: int = model.objects.order_by()[:MOST].count()
    return -(-count // rows_a_page)


def _operator() -> Any:
    from teams import roles, staff

    return staff.create(username="bench-owner", role=roles.OWNER, actor="bench")[0]


def _member(team: Any) -> Any:
    from teams import members
    from teams.models import Team

    Team.objects.filter(pk=team.pk).update(is_key_self_service=True)
    address = "bench@example.com"
    link = members.invite(team=team, email=address, role="manager", actor="bench")[1]
    return members.accept_anew(
        token=link.rstrip("/").rpartition("/")[2], password="a long password of no use"
    ).user


def _request_of(visitor: Visitor) -> Any:
    from django.test import RequestFactory

    request = RequestFactory().get("/admin/")
    request.user = visitor.user
    return request
