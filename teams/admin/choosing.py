"""Choosing and counting rows among many: looked up as one types, ticked where few, counted without joining."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.db.models import Count, IntegerField, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget


class ManyChosen(AutocompleteSelectMultiple):
    """Rows looked up as one types. Without select2's button that clears them all at once: one
    slip would take everything, and it breaks the list for screen readers."""

    def build_attrs(
        self, base_attrs: dict[str, Any], extra_attrs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        attrs: dict[str, Any] = super().build_attrs(base_attrs, extra_attrs)
        return {**attrs, "data-allow-clear": json.dumps(False)}


class Ticked:
    """Of few rows the chosen ones are ticked: a phone and a screen reader can do with boxes."""

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]


def counted(rows: QuerySet[Any], column: str) -> Coalesce:
    """How many of ``rows`` there are, ``column`` being what ties them to the row outside.

    A subquery: two counts over joins would multiply each other, and lose the order of the list.
    """
    many = rows.order_by().values(column).annotate(many=Count("pk")).values("many")
    return Coalesce(Subquery(many), Value(0), output_field=IntegerField())
