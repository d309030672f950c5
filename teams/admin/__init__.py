"""Who is asking, and what they may use, as operators see it."""

from teams.admin import own_account, people, staff, supply

__all__ = ["own_account", "people", "staff", "supply"]
