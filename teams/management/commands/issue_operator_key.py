from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.refusals import NotFound
from teams import operators
from teams.models import User


class Command(OperatorCommand):
    help = "Issue a key for the management API: it may do what its user may. Shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="")

    def operate(self, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise NotFound(f"There is no user {options['user']}.")
        key, text = operators.issue(user=user, actor=self.actor, name=options["name"])
        self.answer(f"{text}\nShown once: keep it now.", key=text, prefix=key.prefix)
