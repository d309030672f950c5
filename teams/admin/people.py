from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from saas_litellm.base.admin import (
    Audited,
    PageForm,
    actor,
    form_page,
    object_page,
    permitted,
    tell,
)
from saas_litellm.base.refusals import Forbidden, Refusal
from teams import directory, privacy
from teams.admin import keys
from teams.admin.choosing import Ticked
from teams.admin.keys import LIMITS
from teams.admin.members import WithMembers
from teams.models import Organization, Team


class PrivacyForm(PageForm):
    policy = forms.ChoiceField(choices=Team.PayloadPolicy.choices, widget=UnfoldAdminSelectWidget)
    retention_days = forms.IntegerField(
        widget=UnfoldAdminTextInputWidget,
        help_text="Prompts and answers are deleted after so many.",
    )
    redact = forms.CharField(
        widget=UnfoldAdminTextInputWidget,
        required=False,
        help_text="Names of fields whose content is never kept, separated by commas.",
    )
    is_replay_kept = forms.BooleanField(
        widget=UnfoldBooleanSwitchWidget,
        required=False,
        label="Keep answers for replays",
        help_text="For a day, encrypted, so that an Idempotency-Key gets its answer again.",
    )


@admin.register(Organization)
class OrganizationAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    recorded_by_domain = ("add",)
    list_display: tuple[str, ...] = ("slug", "name", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("slug", "name")
    fields = ("slug", "name", "status", *LIMITS)
    readonly_fields = ("status",)
    actions = ("suspend", "resume")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("slug", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("slug", "status") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        if change:
            super().save_model(request, obj, form, change)
            return
        made = directory.create_organization(slug=obj.slug, name=obj.name, actor=actor(request))
        obj.pk, obj._state.adding = made.pk, False

    @admin.action(description="Suspend", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set(request, queryset, Organization.Status.SUSPENDED)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set(request, queryset, Organization.Status.ACTIVE)

    def _set(self, request: HttpRequest, chosen: Any, status: Organization.Status) -> None:
        for organization in chosen:
            try:
                directory.set_organization_status(
                    organization=organization, status=status, actor=actor(request)
                )
            except Refusal as refusal:
                tell(self, request, refusal)


@admin.register(Team)
class TeamAdmin(Ticked, WithMembers, Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    recorded_by_domain = ("add",)
    list_display: tuple[str, ...] = (
        "slug",
        "name",
        "organization",
        "status",
        "draws_on",
        "default_alias",
    )
    list_filter = ("status", ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization", "default_alias")
    search_fields = ("slug", "name", "organization__slug", "organization__name")
    fields = (
        "organization",
        "slug",
        "name",
        "status",
        "draws_on",
        "default_alias",
        "access_groups",
        *LIMITS,
        "is_key_self_service",
        "portal",
    )
    autocomplete_fields = ("organization", "default_alias")
    actions = ("pause", "suspend", "resume", "share_wallet", "own_wallet")
    actions_detail: tuple[str, ...] = ("issue_key", "privacy", "invite")
    has_privacy_permission = permitted("teams.change_team")
    has_issue_permission = permitted("teams.add_apikey")
    has_pause_permission = permitted("teams.pause_team")
    has_wallet_permission = permitted("teams.choose_wallet")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        later = () if obj else ("status", *LIMITS, "is_key_self_service", "portal")
        return [name for name in self.fields if name not in later]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("slug", "organization", "status", "draws_on", "portal") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # An alias's page leads to the teams that may use it.
        asked = {"access_groups__aliases", "access_groups__is_active__exact"}
        return lookup in asked or super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        if change:
            super().save_model(request, obj, form, change)
            return
        made = directory.create_team(
            slug=obj.slug,
            name=obj.name,
            organization=obj.organization,
            draws_on=obj.draws_on,
            default_alias=obj.default_alias,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = made.pk, False

    @object_page(description="Privacy", path="privacy", permission="privacy")
    def privacy(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = get_object_or_404(Team, pk=object_id)

        def act(given: dict[str, Any]) -> str:
            changed = privacy.set_policy(
                team=team,
                actor=actor(request),
                policy=given["policy"],
                retention_days=given["retention_days"],
                redacted_fields=[
                    name.strip() for name in given["redact"].split(",") if name.strip()
                ],
                is_replay_kept=given["is_replay_kept"],
            )
            return f"{team} keeps: {changed.get_payload_policy_display()}."

        return form_page(
            self,
            request,
            form_class=PrivacyForm,
            title=f"What is kept of the calls of {team}",
            button="Save",
            act=act,
            initial={
                "policy": team.payload_policy,
                "retention_days": team.payload_retention_days,
                "redact": ", ".join(team.redacted_fields),
                "is_replay_kept": team.is_replay_kept,
            },
        )

    @object_page(description="Issue an API key", path="issue-key", permission="issue")
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return keys.issue_page(self, request, get_object_or_404(Team, pk=object_id))

    @admin.action(description="Pause: no new work", permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        self._set(request, queryset, Team.Status.PAUSED)

    @admin.action(description="Suspend: no access at all", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        self._set(request, queryset, Team.Status.SUSPENDED)

    @admin.action(description="Resume", permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        self._set(request, queryset, Team.Status.ACTIVE)

    @admin.action(description="Draw on the organization's wallet", permissions=["wallet"])
    def share_wallet(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        self._draw_on(request, queryset, Team.Wallet.ORGANIZATION)

    @admin.action(description="Draw on its own wallet", permissions=["wallet"])
    def own_wallet(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        self._draw_on(request, queryset, Team.Wallet.TEAM)

    def _draw_on(self, request: HttpRequest, chosen: QuerySet[Team], wallet: Team.Wallet) -> None:
        for team in chosen:
            directory.set_wallet(team=team, draws_on=wallet, actor=actor(request))

    def _set(self, request: HttpRequest, chosen: QuerySet[Team], status: Team.Status) -> None:
        for team in chosen:
            try:
                require_right_over(request, team)
            except Refusal as refusal:
                tell(self, request, refusal)
            else:
                directory.set_team_status(team=team, status=status, actor=actor(request))


def require_right_over(request: HttpRequest, team: Team) -> None:
    """Who may pause may not end a suspension. Raises Forbidden."""
    if team.status == Team.Status.SUSPENDED and not request.user.has_perm("teams.change_team"):
        raise Forbidden(f"{team} is suspended, which takes the right to change teams.")
