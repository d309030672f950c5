"""Who is asking, and what they may use, as operators see it."""

from teams.admin import members, own_account, people, staff, supply

__all__ = ["members", "own_account", "people", "staff", "supply"]
