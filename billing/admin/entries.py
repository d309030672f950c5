"""The ledger in the admin, and what its lines took from which lots."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing import search
from billing.models import Draw, Entry
from saas_litellm.base.admin import credits_of
from saas_litellm.base.days import in_days
from saas_litellm.base.lists import FormFilter, LongList, choice_field, day_field, text_field


class EntryFilterForm(forms.Form):
    account = text_field(help_text="The id of its team or organization.")
    kind = choice_field(Entry.Kind.choices)
    created_from = day_field("Created from")
    created_to = day_field("Created to")


class EntryFilter(FormFilter):
    of = EntryFilterForm

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        return search.entries(rows, search.EntriesAsked(**given))


class DrawFilterForm(forms.Form):
    kind = choice_field(Draw.Kind.choices)
    at_from = day_field("From")
    at_to = day_field("To")


class DrawFilter(FormFilter):
    of = DrawFilterForm

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        rows = rows.filter(in_days("at", given["at_from"], given["at_to"]))
        return rows.filter(search.of_kind(given["kind"]))


@admin.register(Entry)
class EntryAdmin(LongList):
    list_display = (
        "created_at",
        "account",
        "kind",
        "credits",
        "balance_after",
        "reference",
        "actor",
    )
    list_select_related = ("account__team", "account__organization")
    filter_class = EntryFilter
    shortcuts = (
        ("All", ""),
        ("Came in", "kind=grant"),
        ("Refunded", "kind=refund"),
        ("Adjusted", "kind=adjustment"),
        ("Expired", "kind=expiry"),
        ("Carried forward", "kind=carried"),
    )
    search_help_text = "reference, id of a job or call, team, organization"
    sortable_by = ("created_at",)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first; where days of every account are asked for, by their index."""
        asks_days = request.GET.get("created_from") or request.GET.get("created_to")
        by_day = asks_days and not request.GET.get("account")
        return ("-created_at", "-id") if by_day else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        found = search.entries_named(queryset, search_term) if search_term else queryset
        return found, False

    @admin.display
    def credits(self, entry: Entry) -> str:
        return credits_of(entry.amount_nanocredits)

    @admin.display
    def balance_after(self, entry: Entry) -> str:
        return credits_of(entry.balance_after_nanocredits)


@admin.register(Draw)
class DrawAdmin(LongList):
    list_display = ("at", "lot", "kind", "credits", "paid_usd", "entry")
    list_select_related = ("lot", "entry")
    filter_class = DrawFilter
    search_fields = ()
    sortable_by = ("at",)
    ordering = ("-at", "-id")

    @admin.display
    def credits(self, draw: Draw) -> str:
        return credits_of(draw.amount_nanocredits)

    @admin.display(description="Worth, USD")
    def paid_usd(self, draw: Draw) -> str:
        return credits_of(draw.paid_nano_usd)
