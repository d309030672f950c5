from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import operators, second_factor


class Command(OperatorCommand):
    help = "Take the second factor of an operator away who lost it, and their backup codes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--reason", default="")

    def operate(self, *, username: str, reason: str, **options: Any) -> None:
        user = operators.find_user(username)
        had = second_factor.reset(user=user, actor=self.actor, reason=reason)
        said = "has none any more" if had else "had none"
        self.answer(f"{username} {said}.", username=username, was_enrolled=had)
