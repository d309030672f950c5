from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline

from saas_litellm.base.admin import Audited, ReadOnlyAdmin, actor
from saas_litellm.base.money import from_femto, plain
from teams import credentials, health
from teams.models import (
    AccessGroup,
    Alias,
    Deployment,
    DeploymentHealth,
    ProviderCredential,
    UnitPrice,
)
from teams.prices import RATE_NAMES


class DeploymentInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Deployment
    extra = 0
    fields = (
        "model",
        "credential",
        "price_key",
        "priority",
        "weight",
        "requests_per_minute",
        "tokens_per_minute",
        "timeout_seconds",
        "image_tokens",
        "is_active",
    )


@admin.register(Alias)
class AliasAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("name", "organization", "kind", "is_active", "deployments_well", "description")
    list_filter = ("is_active", "kind", "organization")
    list_select_related = ("organization",)
    search_fields = ("name", "description")
    autocomplete_fields = ("organization", "context_window_fallback", "content_filter_fallback")
    inlines = (DeploymentInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alias]:
        found: QuerySet[Alias] = super().get_queryset(request)
        return found.prefetch_related("deployments__health")

    @admin.display(description="Deployments")
    def deployments_well(self, alias: Alias) -> str:
        active = [row for row in alias.deployments.all() if row.is_active]
        cooling = sum(_is_cooling(getattr(row, "health", None)) for row in active)
        return f"{len(active)}, {cooling} cooling down" if cooling else str(len(active))


@admin.register(DeploymentHealth)
class DeploymentHealthAdmin(ReadOnlyAdmin):
    """The circuit breakers: who is left alone, until when, and why."""

    list_display = ("deployment", "state", "failures", "last_failure", "last_failure_at")
    list_select_related = ("deployment__alias",)
    ordering = ("-open_until", "-last_failure_at")
    actions = ("close",)

    @admin.display(description="State", ordering="open_until")
    def state(self, row: DeploymentHealth) -> str:
        if row.open_until is None:
            return "closed"
        return f"open until {row.open_until:%H:%M:%S} UTC" if _is_cooling(row) else "half open"

    @admin.action(description="Close: let calls through again", permissions=["close"])
    def close(self, request: HttpRequest, queryset: QuerySet[DeploymentHealth]) -> None:
        for row in queryset:
            health.reset(deployment_id=row.deployment_id, actor=actor(request))

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("teams.change_deploymenthealth")


@admin.register(AccessGroup)
class AccessGroupAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("name", "is_active")
    search_fields = ("name",)
    filter_horizontal = ("aliases",)


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    secret = forms.CharField(
        widget=forms.PasswordInput(render_value=False),
        required=False,
        help_text="The provider's API key. Never shown again; leave empty to keep the stored one.",
    )

    class Meta:
        model = ProviderCredential
        fields = ("name", "organization", "api_base", "extra")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.instance.pk is None and not cleaned.get("secret"):
            self.add_error("secret", "A new credential needs its secret.")
        return cleaned


@admin.register(ProviderCredential)
class ProviderCredentialAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    recorded_by_domain = ("add", "change")
    form = CredentialForm
    fields = ("name", "organization", "secret", "api_base", "extra")
    list_display = ("name", "organization", "api_base", "updated_at")
    list_select_related = ("organization",)
    autocomplete_fields = ("organization",)
    search_fields = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "organization") if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        secret = form.cleaned_data["secret"] or credentials.reveal(obj)
        saved = credentials.save(
            name=obj.name,
            api_key=secret,
            api_base=obj.api_base,
            extra=obj.extra,
            organization=obj.organization,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = saved.pk, False


@admin.register(UnitPrice)
class UnitPriceAdmin(ReadOnlyAdmin):
    list_display = ("price_key", "usd_per_million_tokens", "source", "effective_from")
    search_fields = ("price_key",)

    @admin.display(description="USD per million tokens")
    def usd_per_million_tokens(self, row: UnitPrice) -> str:
        base = row.rates["base"]
        shown = [(name, base[name]) for name in RATE_NAMES if name in base]
        return ", ".join(f"{name} {plain(from_femto(rate) * 10**6)}" for name, rate in shown)


def _is_cooling(row: DeploymentHealth | None) -> bool:
    return row is not None and row.open_until is not None and row.open_until > timezone.now()
