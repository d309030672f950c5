from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from billing import ledger, thresholds
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from teams import directory


class Command(OperatorCommand):
    help = "Raise an alarm whenever a team's balance falls below these; none: no alarms."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("credits", nargs="*")

    def operate(self, **options: Any) -> None:
        kept = thresholds.replace(
            account=ledger.account_of(directory.find_team(options["team"])),
            nanocredits=[nano(amount) for amount in options["credits"]],
            actor=self.actor,
        )
        amounts = [str(from_nano(threshold.nanocredits)) for threshold in kept]
        self.answer(
            f"Alarms below {', '.join(amounts)} credits." if amounts else "No alarms.",
            thresholds=amounts,
        )
