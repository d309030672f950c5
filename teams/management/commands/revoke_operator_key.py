from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import operators


class Command(OperatorCommand):
    help = "End an operator key now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix")

    def operate(self, **options: Any) -> None:
        key = operators.revoke(prefix=options["prefix"], actor=self.actor)
        self.answer(f"Revoked {key}.", prefix=key.prefix)
