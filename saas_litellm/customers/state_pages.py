"""Whether a customer may work, and with what: each change asks first, and says why."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from saas_litellm.base.admin import PageForm, actor, form_page, object_page, permitted
from saas_litellm.customers import page
from teams import catalog, directory
from teams.admin.people import require_right_over
from teams.models import Organization, Team


class ReasonForm(PageForm):
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


class DefaultAliasForm(PageForm):
    alias = forms.ChoiceField(
        label="Default alias",
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="For calls that name no model.",
    )
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500, required=False)


class WalletForm(PageForm):
    draws_on = forms.ChoiceField(
        label="New jobs draw on", choices=Team.Wallet.choices, widget=UnfoldAdminSelectWidget
    )
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500, required=False)


class TeamStatePages:
    """Mixed into the admin of teams, which knows who may pause and who chooses a wallet."""

    has_own_permission = permitted("teams.change_team")

    @object_page(description="Pause", path="pause", permission="pause")
    def pause_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "No new work begins. What runs may end, and its keys can still read."
        return self._set_status(request, object_id, Team.Status.PAUSED, "Pause", note)

    @object_page(description="Suspend", path="suspend", permission="own")
    def suspend_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "Every key of the team is refused from this moment on, until it is resumed."
        return self._set_status(request, object_id, Team.Status.SUSPENDED, "Suspend", note)

    @object_page(description="Resume", path="resume", permission="pause")
    def resume_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "Its keys work again, and new work may begin."
        return self._set_status(request, object_id, Team.Status.ACTIVE, "Resume", note)

    @object_page(description="Default alias", path="default-alias", permission="own")
    def default_alias_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = _team(object_id)
        granted = {alias.name: alias for alias in catalog.granted(team)}

        class Form(DefaultAliasForm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                names = [("", "none: calls must name one"), *((name, name) for name in granted)]
                self.fields["alias"].choices = names  # type: ignore[attr-defined]

        def act(given: dict[str, Any]) -> str:
            alias = granted.get(given["alias"])
            directory.set_default_alias(
                team=team, alias=alias, actor=actor(request), reason=given["reason"]
            )
            return f"{team}: the default alias is {alias or 'none'}."

        return form_page(
            self,
            request,
            form_class=Form,
            title=f"Default alias of {team}",
            button="Save",
            act=act,
            initial={"alias": team.default_alias.name if team.default_alias else ""},
            back=page.address(team),
        )

    @object_page(description="Choose the wallet", path="wallet", permission="wallet")
    def wallet_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = _team(object_id)

        def act(given: dict[str, Any]) -> str:
            directory.set_wallet(
                team=team, draws_on=given["draws_on"], actor=actor(request), reason=given["reason"]
            )
            return f"New jobs of {team} draw on {team.get_draws_on_display()} wallet."

        return form_page(
            self,
            request,
            form_class=WalletForm,
            title=f"The wallet {team} draws on",
            note="Jobs that are open keep theirs, and credits stay where they were granted.",
            button="Save",
            act=act,
            initial={"draws_on": team.draws_on},
            back=page.address(team),
        )

    def _set_status(
        self, request: HttpRequest, object_id: str, status: Team.Status, button: str, note: str
    ) -> HttpResponse:
        team = _team(object_id)

        def act(given: dict[str, Any]) -> str:
            require_right_over(request, team)
            directory.set_team_status(
                team=team, status=status, actor=actor(request), reason=given["reason"]
            )
            return f"{team} is {status}."

        return form_page(
            self,
            request,
            form_class=ReasonForm,
            title=f"{button} {team}",
            note=note,
            button=button,
            act=act,
            back=page.address(team),
        )


class OrganizationStatePages:
    """Mixed into the admin of organizations."""

    has_own_permission = permitted("teams.change_organization")

    @object_page(description="Suspend", path="suspend", permission="own")
    def suspend_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "Every key of all its teams is refused from this moment on, until it is resumed."
        status = Organization.Status.SUSPENDED
        return self._set_status(request, object_id, status, "Suspend", note)

    @object_page(description="Resume", path="resume", permission="own")
    def resume_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        note = "Its teams work again, but for those that are paused or suspended themselves."
        return self._set_status(request, object_id, Organization.Status.ACTIVE, "Resume", note)

    def _set_status(
        self,
        request: HttpRequest,
        object_id: str,
        status: Organization.Status,
        button: str,
        note: str,
    ) -> HttpResponse:
        organization = get_object_or_404(Organization, pk=object_id)

        def act(given: dict[str, Any]) -> str:
            directory.set_organization_status(
                organization=organization,
                status=status,
                actor=actor(request),
                reason=given["reason"],
            )
            return f"{organization} is {status}."

        return form_page(
            self,
            request,
            form_class=ReasonForm,
            title=f"{button} {organization}",
            note=note,
            button=button,
            act=act,
            back=page.address(organization),
        )


def _team(object_id: str) -> Team:
    teams = Team.objects.select_related("organization", "default_alias")
    return get_object_or_404(teams, pk=object_id)
