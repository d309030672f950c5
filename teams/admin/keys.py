"""Keys: a secret is on one answer's page and nowhere else, neither in a message nor in a session."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from saas_litellm.base.admin import (
    MomentField,
    PageForm,
    ReadOnlyAdmin,
    ShownOnce,
    actor,
    form_page,
    object_page,
    permitted,
    secret_page,
)
from teams import keys, operators
from teams.models import ApiKey, OperatorKey, Team

LONGEST_OVERLAP_HOURS = 24 * 90


LIMITS = ("requests_per_minute", "tokens_per_minute", "calls_in_flight")


def _limit(help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        min_value=1, required=False, widget=UnfoldAdminIntegerFieldWidget, help_text=help_text
    )


class IssueKeyForm(PageForm):
    name = forms.CharField(
        widget=UnfoldAdminTextInputWidget,
        max_length=100,
        required=False,
        help_text="What it is for, such as production.",
    )
    expires_at = MomentField(required=False, help_text="UTC; empty: never.")
    requests_per_minute = _limit("In any 60 seconds; empty: what its team may.")
    tokens_per_minute = _limit("Prompt and output, in any 60 seconds; empty: what its team may.")
    calls_in_flight = _limit("Calls at the same time; empty: what its team may.")


class RotateForm(PageForm):
    overlap_hours = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget,
        initial=24,
        validators=[MinValueValidator(0), MaxValueValidator(LONGEST_OVERLAP_HOURS)],
        help_text="For so long the old key works beside the new one; 0: it ends now.",
    )


class RevokeForm(PageForm):
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


def issue_page(model_admin: Any, request: HttpRequest, team: Team) -> HttpResponse:
    """Ask for the key's name and end; then show its secret, once."""

    def act(given: dict[str, Any]) -> ShownOnce:
        key, text = keys.issue(
            team=team,
            actor=actor(request),
            name=given["name"],
            expires_at=given["expires_at"],
            limits=keys.KeyLimits(**{name: given[name] for name in LIMITS}),
        )
        return _secret_page(model_admin, request, key, text)

    return form_page(
        model_admin,
        request,
        form_class=IssueKeyForm,
        title=f"Issue an API key for {team}",
        note="Its secret is shown once, on the next page. Have a safe place for it ready.",
        button="Issue the key",
        act=act,
        back=_page_of(team.pk),
        is_once=True,
    )


def _secret_page(model_admin: Any, request: HttpRequest, key: ApiKey, text: str) -> ShownOnce:
    about = [key.name] if key.name else []
    about.append(f"of {key.team}")
    if key.expires_at:
        about.append(f"until {key.expires_at:%Y-%m-%d %H:%M} UTC")
    return secret_page(
        model_admin,
        request,
        title=f"The new key of {key.team}",
        secret=text,
        note=f"{', '.join(about)}. Only its beginning, {key}, and a hash are kept. Send it as"
        " Authorization: Bearer …",
        back=_page_of(key.team_id),
        again=f"This form has made the key {key} already, and its secret was shown then."
        " If nobody has it, revoke that key and issue another.",
    )


def _page_of(team_id: int) -> str:
    return reverse("admin:teams_team_change", args=[team_id])


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "team", "name", "created_at", "expires_at", "revoked_at")
    list_select_related = ("team",)
    list_filter = ("revoked_at",)
    search_fields = ("prefix", "name", "team__slug")
    exclude = ("digest",)
    actions = ("revoke",)
    actions_detail = ("rotate_page", "revoke_page")
    has_revoke_permission = permitted("teams.change_apikey")

    def has_rotate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever rotates a key ends one and gets another."""
        return request.user.has_perms(("teams.change_apikey", "teams.add_apikey"))

    @admin.action(description="Revoke now", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            keys.revoke(prefix=key.prefix, actor=actor(request), reason="admin")

    @object_page(description="Rotate", path="rotate", permission="rotate")
    def rotate_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        old = get_object_or_404(ApiKey.objects.select_related("team"), pk=object_id)

        def act(given: dict[str, Any]) -> ShownOnce:
            overlap = timedelta(hours=given["overlap_hours"])
            key, text = keys.rotate(prefix=old.prefix, actor=actor(request), overlap=overlap)
            return _secret_page(self, request, key, text)

        return form_page(
            self,
            request,
            form_class=RotateForm,
            title=f"Rotate the key {old} of {old.team}",
            note="Makes a new key of the same name and limits. The old one goes on working for a"
            " while. A budget of the old key stays the old key's.",
            button="Rotate",
            act=act,
            back=_page_of(old.team_id),
            is_once=True,
        )

    @object_page(description="Revoke", path="revoke", permission="revoke")
    def revoke_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey.objects.select_related("team"), pk=object_id)

        def act(given: dict[str, Any]) -> str:
            keys.revoke(prefix=key.prefix, actor=actor(request), reason=given["reason"])
            return f"The key {key} of {key.team} is revoked."

        return form_page(
            self,
            request,
            form_class=RevokeForm,
            title=f"Revoke the key {key} of {key.team}",
            note="Whatever uses it is refused from this moment on. This cannot be undone.",
            button="Revoke it",
            act=act,
            back=_page_of(key.team_id),
        )


@admin.register(OperatorKey)
class OperatorKeyAdmin(ReadOnlyAdmin):
    """Keys of the management API; `manage.py issue_operator_key` makes one."""

    list_display = ("prefix", "user", "name", "role", "created_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.action(description="Revoke now", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[OperatorKey]) -> None:
        for key in queryset:
            operators.revoke(prefix=key.prefix, actor=actor(request))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("teams.change_operatorkey")
