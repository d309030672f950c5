"""Provider credentials: entered once, never shown again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from saas_litellm.base.admin import Audited, RefusalsShown, actor
from saas_litellm.base.refusals import Invalid
from teams import cost_map, credentials
from teams.admin.choosing import counted
from teams.models import Deployment, ProviderCredential

# So many deployments are named on a credential's page.
NAMED_DEPLOYMENTS = 50


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    secret = forms.CharField(
        label="Key",
        widget=UnfoldAdminPasswordWidget(
            render_value=False, attrs={"autocomplete": "new-password", "spellcheck": "false"}
        ),
        required=False,
        strip=True,
        help_text="The provider's API key. Saved encrypted; never shown; leave empty to keep the"
        " stored one, as long as provider, API base and settings stay as they are. Entering another replaces it at once, for every call from then on.",
    )
    provider = forms.CharField(
        required=False,
        max_length=60,
        widget=UnfoldAdminTextInputWidget(attrs={"list": "provider-names", "autocomplete": "off"}),
        help_text="As model strings begin: openai, anthropic, azure. Another name is fine too.",
    )
    # Not a URLField: the domain says what an address may be.
    api_base = forms.CharField(
        label="API base",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "url", "spellcheck": "false"}),
        help_text="Only for Azure, a gateway or a model of your own; empty: the provider's own"
        " address. https://host/v1",
    )
    extra = forms.JSONField(
        label="Settings",
        required=False,
        initial=dict,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
        help_text='What the provider needs besides and is not secret: {"api_version":'
        ' "2024-10-21"}. It stays readable.',
    )

    class Meta:
        model = ProviderCredential
        fields = ("name", "organization", "provider", "api_base", "extra")

    def clean_api_base(self) -> str:
        api_base: str = self.cleaned_data["api_base"]
        _check(credentials.check_address, api_base)
        return api_base

    def clean_extra(self) -> Any:
        extra = self.cleaned_data["extra"] or {}
        _check(credentials.check_settings, extra)
        return extra

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        names = ("provider", "api_base", "extra")
        if not cleaned.get("secret") and not set(names) & set(self.errors):
            stored = ProviderCredential.objects.filter(pk=self.instance.pk).first()
            try:
                credentials.kept(stored, **{name: cleaned[name] for name in names})
            except Invalid as refusal:
                self.add_error("secret", refusal.message)
        return cleaned


@admin.register(ProviderCredential)
class ProviderCredentialAdmin(RefusalsShown, Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    recorded_by_domain = ("add", "change")
    form = CredentialForm
    fields = ("name", "provider", "secret", "api_base", "extra", "organization")
    list_display = ("name", "provider", "organization", "api_base", "used_by", "updated_at")
    list_filter = ("provider",)
    list_select_related = ("organization",)
    autocomplete_fields = ("organization",)
    search_fields = ("name", "provider", "api_base")
    change_form_outer_before_template = "admin/teams/credential_use.html"

    class Media:
        css = {"all": ("saas/catalog.css",)}
        js = ("saas/catalog.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderCredential]:
        found: QuerySet[ProviderCredential] = super().get_queryset(request)
        used = Deployment.objects.filter(credential=OuterRef("pk"))
        return found.annotate(deployment_count=counted(used, "credential"))

    @admin.display(description="Deployments", ordering="deployment_count")
    def used_by(self, credential: Any) -> int:
        return int(credential.deployment_count)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "organization") if obj else ()

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        context["provider_names"] = cost_map.providers()
        if obj is not None:
            used = Deployment.objects.filter(credential=obj).select_related("alias")
            context |= {
                "used_count": used.count(),
                "used": used.order_by("alias__name", "priority", "id")[:NAMED_DEPLOYMENTS],
            }
        page: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return page

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        saved = credentials.save(
            name=obj.name,
            api_key=form.cleaned_data["secret"],
            api_base=obj.api_base,
            extra=obj.extra,
            organization=obj.organization,
            provider=obj.provider,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = saved.pk, False


def _check(check: Callable[[Any], None], value: Any) -> None:
    try:
        check(value)
    except Invalid as refusal:
        raise ValidationError(refusal.message) from refusal
