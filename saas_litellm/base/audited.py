"""Admin pages that save by themselves, and the audit entry that each such save leaves."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.http import HttpRequest

from saas_litellm.base import audit


def actor(request: HttpRequest) -> str:
    return f"user:{request.user.get_username()}"


class Audited:
    """Each save and deletion by Django's own pages leaves an audit entry: before, and after.

    ``recorded_by_domain``: which of "add" and "change" the domain's function records itself; what
    the page saves beside it (many-to-many sets, rows inside) is recorded here all the same.
    """

    recorded_by_domain: tuple[str, ...] = ()

    def save_form(self, request: Any, form: Any, change: bool) -> Any:  # noqa: FBT001 - Django's
        # The form's own instance carries the new values already.
        request.audited = audit.snapshot(_stored(form.instance)) if change else {}
        return super().save_form(request, form, change)  # type: ignore[misc]

    def save_related(self, request: Any, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        inner = [(formset, _inner_snapshots(formset)) for formset in formsets]
        for formset, earlier in inner:
            # Now, for afterwards a deleted row no longer knows which one it was.
            for gone in (one.instance for one in formset.deleted_forms):
                _record(request, gone, "delete", earlier.get(gone.pk, {}), {})
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        row, before = _stored(form.instance), request.audited
        after = audit.snapshot(row)
        if ("change" if change else "add") in self.recorded_by_domain:
            links = audit.linked(row)
            after = links
            before = {name: before.get(name, []) for name in links}
            _record(request, row, "change", before, after)
        else:
            _record(request, row, "change" if change else "create", before, after)
        for formset, earlier in inner:
            _record_inner(request, row, formset, earlier)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        _record(request, obj, "delete", audit.snapshot(obj), {})
        super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            for row in queryset:
                _record(request, row, "delete", audit.snapshot(row), {})
            super().delete_queryset(request, queryset)  # type: ignore[misc]


def _stored(row: models.Model) -> models.Model:
    return type(row)._base_manager.get(pk=row.pk)


def _inner_snapshots(formset: Any) -> dict[Any, dict[str, Any]]:
    """The rows that a page shows inside another, as they are before it saves them."""
    known = [form.instance.pk for form in formset.initial_forms]
    rows = formset.model._base_manager.filter(pk__in=known)
    return {row.pk: audit.snapshot(row) for row in rows}


def _record_inner(request: HttpRequest, parent: Any, formset: Any, earlier: Any) -> None:
    within = {"within": f"{parent._meta.model_name}:{parent}"}
    for row in formset.new_objects:
        _record(request, row, "create", {}, audit.snapshot(_stored(row)), **within)
    for row, _ in formset.changed_objects:
        _record(request, row, "change", earlier[row.pk], audit.snapshot(_stored(row)), **within)


def _record(
    request: HttpRequest, row: Any, act: str, before: Any, after: Any, **detail: Any
) -> None:
    was, now = audit.difference(before, after)
    if was == now:
        return
    audit.record(
        actor=actor(request),
        action=f"{row._meta.model_name}.{act}",
        target=f"{row._meta.model_name}:{row}",
        before=was or None,
        after=now or None,
        **detail,
    )
