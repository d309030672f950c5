from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import directory, privacy
from teams.models import Team


class Command(OperatorCommand):
    help = "Set what is kept of a team's prompts and answers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("--policy", choices=Team.PayloadPolicy.values)
        parser.add_argument("--retention-days", type=int)
        parser.add_argument("--redact", help="Names of fields, separated by commas; '' for none.")
        parser.add_argument("--replays", choices=["on", "off"], help="Keep answers for a day.")

    def operate(self, **options: Any) -> None:
        redact, replays = options["redact"], options["replays"]
        team = privacy.set_policy(
            team=directory.find_team(options["team"]),
            actor=self.actor,
            policy=options["policy"],
            retention_days=options["retention_days"],
            redacted_fields=None if redact is None else [n for n in redact.split(",") if n],
            is_replay_kept=None if replays is None else replays == "on",
        )
        self.answer(
            f"{team.slug} keeps: {team.get_payload_policy_display()}.",
            team=team.slug,
            policy=team.payload_policy,
            retention_days=team.payload_retention_days,
            redacted_fields=team.redacted_fields,
            replays=team.is_replay_kept,
        )
