from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.seeding import demo, market


class Command(OperatorCommand):
    help = "Fill a database with a believable company and its history, for trials."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--size",
            choices=market.SIZES,
            default="small",
            help="small: 14 teams, seconds; medium: 300 teams; large: 10,000 teams, a million"
            " calls and five million ledger entries, minutes, for PostgreSQL.",
        )
        parser.add_argument(
            "--force", action="store_true", help="Where DEBUG is off: not next to real customers."
        )

    def operate(self, *, size: str, force: bool, **options: Any) -> None:
        if not settings.DEBUG and not force:
            raise CommandError(
                "DEBUG is off, so this may be a platform with real customers, whose reports made-up"
                " work would spoil. On a database for trials, add --force."
            )
        began = time.monotonic()
        seeded = demo.seed(size, tell=self._tell)
        self.answer(
            f"Seeded {seeded.organizations} organizations, {seeded.teams} teams, {seeded.jobs:,} jobs,"
            f" {seeded.calls:,} calls and {seeded.entries:,} ledger entries in"
            f" {time.monotonic() - began:.0f} s. Look at {settings.PUBLIC_URL}/admin/.",
            organizations=seeded.organizations,
            teams=seeded.teams,
            jobs=seeded.jobs,
            calls=seeded.calls,
            entries=seeded.entries,
        )

    def _tell(self, line: str) -> None:
        if not self.is_json:
            self.stdout.write(f"  {line}")
