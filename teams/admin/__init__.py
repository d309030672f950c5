"""Who is asking, and what they may use, as operators see it."""

from teams.admin import people, staff, supply

__all__ = ["people", "staff", "supply"]
