"""What the admins of all apps share: read-only rows, amounts as people write them, form pages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import FieldTextFilter, RangeDateFilter
from unfold.decorators import action
from unfold.widgets import INPUT_CLASSES, UnfoldAdminTextInputWidget

from saas_litellm.base import encryption, idempotency
from saas_litellm.base.audited import Audited, actor
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.models import Alarm, AuditEntry, LedgerCheck
from saas_litellm.base.money import InexactAmount, from_nano, nano, plain
from saas_litellm.base.refusals import Invalid, Refusal

__all__ = ["Audited", "actor"]
_SUMMARY = 120


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Rows that only the domain writes: to look at, not to touch."""

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
    return redirect(_list_of(model_admin))


def _list_of(model_admin: Any) -> str:
    meta = model_admin.model._meta
    return f"admin:{meta.app_label}_{meta.model_name}_changelist"


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


class PageForm(forms.Form):
    """A form page's form. The hidden key makes a second click of the same page change nothing."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, max_length=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOnce:
    """A page that answers an act in place of the way back, and what is said when it is asked again."""

    page: HttpResponse
    text: str


def form_page(
    model_admin: Any,
    request: HttpRequest,
    *,
    form_class: type[PageForm],
    title: str,
    button: str,
    act: Callable[[dict[str, Any]], str | ShownOnce],
    initial: dict[str, Any] | None = None,
    note: str = "",
    back: str = "",
    is_once: bool = False,
) -> HttpResponse:
    """Show a form; when it is sent, ``act`` on it, say what it says and go back.

    Back is where ``?next=`` leads, else ``back``, else the list. ``note`` stands above the form.
    ``is_once``: for acts without an idempotency key of their own; sent again, the same form only
    says what it did. A Refusal that ``act`` raises is shown on the form, and nothing has changed.
    """
    blank = {"idempotency_key": f"admin:{uuid.uuid4()}", **(initial or {})}
    form = form_class(request.POST or None, request.FILES or None, initial=blank)
    way_back = _safe_next(request) or back or reverse(_list_of(model_admin))
    if request.method == "POST" and form.is_valid():
        try:
            given = form.cleaned_data
            done = _once(request, given, act) if is_once else act(given)
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            if isinstance(done, ShownOnce):
                return done.page
            model_admin.message_user(request, done, messages.SUCCESS)
            return redirect(way_back)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "button": button,
        "form": form,
        "note": note,
        "back": way_back,
    }
    return render(request, "admin/form_page.html", context)


def _once(
    request: HttpRequest, given: dict[str, Any], act: Callable[[dict[str, Any]], str | ShownOnce]
) -> str | ShownOnce:
    """Act in the transaction that keeps the form's key; the second time, only say what was done."""
    asked = f"{actor(request)}\n{request.path}\n{given['idempotency_key']}"
    claim = idempotency.Claim(
        scope=encryption.keyed_hash(f"form\n{asked}"), fingerprint=encryption.keyed_hash("form")
    )

    def said(done: str | ShownOnce) -> str:
        return done.text if isinstance(done, ShownOnce) else done

    done, earlier = idempotency.once(claim, lambda: act(given), said)
    return earlier if done is None else done


def _safe_next(request: HttpRequest) -> str:
    """Where the page was opened from, if that is a page of this site."""
    wanted = request.GET.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else ""


def once(request: HttpRequest, *, act: str, key: str, content: str, work: Callable[[], str]) -> str:
    """Do a page's database work once for its hidden key, and say what it said, however often the
    page is sent. Raises Invalid when it is sent again with other content, and what ``work`` raises.
    """
    claim = idempotency.claim_of(caller=actor(request), act=act, key=key, content=content)
    try:
        done, kept = idempotency.once(claim, work, str)
    except idempotency.KeyReused as error:
        raise Invalid("This page was sent before, with other content. Load it again.") from error
    return done or kept


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
    list_display = ("last_seen_at", "kind", "subject", "sightings", "detail")
    list_filter = ("kind",)
    search_fields = ("subject", "detail")
