from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import keys


class Command(OperatorCommand):
    help = "End an API key now, everywhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="The part between slk_ and the second underscore.")
        parser.add_argument("--reason", default="")

    def operate(self, *, prefix: str, reason: str, **options: Any) -> None:
        key = keys.revoke(prefix=prefix, actor=self.actor, reason=reason)
        self.answer(f"Revoked {key.prefix} of {key.team.slug}.", prefix=key.prefix)
