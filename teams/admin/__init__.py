"""Who is asking, and what they may use, as operators see it."""

from teams.admin import people, supply

__all__ = ["people", "supply"]
