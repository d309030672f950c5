"""What every amount column shares."""

from __future__ import annotations

from django.db.models import Q

from saas_litellm.base.money import MAX_AMOUNT

ONE_OWNER = Q(team__isnull=False, organization__isnull=True) | Q(
    team__isnull=True, organization__isnull=False
)


def within(*names: str) -> Q:
    """Each column lies in ±MAX_AMOUNT: SQLite would turn a larger sum into a float silently."""
    bounds = Q()
    for name in names:
        bounds &= Q(**{f"{name}__gte": -MAX_AMOUNT, f"{name}__lte": MAX_AMOUNT})
    return bounds


def positive(*names: str) -> Q:
    bounds = Q()
    for name in names:
        bounds &= Q(**{f"{name}__gt": 0, f"{name}__lte": MAX_AMOUNT})
    return bounds


def not_negative(*names: str) -> Q:
    bounds = Q()
    for name in names:
        bounds &= Q(**{f"{name}__gte": 0, f"{name}__lte": MAX_AMOUNT})
    return bounds
