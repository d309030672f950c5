"""Emptying the database after a test that committed: only what has rows, and nothing that
migrations made.

Django's own way empties every table (a TRUNCATE of all of them takes PostgreSQL a third of a
second) and then makes permissions and groups again with hundreds of statements.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction

from teams import roles

# What migrate makes: content types, permissions, and the groups behind the built-in roles.
KEPT = frozenset(
    {
        "django_migrations",
        "django_content_type",
        "auth_permission",
        "auth_group",
        "auth_group_permissions",
    }
)


def empty(*_: Any) -> None:
    """Takes the place of TransactionTestCase._fixture_teardown."""
    tables = connection.introspection.django_table_names(only_existing=True)
    full = _with_rows([name for name in tables if name not in KEPT])
    if connection.vendor == "sqlite":
        with connection.constraint_checks_disabled():
            _delete(full)
    else:
        try:
            with transaction.atomic():
                _execute("SET LOCAL session_replication_role = replica")
                _delete(full)
        except DatabaseError:
            # Only a superuser may switch foreign keys and triggers off.
            names = ", ".join(f'"{name}"' for name in full)
            _execute(f"TRUNCATE {names} CASCADE")
    _delete_own_groups()


def _with_rows(tables: list[str]) -> list[str]:
    asked = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        return [name for (name,) in cursor.fetchall()]


def _delete(tables: list[str]) -> None:
    with transaction.atomic():
        for name in tables:
            _execute(f'DELETE FROM "{name}"')


def _delete_own_groups() -> None:
    Group.objects.exclude(name__in=roles.ROLES).delete()


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
