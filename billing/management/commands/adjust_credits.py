from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import CommandParser

from billing import ledger
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from teams import directory


class Command(OperatorCommand):
    help = "Correct a balance up or down; what cannot be taken is a recorded loss."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("credits", help="Signed: -2.5 takes away.")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--idempotency-key", help="The same key again changes nothing.")

    def operate(self, **options: Any) -> None:
        account = ledger.account_of(directory.find_team(options["team"]))
        adjusted = ledger.adjust(
            account=account,
            amount_nanocredits=nano(options["credits"]),
            reason=options["reason"],
            actor=self.actor,
            idempotency_key=options["idempotency_key"] or f"adjust:{uuid.uuid4()}",
        )
        account.refresh_from_db()
        moved = from_nano(adjusted.entry.amount_nanocredits if adjusted.entry else 0)
        lost = from_nano(adjusted.loss.amount_nanocredits if adjusted.loss else 0)
        balance = from_nano(account.balance_nanocredits)
        self.answer(
            f"Adjusted by {moved} credits; the balance is {balance}"
            + (f"; {lost} were not there: booked as a loss." if lost else "."),
            credits=moved,
            lost=lost,
            balance=balance,
        )
