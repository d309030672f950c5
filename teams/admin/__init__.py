"""Who is asking, and what they may use, as operators see it."""

from teams.admin import (
    access_groups,
    aliases,
    credentials,
    deployment_health,
    keys,
    members,
    own_account,
    people,
    staff,
    unit_prices,
)

__all__ = [
    "access_groups",
    "aliases",
    "credentials",
    "deployment_health",
    "keys",
    "members",
    "own_account",
    "people",
    "staff",
    "unit_prices",
]
