from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from billing import budgets
from billing.models import Budget
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import nano
from saas_litellm.base.refusals import NotFound
from teams import directory
from teams.models import ApiKey, Organization, Team


class Command(OperatorCommand):
    help = "Bound what a team, a key or an organization may spend in a day, week, month or in all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("period", choices=Budget.Period.values)
        parser.add_argument("credits")
        owner = parser.add_mutually_exclusive_group(required=True)
        owner.add_argument("--team")
        owner.add_argument("--key", help="The key's prefix.")
        owner.add_argument("--organization")
        parser.add_argument("--soft", action="store_true", help="Only raise an alarm.")

    def operate(self, **options: Any) -> None:
        budget = budgets.create(
            owner=_owner(options),
            period=options["period"],
            limit_nanocredits=nano(options["credits"]),
            is_hard=not options["soft"],
            actor=self.actor,
        )
        self.answer(f"Set {budget}: {options['credits']} credits.", budget=budget.pk)


def _owner(options: dict[str, Any]) -> Team | ApiKey | Organization:
    if options["team"]:
        return directory.find_team(options["team"])
    if options["organization"]:
        return directory.find_organization(options["organization"])
    key = ApiKey.objects.filter(prefix=options["key"]).first()
    if key is None:
        raise NotFound(f"There is no key with the prefix {options['key']}.")
    return key
