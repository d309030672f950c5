from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import roles, staff


class Command(OperatorCommand):
    help = "Create a staff user with a role; its password is shown here and nowhere else."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", choices=roles.ROLES, required=True)
        parser.add_argument("--email", default="")

    def operate(self, *, username: str, role: str, email: str, **options: Any) -> None:
        _, password = staff.create(username=username, role=role, email=email, actor=self.actor)
        self.answer(
            f"{username} is {role}. Password: {password}\nShown once: keep it now.",
            username=username,
            role=role,
            password=password,
        )
