from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing import plans
from billing.models import PlanVersion
from jobs import repricing
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.csv_files import defused
from saas_litellm.base.money import from_nano
from teams import directory


class Command(OperatorCommand):
    help = "Price real past jobs under another plan version, a draft too. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--plan", required=True, help="slug, or slug:version.")
        parser.add_argument("--since", required=True, type=datetime.fromisoformat)
        parser.add_argument("--until", type=datetime.fromisoformat)
        parser.add_argument("--team")
        parser.add_argument("--job-type")
        parser.add_argument("--csv", type=Path, help="Write every job to this file.")

    def operate(self, **options: Any) -> None:
        version = _version(options["plan"])
        repriced = list(
            repricing.reprice(
                plan=plans.read(version),
                since=_utc(options["since"]),
                until=_utc(options["until"]) if options["until"] else None,
                team=directory.find_team(options["team"]) if options["team"] else None,
                job_type=options["job_type"],
            )
        )
        total, teams, losing = repricing.summarize(repriced)
        if options["csv"]:
            _write(options["csv"], repriced)
        rows = [*teams.items(), ("total", total)]
        lines = [
            f"{'':24}{'jobs':>8}{'now, USD':>20}{str(version)[:18]:>20}{'difference':>20}{'to loss':>9}"
        ]
        lines += [
            f"{name:24}{row.jobs:>8}{from_nano(row.current_nano_usd)!s:>20}"
            f"{from_nano(row.candidate_nano_usd)!s:>20}"
            f"{from_nano(row.candidate_nano_usd - row.current_nano_usd)!s:>20}"
            f"{row.jobs_turning_to_loss:>9}"
            for name, row in rows
        ]
        self.answer(
            "\n".join(lines),
            total=total.as_json(),
            teams={name: row.as_json() for name, row in teams.items()},
            jobs_turning_to_loss=[job.job_id for job in losing],
        )


def _version(text: str) -> PlanVersion:
    slug, _, number = text.partition(":")
    versions = plans.find(slug).versions.order_by("-number")
    version = versions.filter(number=number).first() if number.isdigit() else versions.first()
    if version is None:
        raise CommandError(f"There is no plan version {text}.")
    return version


def _write(path: Path, repriced: list[repricing.Repriced]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job_id", "team", "job_type", "cost_usd", "now_usd", "candidate_usd"])
        for job in repriced:
            amounts = (job.provider_cost_nano_usd, job.current_nano_usd, job.candidate_nano_usd)
            writer.writerow(
                [job.job_id, job.team, defused(job.job_type), *(from_nano(a) for a in amounts)]
            )


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
