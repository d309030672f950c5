from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.core.management.base import CommandParser

from jobs import profit
from saas_litellm.base import clock
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Show revenue, provider cost and margin by team, job type, alias, day, ..."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--by", choices=profit.GROUPS, default="team")
        parser.add_argument("--start", type=date.fromisoformat, help="Default: 30 days ago.")
        parser.add_argument("--end", type=date.fromisoformat, help="The day after the last.")
        parser.add_argument("--team")
        parser.add_argument("--organization")
        parser.add_argument("--job-type")
        parser.add_argument("--alias")

    def operate(self, **options: Any) -> None:
        today = clock.now().date()
        reported = profit.report(
            start=options["start"] or today - timedelta(days=30),
            end=options["end"] or today + timedelta(days=1),
            group_by=options["by"],
            filters=profit.Filters(
                team=options["team"],
                organization=options["organization"],
                job_type=options["job_type"],
                alias=options["alias"],
            ),
        ).as_json()
        names = [
            "jobs",
            "calls",
            "revenue_usd",
            "provider_cost_usd",
            "margin_usd",
            "margin_percent",
        ]
        rows = [*reported["rows"], {"key": "total", **reported["total"]}]
        width = max(len(row["key"]) for row in rows) + 2
        lines = [" " * width + "".join(f"{name:>20}" for name in names)]
        lines += [
            f"{row['key']:{width}}" + "".join(f"{_shown(row[name]):>20}" for name in names)
            for row in rows
        ]
        self.answer("\n".join(lines), **reported)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
