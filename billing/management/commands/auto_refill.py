from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from billing import ledger, recurring
from billing.models import RecurringGrant
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from teams import directory


class Command(OperatorCommand):
    help = "Grant a team credits again and again, from now on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("credits")
        parser.add_argument("period", choices=RecurringGrant.Period.values)
        parser.add_argument("--cap", help="Fill the balance up to this at most.")
        parser.add_argument("--subscription", action="store_true", help="Paid for, not a gift.")
        parser.add_argument("--paid-usd", default="0")
        parser.add_argument("--lot-days", type=int, help="Each grant expires after so many days.")

    def operate(self, **options: Any) -> None:
        kinds = RecurringGrant.Kind
        schedule = recurring.create(
            account=ledger.account_of(directory.find_team(options["team"])),
            kind=kinds.SUBSCRIPTION if options["subscription"] else kinds.PROMOTIONAL,
            period=options["period"],
            amount_nanocredits=nano(options["credits"]),
            paid_nano_usd=nano(options["paid_usd"]),
            cap_nanocredits=nano(options["cap"]) if options["cap"] else None,
            lot_days=options["lot_days"],
            actor=self.actor,
        )
        amount = from_nano(schedule.amount_nanocredits)
        self.answer(
            f"{amount} credits {schedule.period} for {options['team']}, from now on.",
            id=schedule.pk,
            credits=amount,
            period=schedule.period,
        )
