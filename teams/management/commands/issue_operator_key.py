from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import operators, roles


class Command(OperatorCommand):
    help = "Issue a key for the management API: it may do what its user may. Shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="")
        parser.add_argument("--role", choices=roles.ROLES, default="", help="Narrows the key.")

    def operate(self, **options: Any) -> None:
        key, text = operators.issue(
            user=operators.find_user(options["user"]),
            actor=self.actor,
            name=options["name"],
            role=options["role"],
        )
        self.answer(f"{text}\nShown once: keep it now.", key=text, prefix=key.prefix)
