"""Who is asking, and what they may use, as operators see it."""

from teams.admin import keys, own_account, people, staff, supply

__all__ = ["keys", "own_account", "people", "staff", "supply"]
