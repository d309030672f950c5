from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base import clock
from saas_litellm.base.commands import OperatorCommand
from teams import directory, keys


class Command(OperatorCommand):
    help = "Issue an API key to a team; its secret is shown here and nowhere else."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team")
        parser.add_argument("--name", default="")
        parser.add_argument("--expires-in-days", type=int)

    def operate(self, *, team: str, name: str, expires_in_days: int | None, **options: Any) -> None:
        expires_at = (
            None if expires_in_days is None else clock.now() + timedelta(days=expires_in_days)
        )
        key, text = keys.issue(
            team=directory.find_team(team), actor=self.actor, name=name, expires_at=expires_at
        )
        self.answer(
            f"{text}\n(shown once; to end it: manage.py revoke_key {key.prefix})",
            team=team,
            prefix=key.prefix,
            api_key=text,
        )
