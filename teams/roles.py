"""Roles: what operators may do, as groups that every installation has.

The one table says which Django permissions a role carries; ``grant`` brings the groups in line with
it after each migrate, for permission rows exist only then. Groups of one's own may stand beside
them; these cannot be edited, so that a role means the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Patterns of permissions (``app.codename``): those it has, less those it never has."""

    about: str
    may: tuple[str, ...]
    never: tuple[str, ...] = ()

    def allows(self, permission: str) -> bool:
        return _is_like(permission, self.may) and not _is_like(permission, self.never)


_LOOK = (
    "base.view_*",
    "teams.view_*",
    "billing.view_*",
    "jobs.view_*",
    "webhooks.view_*",
    "payments.view_*",
)
_NOT_FOR_ALL = (
    "teams.view_providercredential",
    "teams.view_operatorkey",
    "teams.view_user",
    "jobs.view_payload",
)
ROLES: dict[str, Role] = {
    OWNER: Role(about="everything, people and roles included", may=("*",)),
    "admin": Role(
        about="everything but people, roles and operator keys",
        may=("base.*", "teams.*", "billing.*", "jobs.*", "webhooks.*", "payments.*"),
        never=(
            "teams.*_user",
            "teams.add_operatorkey",
            "teams.change_operatorkey",
            "teams.delete_operatorkey",
        ),
    ),
    "finance": Role(
        about="credits, packages and payments, plans, budgets, refunds, reports, reconciliation",
        may=(
            *_LOOK,
            "billing.*",
            "payments.*",
            "teams.choose_wallet",
            "jobs.refund_*",
            "jobs.change_job",
            "jobs.*_shadow",
            "jobs.*_reconciliation",
            "jobs.add_costline",
        ),
        never=_NOT_FOR_ALL,
    ),
    "support": Role(
        about="looks, pauses and resumes teams, refunds up to a limit a day, sends webhooks again",
        may=(*_LOOK, "teams.pause_team", "jobs.refund_job", "webhooks.resend_delivery"),
        never=_NOT_FOR_ALL,
    ),
    "viewer": Role(about="looks", may=_LOOK, never=_NOT_FOR_ALL),
}


def grant(sender: AppConfig, *, using: str = "default", **kwargs: Any) -> None:
    """Receives post_migrate: every role gets its permissions of this app, and loses any other."""
    # Django makes the rows in a receiver of the same signal, which may stand after this one.
    create_permissions(sender, verbosity=0, using=using)
    rows = Permission.objects.using(using).filter(content_type__app_label=sender.label)
    wanted = {
        name: {
            row.pk
            for row in rows.select_related("content_type")
            if role.allows(f"{sender.label}.{row.codename}")
        }
        for name, role in ROLES.items()
    }
    if not any(wanted.values()):
        return
    given = Group.permissions.through._default_manager.using(using)
    for name, permissions in wanted.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        held = set(
            given.filter(group=group, permission__content_type__app_label=sender.label).values_list(
                "permission", flat=True
            )
        )
        if held - permissions:
            group.permissions.remove(*(held - permissions))
        if permissions - held:
            group.permissions.add(*(permissions - held))


def _is_like(permission: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(permission, pattern) for pattern in patterns)
