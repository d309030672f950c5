"""Who looks at which team's pages: its members, and operators who may look at teams.

Every view of a team begins here and gets a ``Visit``; whatever it then reads is filtered by
``visit.team``. A team that somebody has nothing to do with does not exist for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from payments import stripe_api
from saas_litellm.base import audit
from saas_litellm.base.refusals import Forbidden, NotFound, Refusal
from teams import directory, keys
from teams.models import MemberRole, Membership, Team, User

# What these pages show, in the words of the admin: operators need all of it to look at them.
OPERATOR_LOOKS = (
    "teams.view_team",
    "teams.view_membership",
    "teams.view_invitation",
    "teams.view_apikey",
    "billing.view_account",
    "billing.view_entry",
    "billing.view_grant",
    "billing.view_budget",
    "jobs.view_job",
    "jobs.view_call",
)
_NOTED = "looked_at_teams"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody at a team's pages. An operator has no role there, and only looks."""

    request: HttpRequest
    user: User
    team: Team
    role: str

    @property
    def is_manager(self) -> bool:
        return self.role == MemberRole.MANAGER

    @property
    def may_buy(self) -> bool:
        """Managers, of a wallet that is the team's own, where credits are sold online."""
        is_own = self.team.draws_on == Team.Wallet.TEAM
        return self.is_manager and is_own and stripe_api.is_on()

    @property
    def actor(self) -> str:
        return f"user:{self.user.get_username()}"

    def require_manager(self) -> None:
        if not self.is_manager:
            raise Forbidden("Only a manager of this team may do that.")

    def link(self, page: str, *args: Any) -> str:
        return reverse(f"portal:{page}", args=[self.team.slug, *args])

    def go(self, page: str, said: str = "") -> HttpResponse:
        """Back to a page, with what has been done."""
        if said:
            messages.success(self.request, said)
        return redirect(self.link(page))

    def show(
        self, template: str, context: dict[str, Any] | None = None, *, status: int = 200
    ) -> HttpResponse:
        given = {"visit": self, "pages": self._pages(), **(context or {})}
        return render(self.request, template, given, status=status)

    def _pages(self) -> list[tuple[str, str, bool]]:
        """Name, link, and whether this is it, or lies beneath it."""
        names = {
            "overview": "Overview",
            "jobs": "Jobs",
            "receipts": "Receipts",
            "statement": "Statement",
            "budgets": "Budgets",
            "members": "Members",
        }
        if self.may_buy:
            names["buy"] = "Buy credits"
        if self.is_manager and self.team.is_key_self_service:
            names["keys"] = "Keys"
        links = [(name, self.link(page)) for page, name in names.items()]
        return [(name, link, self.request.path.startswith(link)) for name, link in links]


View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """A page that is nobody else's business: never kept, and a refusal is a page too."""

    @never_cache
    @wraps(view)
    def guarded(request: HttpRequest, **path: Any) -> HttpResponseBase:
        try:
            return view(request, **path)
        except Refusal as refusal:
            given = {"refusal": refusal}
            return render(request, "portal/refused.html", given, status=refusal.status)

    return guarded


def signed_in(view: View) -> View:
    """A page for whoever has signed in; others are asked to."""

    @page
    @wraps(view)
    def guarded(request: HttpRequest, **path: Any) -> HttpResponseBase:
        if not isinstance(request.user, User):
            there = {"next": request.get_full_path()} if request.method == "GET" else {}
            return redirect(f"{reverse('portal:sign_in')}?{urlencode(there)}")
        return view(request, **path)

    return guarded


def team_page(view: View) -> View:
    """A page of one team, which its path names by ``slug``."""

    @signed_in
    @wraps(view)
    def guarded(request: HttpRequest, slug: str, **path: Any) -> HttpResponseBase:
        return view(visit(request, slug), **path)

    return guarded


def visit(request: HttpRequest, slug: str) -> Visit:
    """Raises NotFound for strangers, and what a closed team raises for its members."""
    user = request.user
    assert isinstance(user, User)
    membership = (
        Membership.objects.select_related("team__organization")
        .filter(user=user, team__slug=slug)
        .first()
    )
    if membership is not None:
        keys.require_open(membership.team)
        return Visit(request=request, user=user, team=membership.team, role=membership.role)
    if not (user.is_staff and user.has_perms(OPERATOR_LOOKS)):
        raise NotFound("There is no such team, or it is not one of yours.")
    if request.method not in {"GET", "HEAD"}:
        raise Forbidden("Operators only look here; the admin is where they act.")
    looking = Visit(request=request, user=user, team=directory.find_team(slug), role="")
    _note(looking)
    return looking


def _note(looking: Visit) -> None:
    """Once for each session and team: an operator looked at what is a customer's."""
    session = looking.request.session
    noted: list[str] = session.get(_NOTED, [])
    if looking.team.slug not in noted:
        session[_NOTED] = [*noted, looking.team.slug]
        audit.record(actor=looking.actor, action="team.look", target=f"team:{looking.team.slug}")


def named(request: HttpRequest) -> dict[str, str]:
    """A context processor: what these pages are called."""
    return {"portal_name": settings.PORTAL_NAME}
