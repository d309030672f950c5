"""Endpoints in the admin: looked at in lists, changed by forms that do one thing each."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

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
from saas_litellm.base.events import TYPES
from teams import directory
from webhooks import endpoints, sent
from webhooks.models import Endpoint
from webhooks.sent import Range

_CHOICES = [(endpoints.ALL, "everything"), *((name, name) for name in TYPES)]


class _Heard(PageForm):
    url = forms.CharField(
        label="URL",
        max_length=2000,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "url", "spellcheck": "false"}),
        help_text="https://app.example.com/hooks",
    )
    description = forms.CharField(max_length=200, required=False, widget=UnfoldAdminTextInputWidget)
    types = forms.MultipleChoiceField(
        choices=_CHOICES,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="provider.* and margin.alarm are the platform's alone.",
    )


class CreateForm(_Heard):
    team = forms.CharField(
        max_length=63,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="A team's id: it hears its own events. Empty: the platform's, which hears all.",
    )


class ChangeForm(_Heard):
    is_active = forms.BooleanField(
        label="Switched on", required=False, widget=UnfoldBooleanSwitchWidget
    )


class ReplayForm(PageForm):
    from_id = forms.RegexField(
        r"^(evt_)?[0-9]{1,18}$",
        label="From event",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Such as evt_17; it is included.",
    )
    to_id = forms.RegexField(
        r"^(evt_)?[0-9]{1,18}$",
        label="To event",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="It is included.",
    )
    since = MomentField(required=False, help_text="UTC.")
    until = MomentField(required=False, help_text="UTC.")


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    list_display = ("url", "owner", "heard", "state", "last_success_at", "last_failure_at")
    list_select_related = ("team",)
    list_filter = ("is_active",)
    search_fields = ("url", "description", "team__slug")
    fields = (
        "url",
        "owner",
        "description",
        "heard",
        "state",
        "failures",
        "failing_since",
        "last_success_at",
        "last_failure_at",
        "created_at",
        "sent",
    )
    readonly_fields = ("owner", "heard", "state", "sent")
    actions_list = ("create_page",)
    actions_detail = ("change_page", "test_page", "replay_page", "rotate_page", "delete_page")
    has_create_permission = permitted("webhooks.add_endpoint")
    has_edit_permission = permitted("webhooks.change_endpoint")
    has_end_permission = permitted("webhooks.delete_endpoint")
    has_resend_permission = permitted("webhooks.resend_delivery")

    @admin.display(description="Of", ordering="team__slug")
    def owner(self, endpoint: Endpoint) -> str:
        return str(endpoint.team or "the platform")

    @admin.display(description="Hears")
    def heard(self, endpoint: Endpoint) -> str:
        return "everything" if endpoints.ALL in endpoint.types else ", ".join(endpoint.types)

    @admin.display(description="State")
    def state(self, endpoint: Endpoint) -> str:
        if not endpoint.is_active:
            return f"off: {endpoint.disabled_reason or 'switched off by hand'}"
        if endpoint.resting_until and endpoint.resting_until > timezone.now():
            often = f"{endpoint.failures} failures in a row"
            return f"rests until {endpoint.resting_until:%H:%M:%S} UTC after {often}"
        return "failing" if endpoint.failures else "well"

    @admin.display(description="Deliveries")
    def sent(self, endpoint: Endpoint) -> str:
        return format_html(
            '<a href="{}?endpoint__id__exact={}" class="row-link">what was sent to it</a>',
            reverse("admin:webhooks_delivery_changelist"),
            endpoint.pk,
        )

    @object_page(description="New endpoint", path="create", permission="create")
    def create_page(self, request: HttpRequest) -> HttpResponse:
        def act(given: dict[str, Any]) -> ShownOnce:
            endpoint, secret = endpoints.create(
                team=directory.find_team(given["team"]) if given["team"] else None,
                url=given["url"],
                types=given["types"],
                description=given["description"],
                actor=actor(request),
            )
            return self._secret_page(request, endpoint, secret)

        return form_page(
            self,
            request,
            form_class=CreateForm,
            title="New webhook endpoint",
            note="Its secret is shown once, on the next page: the receiver checks signatures"
            " with it.",
            button="Make it",
            act=act,
            is_once=True,
        )

    @object_page(description="Change", path="edit", permission="edit")
    def change_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self._found(object_id)

        def act(given: dict[str, Any]) -> str:
            named = ("url", "types", "description", "is_active")
            changes = {name: given[name] for name in named}
            endpoints.change(endpoint=endpoint, actor=actor(request), **changes)
            return f"The {endpoint} is changed."

        return form_page(
            self,
            request,
            form_class=ChangeForm,
            title=f"Change the {endpoint}",
            button="Save",
            act=act,
            initial={
                "url": endpoint.url,
                "types": endpoint.types,
                "description": endpoint.description,
                "is_active": endpoint.is_active,
            },
            back=_page_of(endpoint),
        )

    @object_page(description="Send a test", path="test", permission="resend")
    def test_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self._found(object_id)

        def act(given: dict[str, Any]) -> str:
            delivery = sent.test(endpoint=endpoint, actor=actor(request))
            return f"{delivery.event} is on its way."

        return form_page(
            self,
            request,
            form_class=PageForm,
            title=f"Send a test to the {endpoint}",
            button="Send",
            act=act,
            back=_page_of(endpoint),
            is_once=True,
        )

    @object_page(description="Replay", path="replay", permission="resend")
    def replay_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self._found(object_id)

        def act(given: dict[str, Any]) -> str:
            chosen = Range(
                first_id=_number(given["from_id"]),
                last_id=_number(given["to_id"]),
                since=given["since"],
                until=given["until"],
            )
            count = sent.replay(endpoint=endpoint, chosen=chosen, actor=actor(request))
            return f"{count} events are on their way again."

        return form_page(
            self,
            request,
            form_class=ReplayForm,
            title=f"Send events to the {endpoint} again",
            note="Of what was kept, all that it hears: by number, by time, or both.",
            button="Send them again",
            act=act,
            back=_page_of(endpoint),
            is_once=True,
        )

    @object_page(description="Rotate the secret", path="rotate", permission="edit")
    def rotate_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self._found(object_id)

        def act(given: dict[str, Any]) -> ShownOnce:
            secret, _ = endpoints.rotate_secret(endpoint=endpoint, actor=actor(request))
            return self._secret_page(request, endpoint, secret)

        return form_page(
            self,
            request,
            form_class=PageForm,
            title=f"Rotate the secret of the {endpoint}",
            note="For 24 hours messages carry a signature of the old secret and one of the new.",
            button="Rotate",
            act=act,
            back=_page_of(endpoint),
            is_once=True,
        )

    @object_page(description="Delete", path="end", permission="end")
    def delete_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self._found(object_id)

        def act(given: dict[str, Any]) -> str:
            said = f"The {endpoint} is deleted."
            endpoints.delete(endpoint=endpoint, actor=actor(request))
            return said

        return form_page(
            self,
            request,
            form_class=PageForm,
            title=f"Delete the {endpoint}",
            note="With its secret and the list of what was sent. What waits for it is not sent"
            " any more. To stop for a while, switch it off instead.",
            button="Delete it",
            act=act,
        )

    def _found(self, object_id: str) -> Endpoint:
        found = Endpoint.objects.select_related("team__organization")
        return get_object_or_404(found, pk=object_id)

    def _secret_page(self, request: HttpRequest, endpoint: Endpoint, secret: str) -> ShownOnce:
        return secret_page(
            self,
            request,
            title=f"The secret of the {endpoint}",
            secret=secret,
            note=f"For {endpoint.url}. Receivers check signatures with it, by any library of"
            " Standard Webhooks.",
            back=_page_of(endpoint),
            again="This form has done so already, and the secret was shown then. If nobody has"
            " it, rotate it.",
        )


def _page_of(endpoint: Endpoint) -> str:
    return reverse("admin:webhooks_endpoint_change", args=[endpoint.pk])


def _number(text: str) -> int | None:
    return int(text.removeprefix("evt_")) if text else None
