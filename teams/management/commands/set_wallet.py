from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import directory
from teams.models import Team


class Command(OperatorCommand):
    help = "Let a team's new jobs draw on its own wallet or its organization's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("draws_on", choices=Team.Wallet.values)

    def operate(self, **options: Any) -> None:
        team = directory.find_team(options["team"])
        directory.set_wallet(team=team, draws_on=options["draws_on"], actor=self.actor)
        self.answer(
            f"{team.slug} draws on {team.get_draws_on_display()} wallet.",
            team=team.slug,
            draws_on=team.draws_on,
        )
