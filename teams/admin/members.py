"""Members of teams and their invitations, as operators see them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from saas_litellm.base import clock
from saas_litellm.base.admin import (
    Audited,
    PageForm,
    ReadOnlyAdmin,
    ShownOnce,
    actor,
    form_page,
    object_page,
    permitted,
    secret_page,
)
from teams import members
from teams.models import Invitation, MemberRole, Membership, Team


class InviteForm(PageForm):
    email = forms.EmailField(widget=UnfoldAdminEmailInputWidget, label="E-mail address")
    role = forms.ChoiceField(choices=MemberRole.choices, widget=UnfoldAdminSelectWidget)


class WithMembers:
    """What a team's page has for its members: the way to their page, and an invitation."""

    has_invite_permission = permitted("teams.add_invitation")

    @admin.display(description="Its own page")
    def portal(self, team: Team) -> str:
        if team.pk is None:
            return "–"
        return format_html(
            '<a href="{}">Look at it as the team does</a> (noted in the audit log)',
            reverse("portal:overview", args=[team.slug]),
        )

    @object_page(description="Invite a member", path="invite", permission="invite")
    def invite(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = get_object_or_404(Team, pk=object_id)
        back = reverse("admin:teams_team_change", args=[team.pk])

        def act(given: dict[str, Any]) -> ShownOnce:
            invitation, link = members.invite(
                team=team,
                email=given["email"],
                role=given["role"],
                actor=actor(request),
                is_by_operator=True,
            )
            # The mail leaves when the invitation is certain to stand.
            transaction.on_commit(lambda: self._send(request, invitation, link))
            return secret_page(
                self,
                request,
                title=f"The invitation of {invitation.email}",
                secret=link,
                note=f"To {team}, as {invitation.role}, until"
                f" {invitation.expires_at:%Y-%m-%d %H:%M} UTC. Whoever has the link can accept it.",
                back=back,
                again="That invitation was made already; its link was shown then.",
            )

        return form_page(
            self,
            request,
            form_class=InviteForm,
            title=f"Invite a member of {team}",
            button="Invite",
            act=act,
            back=back,
            is_once=True,
        )

    def _send(self, request: HttpRequest, invitation: Invitation, link: str) -> None:
        if not members.send(invitation, link):
            text = f"NO e-mail was sent to {invitation.email}: hand the link over yourself."
            self.message_user(request, text, messages.WARNING)  # type: ignore[attr-defined] # ModelAdmin's


@admin.register(Membership)
class MembershipAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Made by an invitation alone; here the role is changed, and the member let go."""

    recorded_by_domain = ("change",)
    list_display = ("user", "team", "role", "created_at", "invited_by")
    list_filter = ("role",)
    list_select_related = ("user", "team")
    search_fields = ("user__username", "user__email", "team__slug")
    fields = ("user", "team", "role", "created_at", "invited_by")
    readonly_fields = ("user", "team", "created_at", "invited_by")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        members.change_role(
            membership=obj, role=obj.role, actor=actor(request), is_by_operator=True
        )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        members.remove(membership=obj, actor=actor(request), is_by_operator=True)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            self.delete_model(request, membership)


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """*Invite a member* on a team's page makes one."""

    list_display = ("email", "team", "role", "state", "created_at", "expires_at", "invited_by")
    list_select_related = ("team",)
    search_fields = ("email", "team__slug")
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.display
    def state(self, invitation: Invitation) -> str:
        if invitation.accepted_at:
            return "accepted"
        if invitation.revoked_at:
            return "withdrawn"
        return "open" if invitation.is_open_at(clock.now()) else "expired"

    @admin.action(description="Withdraw", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        for invitation in queryset.select_related("team"):
            members.revoke(invitation=invitation, actor=actor(request))
        self.message_user(request, "Withdrawn, as far as they were open.", messages.SUCCESS)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("teams.change_invitation")
