from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import CommandParser

from billing import ledger
from saas_litellm.base import shown
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from teams import directory


class Command(OperatorCommand):
    help = "Add credits to the wallet a team draws on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("credits", help="A decimal number of credits.")
        parser.add_argument("--paid-usd", default="0")
        parser.add_argument("--reason", default="")
        parser.add_argument(
            "--payment-reference", default="", help="An invoice's or a transfer's number."
        )
        parser.add_argument("--idempotency-key", help="The same key again adds nothing.")

    def operate(self, **options: Any) -> None:
        entry = ledger.grant(
            account=ledger.account_of(directory.find_team(options["team"])),
            amount_nanocredits=nano(options["credits"]),
            paid_nano_usd=nano(options["paid_usd"]),
            reason=options["reason"],
            reference=ledger.reference_of(options["payment_reference"]),
            actor=self.actor,
            idempotency_key=options["idempotency_key"] or f"topup:{uuid.uuid4()}",
        )
        balance = from_nano(entry.balance_after_nanocredits)
        self.answer(
            f"Added {shown.counted(from_nano(entry.amount_nanocredits), 'credit')}; the balance after is {balance}.",
            team=options["team"],
            entry=entry.pk,
            credits=from_nano(entry.amount_nanocredits),
            balance_after=balance,
        )
