"""A team's members: all see them, and managers invite, change and let go."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.views.decorators.http import require_POST

from saas_litellm.base import clock
from saas_litellm.base.refusals import NotFound, Refusal
from saas_litellm.portal.access import Visit, team_page
from saas_litellm.portal.forms import ActForm, forget, once
from teams import members
from teams.models import Invitation, MemberRole, Membership

ROWS = 100


class InviteForm(ActForm):
    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=MemberRole.choices)


@team_page
def team_members(visit: Visit) -> HttpResponse:
    """Who is in, who is invited, and for managers a form to invite."""
    form = InviteForm(visit.request.POST or None)
    if visit.request.method == "POST":
        visit.require_manager()
        if form.is_valid() and _invited(visit, form):
            return visit.go("members")
    found = Membership.objects.filter(team=visit.team).select_related("user").order_by("pk")
    page = Paginator(found, ROWS).get_page(visit.request.GET.get("page"))
    invited = Invitation.objects.filter(
        team=visit.team, accepted_at=None, revoked_at=None, expires_at__gt=clock.now()
    )
    given = {"page": page, "invitations": invited[:ROWS], "form": form}
    return visit.show("portal/members.html", given)


@require_POST
@team_page
def change_member(visit: Visit, number: int) -> HttpResponse:
    """Another role, or out."""
    visit.require_manager()
    membership = (
        Membership.objects.filter(team=visit.team, pk=number).select_related("user", "team").first()
    )
    if membership is None:
        raise NotFound("There is no such member.")
    try:
        if visit.request.POST.get("act") == "remove":
            members.remove(membership=membership, actor=visit.actor)
            said = f"{membership.user} is a member no more."
        else:
            role = visit.request.POST.get("role", "")
            members.change_role(membership=membership, role=role, actor=visit.actor)
            said = f"{membership.user} is a {role} now."
    except Refusal as refusal:
        messages.error(visit.request, refusal.message)
        return visit.go("members")
    return visit.go("members", said)


@require_POST
@team_page
def withdraw(visit: Visit, number: int) -> HttpResponse:
    """End an invitation that nobody has used yet."""
    visit.require_manager()
    invitation = (
        Invitation.objects.filter(team=visit.team, pk=number).select_related("team").first()
    )
    if invitation is None:
        raise NotFound("There is no such invitation.")
    members.revoke(invitation=invitation, actor=visit.actor)
    return visit.go("members", f"The invitation of {invitation.email} is withdrawn.")


def _invited(visit: Visit, form: InviteForm) -> bool:
    """The link goes to the address alone: a manager who had it could join as somebody else."""
    given = form.cleaned_data
    try:
        members.require_mail()
        made = once(
            visit,
            form,
            lambda: members.invite(
                team=visit.team, email=given["email"], role=given["role"], actor=visit.actor
            ),
        )
        if made is None:
            messages.info(visit.request, "That invitation was sent already.")
            return True
        members.send_or_withdraw(*made, actor=visit.actor)
    except members.MailNotSent as refusal:
        forget(visit, form)
        form.add_error(None, refusal.message)
        return False
    except Refusal as refusal:
        form.add_error(None, refusal.message)
        return False
    messages.success(visit.request, f"{made[0].email} gets an e-mail with a link.")
    return True
