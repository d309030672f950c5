from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from billing import ledger
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from teams import directory


class Command(OperatorCommand):
    help = "Let a postpaid team go below zero by so many credits; 0 is prepaid."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("credits")
        parser.add_argument("--reason", default="")

    def operate(self, **options: Any) -> None:
        after = ledger.set_credit_limit(
            account=ledger.account_of(directory.find_team(options["team"])),
            limit_nanocredits=nano(options["credits"]),
            actor=self.actor,
            reason=options["reason"],
        )
        self.answer(
            f"The credit limit of {options['team']} is {from_nano(after.credit_limit)} credits.",
            team=options["team"],
            credit_limit=from_nano(after.credit_limit),
        )
