from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from saas_litellm.base.models import Alarm, AuditEntry
from saas_litellm.base.refusals import Refusal


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Rows that only the domain writes: to look at, not to touch."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def actor(request: HttpRequest) -> str:
    return f"user:{request.user.get_username()}"


def tell(model_admin: Any, request: HttpRequest, refusal: Refusal) -> None:
    """Show a refusal as the message it is."""
    model_admin.message_user(request, refusal.message, messages.ERROR)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor", "action", "target", "reason")
    list_filter = ("action",)
    search_fields = ("actor", "target", "reason")
    date_hierarchy = "created_at"


@admin.register(Alarm)
class AlarmAdmin(ReadOnlyAdmin):
    list_display = ("last_seen_at", "kind", "subject", "sightings", "detail")
    list_filter = ("kind",)
    search_fields = ("subject", "detail")
