"""The tables and their columns, from the models."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models

from tests.reference.columns import HOLDS
from tests.reference.tables import code, prose, table

APPS = {
    "base": "What every app shares",
    "teams": "Who asks",
    "billing": "Money",
    "jobs": "Work",
    "webhooks": "Events to others",
    "payments": "Credits for sale",
}
# A column's unit is the end of its name.
UNITS = {
    "_nanocredits": "nanocredits",
    "_nano_usd": "nano-USD",
    "_femto_usd": "femto-USD",
    "_seconds": "seconds",
    "_ms": "milliseconds",
    "_percent": "per cent",
}


def tables() -> dict[str, list[type[models.Model]]]:
    """Every model of ours by app, those behind many-to-many fields included."""
    return {
        label: sorted(
            apps.get_app_config(label).get_models(include_auto_created=True),
            key=lambda model: model._meta.db_table,
        )
        for label in APPS
    }


def page() -> str:
    parts = [
        "# Database\n\n"
        "The tables of the platform itself; Django and its add-ons have their own beside them."
        " Amounts are integers: 1 credit = 10⁹ nanocredits, 1 USD = 10⁹ nano-USD; unit prices are in"
        " femto-USD (10⁻¹⁵ USD) per token or unit. Times are UTC. Rows of tables marked *append-only*"
        " are never changed or deleted: triggers refuse it (on SQLite the program alone refuses the deleting). To ask questions, read; to change"
        " something, use the admin, the API or a command, for each keeps the books in step.\n"
    ]
    for label, found in tables().items():
        parts.append(f"## {APPS[label]}\n")
        parts += [_table(model) for model in found]
    return "\n".join(parts)


def purpose(model: Any) -> str:
    """The first paragraph of the model's docstring; a table that joins two says which."""
    meta = model._meta
    if meta.auto_created:
        ends = [f.related_model._meta.db_table for f in meta.fields if f.is_relation]
        return f"Joins {' and '.join(map(code, ends))}."
    told = (model.__doc__ or "").strip()
    return "" if told.startswith(f"{model.__name__}(") else prose(told.split("\n\n")[0])


def _table(model: Any) -> str:
    is_append_only = any(base.__name__ == "AppendOnly" for base in model.__mro__)
    note = " *Append-only.*" if is_append_only else ""
    rows = [
        [code(field.column), _type(field), holds(field)] for field in model._meta.concrete_fields
    ]
    return f"### {model._meta.db_table}\n\n{purpose(model)}{note}\n\n" + table(
        ["column", "type", "holds"], rows
    )


def _type(field: Any) -> str:
    kind = field.get_internal_type()
    if field.is_relation:
        return f"→ {code(field.related_model._meta.db_table)}"
    names = {
        "CharField": f"text, {field.max_length}",
        "SlugField": f"text, {field.max_length}",
        "TextField": "text",
        "BigAutoField": "id",
        "AutoField": "id",
        "UUIDField": "UUID",
        "BooleanField": "yes or no",
        "DateTimeField": "time",
        "DateField": "day",
        "JSONField": "JSON",
        "BinaryField": "bytes",
        "GenericIPAddressField": "address",
        "EmailField": "e-mail",
    }
    return names.get(kind, "integer" if "Integer" in kind else kind)


def holds(field: Any) -> str:
    """The field's help text, its unit, its values; or what its name means everywhere."""
    told = [prose(str(field.help_text)).rstrip(".")] if field.help_text else []
    told += [unit for end, unit in UNITS.items() if field.name.endswith(end)]
    if field.choices:
        told.append(", ".join(code(value) for value, _ in field.flatchoices if value != ""))
    if not told and not field.is_relation and field.name in HOLDS:
        told.append(HOLDS[field.name])
    if field.unique and not field.primary_key:
        told.append("unique")
    if field.null:
        told.append("may be empty")
    return "; ".join(told)
