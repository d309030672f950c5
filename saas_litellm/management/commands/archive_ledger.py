from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing.ledger import archive
from saas_litellm import archiving
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano


def _month(text: str) -> date:
    return date.fromisoformat(f"{text}-01")


class Command(OperatorCommand):
    help = "Move the charges of a closed month out of the ledger, or back (docs/scaling.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        plan = acts.add_parser("plan", help="What would be moved, and what stands against it.")
        run = acts.add_parser("run", help="Archive it, with the books verified before and after.")
        restore = acts.add_parser("restore", help="Bring an archived month's charges back.")
        write = acts.add_parser("write", help="An archived month as a file with its manifest.")
        check = acts.add_parser("check", help="Read such a file again and compare its sums.")
        for act in (plan, run, restore, write):
            act.add_argument("month", type=_month, help="As 2026-03.")
        for act in (plan, run):
            act.add_argument(
                "--months-kept",
                type=int,
                default=3,
                help=f"The newest months that stay, the one that runs included; at least"
                f" {archiving.FEWEST_MONTHS}.",
            )
        write.add_argument("folder", type=Path, help="Where to.")
        check.add_argument(
            "manifest", type=Path, help="The file's manifest, as ledger-2026-03.json."
        )
        for act in (plan, run, restore, write, check):
            act.add_argument("--json", action="store_true")

    def operate(self, **options: Any) -> None:
        getattr(self, f"_{options['act']}")(**options)

    def _plan(self, *, month: date, months_kept: int, **_: Any) -> None:
        found = archiving.obstacles(month, months_kept=months_kept)
        if found == [archiving.ONLY_POSTGRESQL]:
            raise CommandError(archiving.ONLY_POSTGRESQL)
        there = archive.candidates(month)
        self.answer(
            "\n".join(
                [
                    f"{there['lines']:,} charges of {there['accounts']:,} accounts would be moved.",
                    *found,
                ]
            ),
            **there,
            obstacles=found,
        )

    def _run(self, *, month: date, months_kept: int, **_: Any) -> None:
        made = archiving.archive_month(
            month, months_kept=months_kept, actor=self.actor, told=self.stderr.write
        )
        self.answer(
            f"{made.lines:,} charges of {month:%Y-%m} are archived:"
            f" {from_nano(-made.amount_nanocredits)} credits. The books agree.",
            month=f"{month:%Y-%m}",
            lines=made.lines,
            credits=str(from_nano(-made.amount_nanocredits)),
        )

    def _restore(self, *, month: date, **_: Any) -> None:
        moved = archiving.restore_month(month, actor=self.actor, told=self.stderr.write)
        self.answer(
            f"{moved:,} charges of {month:%Y-%m} are back in the ledger. The books agree.",
            month=f"{month:%Y-%m}",
            lines=moved,
        )

    def _write(self, *, month: date, folder: Path, **_: Any) -> None:
        manifest = archiving.write(month, folder)
        self.answer(f"{folder / manifest['file']}: {manifest['lines']:,} charges.", **manifest)

    def _check(self, *, manifest: Path, **_: Any) -> None:
        try:
            found = archiving.check_file(manifest)
        except (OSError, ValueError, KeyError) as error:
            raise CommandError(f"{manifest}: {error}") from error
        self.answer(f"{found['file']} is whole: {found['lines']:,} charges.", **found)
