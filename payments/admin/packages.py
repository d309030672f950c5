from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from payments.models import Package
from saas_litellm.base.admin import AmountsInForms, Audited, credits_of


@admin.register(Package)
class PackageAdmin(Audited, AmountsInForms, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """What is for sale. One that was sold stays; switch it off instead of deleting it."""

    list_display = ("name", "shown_price", "sold", "lot_days", "is_active", "position")
    list_filter = ("is_active",)
    search_fields = ("name",)
    fields = (
        "name",
        "description",
        ("amount_minor", "currency"),
        "worth_nano_usd",
        "nanocredits",
        ("priority", "lot_days"),
        ("is_active", "position"),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Price", ordering="amount_minor")
    def shown_price(self, package: Package) -> str:
        return package.price

    @admin.display(description="Credits", ordering="nanocredits")
    def sold(self, package: Package) -> str:
        return credits_of(package.nanocredits)
