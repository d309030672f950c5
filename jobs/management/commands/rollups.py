from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing import revenue
from jobs import rollups
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Bring the kept days of profit and revenue up to date, prove them, or make them anew."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["update", "compare", "rebuild"])

    def operate(self, **options: Any) -> None:
        if options["act"] == "compare":
            differences = [*rollups.compare(), *revenue.compare()]
            if differences:
                raise CommandError("\n".join(differences))
            self.answer("Every kept day equals its work.", differences=[])
            return
        if options["act"] == "rebuild":
            rolled = rollups.rebuild()
            revenue.rebuild()
        else:
            rolled = rollups.roll_due()
            revenue.keep_due()
        self.answer(f"Rolled up {rolled} days.", days=rolled)
