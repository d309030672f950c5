from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from jobs.warehouse import export, writers
from jobs.warehouse.export import Written
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Write calls, jobs, attempts, cost lines and ledger lines of days that are over as files"
        " for a columnar store (docs/scaling.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="Where to; it goes on where it stopped.")
        parser.add_argument(
            "--format",
            dest="format_",
            choices=writers.FORMATS,
            default="parquet",
            help="Parquet needs requirements-warehouse.txt.",
        )
        parser.add_argument("--from", dest="first", type=date.fromisoformat, help="A UTC day.")
        parser.add_argument("--to", dest="last", type=date.fromisoformat, help="The last day.")
        parser.add_argument(
            "--recheck",
            dest="is_rechecked",
            action="store_true",
            help="Compare every day there is with the database, not only those that may differ.",
        )

    def operate(self, *, folder: Path, **options: Any) -> None:
        named = {name: options[name] for name in ("format_", "first", "last", "is_rechecked")}
        made = export.export(folder, told=self._told, **named)
        rows = sum(written.totals["rows"] for written in made)
        self.answer(
            f"{len(made)} files with {rows:,} rows were written to {folder}."
            if made
            else f"{folder} is up to date.",
            files=[written.file for written in made],
            rows=rows,
        )

    def _told(self, written: Written) -> None:
        self.stderr.write(f"{written.file}: {written.totals['rows']:,} rows")
