from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobs import partitions
from jobs.partitions import Planned
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Make the tables of attempts or of kept payloads into partitions (docs/scaling.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        show = acts.add_parser("show", help="The size of each table that grows with calls.")
        attempts = acts.add_parser("attempts", help="By month. Calls wait until it is done.")
        payloads = acts.add_parser(
            "payloads", help="By the day or month they expire in. Calls wait until it is done."
        )
        payloads.add_argument(
            "--by",
            choices=partitions.STEPS,
            default="day",
            help="Expired payloads are dropped so many at a time: within a day, or a month.",
        )
        for act in (attempts, payloads):
            act.add_argument(
                "--dry-run", action="store_true", help="Say what would be done, and do nothing."
            )
        for act in (show, attempts, payloads):
            act.add_argument("--json", action="store_true")

    def operate(self, **options: Any) -> None:
        getattr(self, options["act"])(**options)

    def show(self, **_: Any) -> None:
        sizes = partitions.sizes()
        lines = [
            f"{row['table']:<18} {row['bytes']:>15,} bytes {row['rows']:>13,} rows"
            f" {row['partitions']:>4} partitions"
            for row in sizes
        ]
        self.answer("\n".join(lines), tables=sizes)

    def attempts(self, *, dry_run: bool, **_: Any) -> None:
        self._apply(partitions.plan_attempts(), is_dry=dry_run)

    def payloads(self, *, dry_run: bool, by: str, **_: Any) -> None:
        self._apply(partitions.plan_payloads(step=by), is_dry=dry_run)

    def _apply(self, planned: Planned, *, is_dry: bool) -> None:
        table, names = planned.form.table, [partition.name for partition in planned.partitions]
        if is_dry:
            rows = sum(planned.rows.values())
            parts = "\n".join(f"  {part.name} {part.bounds}" for part in planned.partitions)
            key, unique = (", ".join(c) for c in (planned.form.primary_key, planned.form.unique))
            self.answer(
                f"{table} would become {len(names)} partitions, {rows:,} rows moved:\n{parts}\n"
                f"Primary key: {key}. Unique in each partition only: {unique}.",
                table=table,
                partitions=names,
                rows=rows,
                is_done=False,
            )
            return
        moved = partitions.apply(planned, actor=self.actor, told=self._told)
        self.answer(
            f"{table} has {len(names)} partitions now; {moved:,} rows were moved.",
            table=table,
            partitions=names,
            rows=moved,
            is_done=True,
        )

    def _told(self, name: str, rows: int) -> None:
        self.stderr.write(f"{name}: {rows:,} rows")
