from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError, CommandParser

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import femto
from teams import prices
from teams.prices import RATE_NAMES, BadPrice, Rates, UnitPrices


class Command(OperatorCommand):
    help = "Set unit prices of a model from now on, in USD per million tokens, or per unit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("price_key", help="A model string, or a deployment's price key.")
        for name in RATE_NAMES:
            # Nothing but the unit costs anything where a model is paid by the unit.
            default = "0" if name in {"input", "output"} else None
            parser.add_argument(f"--{name.replace('_', '-')}", default=default)
        parser.add_argument(
            "--per-unit", help="USD per image, second of audio, 1,000 characters, or search."
        )

    def operate(self, *, price_key: str, **options: Any) -> None:
        try:
            rates = {
                name: femto(Decimal(options[name]) / 10**6)
                for name in RATE_NAMES
                if options[name] is not None
            }
            per_unit = options["per_unit"]
            if per_unit is None and not (rates["input"] or rates["output"]):
                raise BadPrice("name --input and --output, or --per-unit")
            sheet = UnitPrices(
                base=Rates(**rates), per_unit=None if per_unit is None else femto(Decimal(per_unit))
            )
        except (BadPrice, InvalidOperation) as error:
            raise CommandError(f"Not a price: {error}") from error
        row = prices.set_by_hand(price_key=price_key, prices=sheet, actor=self.actor)
        said = "Set" if row else "Unchanged:"
        self.answer(f"{said} the unit prices of {price_key}.", price_key=price_key, rates=rates)
