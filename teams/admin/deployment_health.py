from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from saas_litellm.base.admin import ReadOnlyAdmin, actor
from teams import health
from teams.models import DeploymentHealth


@admin.register(DeploymentHealth)
class DeploymentHealthAdmin(ReadOnlyAdmin):
    """The circuit breakers: who is left alone, until when, and why."""

    list_display = ("deployment", "state", "failures", "last_failure", "last_failure_at")
    list_select_related = ("deployment__alias",)
    ordering = ("-open_until", "-last_failure_at")
    actions = ("close",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # The alias's page leads here.
        return lookup == "deployment__alias" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="State", ordering="open_until")
    def state(self, row: DeploymentHealth) -> str:
        return state(row)

    @admin.action(description="Close: let calls through again", permissions=["close"])
    def close(self, request: HttpRequest, queryset: QuerySet[DeploymentHealth]) -> None:
        for row in queryset:
            health.reset(deployment_id=row.deployment_id, actor=actor(request))

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("teams.change_deploymenthealth")


def is_cooling(row: DeploymentHealth | None) -> bool:
    return row is not None and row.open_until is not None and row.open_until > timezone.now()


def state(row: DeploymentHealth | None) -> str:
    """The breaker in words; a deployment that never failed has none."""
    if row is None or row.open_until is None:
        return "closed"
    return f"open until {row.open_until:%H:%M:%S} UTC" if is_cooling(row) else "half open"
