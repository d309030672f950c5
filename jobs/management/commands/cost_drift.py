from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobs import drift
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano


class Command(OperatorCommand):
    help = "Show where the cost per job moved against the four weeks before, and why."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--percent", type=int, default=20)
        parser.add_argument("--least-jobs", type=int, default=20)

    def operate(self, **options: Any) -> None:
        found = drift.find(percent=options["percent"], least_jobs=options["least_jobs"])
        lines = [
            f"{row.alias}, {row.job_type}: {row.percent} % a job"
            f" ({from_nano(row.before)} to {from_nano(row.after)} USD):"
            f" price {from_nano(row.price)}, cache {from_nano(row.cache)},"
            f" tokens {from_nano(row.tokens)}"
            for row in found
        ]
        self.answer("\n".join(lines) or "No drift.", drifts=[row.as_json() for row in found])
