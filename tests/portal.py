"""A team with members, the addresses of its pages, and the people who ask for them."""

from __future__ import annotations

from typing import Any

import httpx
from django.conf import settings
from django.test import Client
from django.urls import reverse

from billing import budgets, ledger
from jobs import refunds
from jobs.models import Job
from payments.models import Payment
from saas_litellm.base import clock
from saas_litellm.base.money import NANO
from saas_litellm.portal import urls, wallets
from teams.models import Team, User
from tests import factories, paying, work
from tests.conftest import Live
from tests.teams.test_members import invite, member
from tests.teams.test_roles import browser

MIA, BOB = "mia@example.com", "bob@example.com"
ONLY_POSTED = {"change_member", "withdraw", "revoke", "card", "pay_by_hand"}
# They name nothing, and lie beneath a page all the same.
UNNUMBERED = {"card", "pay_by_hand"}


def company() -> factories.Company:
    """Alice's, with a manager, Mia, a member, Bob, and some work."""
    made = factories.company()
    member(made.team, MIA)
    member(made.team, BOB, "member")
    for status in ("completed", "failed"):
        work.call(job := work.job(made.team, "letters", user_id="u1"), prompt=1000, output=100)
        work.close(job, status)
    work.call(work.job(made.team, "reports"), prompt=2000, output=0)
    refunded = Job.objects.filter(status="completed").get()
    refunds.refund_job(
        job=refunded, nanocredits=NANO // 100, reason="x", actor="test", idempotency_key="1"
    )
    return made


def filled(team: Team) -> Team:
    """The same with something on each page, the keys switched on, and a payment begun."""
    begin_payment(team)
    budgets.create(
        owner=team,
        period="day",
        limit_nanocredits=NANO,
        is_hard=False,
        is_by_team=True,
        actor="test",
    )
    invite(team, "dora@example.com")
    Team.objects.filter(pk=team.pk).update(is_key_self_service=True)
    return Team.objects.get(pk=team.pk)


def begin_payment(team: Team) -> Payment:
    """One that nobody has paid yet."""
    return Payment.objects.create(
        account=ledger.account_of(team),
        team=team,
        kind="checkout",
        created_by="test",
        created_at=clock.now(),
        url="https://checkout.stripe.test/x",
        **paying.package().figures(),
    )


def signed_in(name: str) -> Client:
    return browser(User.objects.get(username=name))


def at(page: str, *args: Any, team: str = "alice") -> str:
    return reverse(f"portal:{page}", args=[team, *args])


def text(client: Client, page: str, *args: Any, query: str = "", team: str = "alice") -> str:
    answer = client.get(at(page, *args, team=team) + query)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def paths(team: Team) -> dict[str, str]:
    """One address of each page of a team, so that a new page cannot be forgotten."""
    numbers = {
        "job": lambda: team.jobs.first().pk,  # type: ignore[union-attr]
        "receipt": lambda: wallets.receipts(team).first().pk,  # type: ignore[union-attr]
        "budget": lambda: team.budgets.get(is_by_team=True).pk,
        "purchase": lambda: team.payments.first().pk,  # type: ignore[union-attr]
        "change_member": lambda: team.memberships.get(user__username=BOB).pk,
        "withdraw": lambda: team.invitations.get(accepted_at=None).pk,
        "rotate": lambda: team.api_keys.first().prefix,  # type: ignore[union-attr]
        "revoke": lambda: team.api_keys.first().prefix,  # type: ignore[union-attr]
    }
    found = {}
    for pattern in [*urls.OF_A_TEAM, urls.SHORT]:
        has_more = len(pattern.pattern.converters) > 1
        found[str(pattern.name)] = at(
            str(pattern.name), *([numbers[str(pattern.name)]()] if has_more else []), team=team.slug
        )
    return found


def streamed(live: Live, client: Client, path: str) -> httpx.Response:
    """What is sent piece by piece, from a server: the pieces are read on the database's threads."""
    name = settings.SESSION_COOKIE_NAME
    with live.client({"Cookie": f"{name}={client.cookies[name].value}"}) as http:
        return http.get(path)


def read(client: Client, team: Team) -> dict[str, Any]:
    return {name: client.get(path) for name, path in paths(team).items() if name not in ONLY_POSTED}
