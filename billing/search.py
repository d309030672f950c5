"""Finding ledger lines among millions: each condition is one that an index answers.

Conditions of partial indexes are spelled out, for SQLite knows a partial index only by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Q, QuerySet

from billing.models import Account, Entry
from saas_litellm.base.days import in_days

# What work writes its lines about; operators know only the ids.
_SUBJECTS = ("job", "call")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesAsked:
    """What operators ask of the ledger; empty and None: anything. Days are UTC, the last included.

    ``account``: the slug of the team or organization whose wallet it is.
    """

    account: str = ""
    kind: str = ""
    created_from: date | None = None
    created_to: date | None = None


def entries(rows: QuerySet[Any], asked: EntriesAsked) -> QuerySet[Any]:
    """Those that are as asked; whoever does not exist has none."""
    rows = rows.filter(in_days("created_at", asked.created_from, asked.created_to))
    if asked.account:
        rows = rows.filter(account__in=accounts(asked.account))
    return rows.filter(of_kind(asked.kind))


def of_kind(kind: str) -> Q:
    """Lines or draws of a kind, of any if empty; all but charges are in a partial index."""
    condition = Q(kind=kind) if kind else Q()
    return condition if kind in {"", Entry.Kind.CHARGE} else condition & ~Q(kind="charge")


def entries_named(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Lines with that reference, about the job or call of that id, or of that account."""
    found, by_reference = accounts(text.strip()), about(text)
    # One by one: an OR over two indexes would read through neither.
    if not found:
        return rows.filter(by_reference)
    of_account = Q(account__in=found)
    if Entry.objects.order_by().filter(by_reference).exists():
        return rows.filter(by_reference | of_account)
    return rows.filter(of_account)


def about(text: str) -> Q:
    """Lines or holds with that reference, or about the job or call of that id."""
    name = text.strip()
    return Q(reference__in=[name, *(f"{subject}:{name.lower()}" for subject in _SUBJECTS)])


def accounts(slug: str) -> Iterable[int]:
    """The ids of the accounts of the team and of the organization of that name."""
    owned = Q(team__slug=slug) | Q(organization__slug=slug)
    return list(Account.objects.filter(owned).order_by().values_list("pk", flat=True))
