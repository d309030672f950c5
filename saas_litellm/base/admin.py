"""What the admins of all apps share: read-only rows, amounts as people write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import FieldTextFilter, RangeDateFilter
from unfold.decorators import action
from unfold.widgets import INPUT_CLASSES, UnfoldAdminTextInputWidget

from saas_litellm.base.audited import Audited, actor
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.events import SHAPES
from saas_litellm.base.form_pages import (
    PageForm,
    ShownOnce,
    form_page,
    list_of,
    once,
    secret_page,
)
from saas_litellm.base.models import Alarm, AuditEntry, Event, LedgerCheck
from saas_litellm.base.money import InexactAmount, from_nano, nano, plain
from saas_litellm.base.paging import BoundedPaginator
from saas_litellm.base.refusals import Refusal

__all__ = [
    "Audited",
    "PageForm",
    "ShownOnce",
    "actor",
    "form_page",
    "once",
    "secret_page",
]
_SUMMARY = 120


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Rows that only the domain writes: to look at, not to touch; and not to be counted all."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_before_template = "admin/lists/before.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RefusalsShown:
    """What the domain refuses while a page saves or deletes is told there; nothing has changed."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]
        except Refusal as refusal:
            tell(self, request, refusal)
            request.method = "GET"
            return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().delete_view(request, *args, **kwargs)  # type: ignore[misc]
        except Refusal as refusal:
            tell(self, request, refusal)
            return _to_list(self)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changelist_view(request, *args, **kwargs)  # type: ignore[misc]
        except Refusal as refusal:
            tell(self, request, refusal)
            return _to_list(self)


def _to_list(model_admin: Any) -> HttpResponse:
    return redirect(list_of(model_admin))


class AmountField(forms.CharField):
    """A decimal of credits or USD in the form, an integer of nano units in the code."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=UnfoldAdminTextInputWidget, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return str(from_nano(value)) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return nano(text)
        except InexactAmount as error:
            raise forms.ValidationError(str(error)) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return str(self.prepare_value(initial) or "") != str(data or "")


class MomentField(forms.DateTimeField):
    """A moment in UTC, by the browser's own picker; a day alone is its first moment."""

    def __init__(self, **kwargs: Any) -> None:
        classes = " ".join(INPUT_CLASSES)
        widget = forms.DateTimeInput(
            attrs={"type": "datetime-local", "class": classes}, format="%Y-%m-%dT%H:%M"
        )
        super().__init__(widget=widget, **kwargs)


class PercentField(AmountField):
    """Per cent in the form, basis points in the code."""

    def prepare_value(self, value: Any) -> Any:
        return str(plain(Decimal(value) / 100)) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        text = forms.CharField.clean(self, value)
        if not text:
            return None
        try:
            points = Decimal(text) * 100
        except InvalidOperation as error:
            raise forms.ValidationError(f"{text} is not a number.") from error
        if points != points.to_integral_value() or not 0 <= points <= 10**8:
            raise forms.ValidationError("Per cent, from 0, with two decimal places at most.")
        return int(points)


class AmountsInForms:
    """Shows nano columns as decimals and basis points as per cent in an admin's forms."""

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        name, unit, field = db_field.name, "", None
        if isinstance(db_field, models.BigIntegerField) and "_nano" in f"_{name}":
            unit, field = ("USD" if name.endswith("_nano_usd") else "credits"), AmountField
        elif name.endswith("_basis_points"):
            unit, field = "%", PercentField
        if field is None:
            return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        label = _label(db_field, unit)
        default = None if db_field.default is models.NOT_PROVIDED else db_field.default
        return field(
            label=label,
            required=not (db_field.blank or default == 0),
            initial=default,
            help_text=db_field.help_text,
            empty_value="0" if default == 0 else "",
        )


def _label(column: models.Field[Any, Any], unit: str) -> str:
    """The column's own name for people, or its name without the unit, and the unit after it."""
    plain_name = column.name.replace("_", " ")
    if column.verbose_name != plain_name:
        return str(column.verbose_name).capitalize()
    for word in ("nano usd", "nanocredits", "basis points"):
        plain_name = plain_name.replace(word, "").replace("  ", " ")
    return f"{plain_name.strip().capitalize() or 'Amount'}, {unit}"


Page = TypeVar("Page", bound=Callable[..., HttpResponseBase])


def object_page(*, description: str, path: str, permission: str) -> Callable[[Page], Page]:
    """A page of its own for one object, linked from the object's page; unfold's ``action``.

    ``permission`` names a method of the admin, has_..._permission (``permitted`` makes one):
    unfold looks dotted names up in the database at each system check, `migrate`'s first included.
    """
    decorate: Callable[[Page], Page] = action(
        description=description, url_path=path, permissions=[permission]
    )
    return decorate


def permitted(permission: str) -> Callable[..., bool]:
    """A has_..._permission method that asks for one Django permission."""

    def has_permission(model_admin: Any, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(permission))

    return has_permission


def credits_of(nanocredits: int) -> str:
    return str(from_nano(nanocredits))


def tell(model_admin: Any, request: HttpRequest, refusal: Refusal) -> None:
    """Show a refusal as the message it is."""
    model_admin.message_user(request, refusal.message, messages.ERROR)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor", "action", "target", "summary", "reason", "address")
    list_filter = (
        ("created_at", RangeDateFilter),
        ("actor", FieldTextFilter),
        "action",
        ("target", FieldTextFilter),
        ("address", FieldTextFilter),
    )
    list_filter_submit = True
    search_fields = ("actor", "action", "target", "reason")
    date_hierarchy = "created_at"
    fields = ("created_at", "actor", "address", "action", "target", "reason", "changes", "more")
    readonly_fields = fields
    actions = ("export",)

    @admin.display(description="Changed")
    def summary(self, entry: AuditEntry) -> str:
        text = "; ".join(f"{name}: {old} → {new}" for name, old, new in _changes(entry))
        return text if len(text) <= _SUMMARY else f"{text[:_SUMMARY]}…"

    @admin.display(description="Before and after")
    def changes(self, entry: AuditEntry) -> str:
        return render_to_string("admin/audit_changes.html", {"rows": _changes(entry)})

    @admin.display(description="More")
    def more(self, entry: AuditEntry) -> str:
        return format_html_join("", "<div>{}: {}</div>", entry.detail.items()) or "–"

    @admin.action(description="Export as CSV", permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> HttpResponse:
        return csv_answer(map(_as_row, queryset.iterator()), filename="audit.csv")


def _changes(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    """Name, before and after; one that is no longer there, or was not yet, reads as a dash."""
    before, after = (
        side if isinstance(side, dict) else ({} if side is None else {"value": side})
        for side in (entry.before, entry.after)
    )
    return [
        (name.replace("_", " "), _said(before.get(name)), _said(after.get(name)))
        for name in {**before, **after}
    ]


def _said(value: Any) -> str:
    if value in (None, "", []):
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def _as_row(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.created_at.isoformat(),
        "actor": entry.actor,
        "address": entry.address or "",
        "action": entry.action,
        "target": entry.target,
        "reason": entry.reason,
        "before": json.dumps(entry.before),
        "after": json.dumps(entry.after),
        "detail": json.dumps(entry.detail),
    }


@admin.register(LedgerCheck)
class LedgerCheckAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "seconds", "findings")


@admin.register(Alarm)
class AlarmAdmin(ReadOnlyAdmin):
    list_display = ("last_seen_at", "kind", "subject", "sightings", "alerted_at", "detail")
    list_filter = ("kind",)
    search_fields = ("subject", "detail")


class EventTypeFilter(admin.SimpleListFilter):
    """By the known types, so that no table is read to find out which there are."""

    title = "type"
    parameter_name = "type"
    column = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in SHAPES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What somebody listened to, as it was told."""

    list_display = ("__str__", "type", "object_id", "created_at")
    fields = ("type", "object_id", "team_id", "organization_id", "created_at", "said")
    readonly_fields = ("said",)
    list_filter = (EventTypeFilter, ("created_at", RangeDateFilter))
    list_filter_submit = True
    search_fields = ("object_id",)
    paginator = BoundedPaginator
    show_full_result_count = False

    @admin.display(description="Says")
    def said(self, event: Event) -> str:
        return format_html('<code class="whole-text">{}</code>', event.data)
