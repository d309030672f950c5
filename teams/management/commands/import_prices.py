from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from django.core.management.base import CommandError, CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import cost_map, price_changes, prices
from teams.price_changes import Kind
from teams.prices import UnitPrices


class Command(OperatorCommand):
    help = "Seed unit prices from the cost map bundled with litellm, showing what changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Show, change nothing.")
        parser.add_argument("--only", action="append", default=[], help="A glob on the model.")

    def operate(self, *, dry_run: bool, only: list[str], **options: Any) -> None:
        try:
            listed = cost_map.bundled()
        except cost_map.CostMapMissing as error:
            raise CommandError(str(error)) from error
        models = {
            entry.model
            for entry in listed
            if not only or any(fnmatch(entry.model, glob) for glob in only)
        }
        known = {key: UnitPrices.from_json(row.rates) for key, row in prices.current_all().items()}
        found = price_changes.diff(listed, known, only=models)
        sheets = {line.price_key: line.new for line in found.lines if line.new is not None}
        if not dry_run:
            prices.import_sheets(sheets, source=cost_map.SOURCE, actor=self.actor)
        added, changed = found.of(Kind.NEW), found.of(Kind.CHANGED)
        refused = found.of(Kind.REFUSED)
        self.answer(
            "\n".join([*_shown(found), _summary(found, dry_run=dry_run)]),
            added=[line.price_key for line in added],
            changed=[line.price_key for line in changed],
            unchanged=found.unchanged,
            refused={line.price_key: line.problem for line in refused},
            dry_run=dry_run,
        )


def _shown(found: price_changes.Diff) -> list[str]:
    lines = []
    for one in found.lines:
        match one.kind:
            case Kind.REFUSED:
                lines.append(f"! {one.price_key}  refused: {one.problem}")
            case Kind.NEW if one.new:
                lines.append(f"+ {one.price_key}  {price_changes.line(one.new)}")
            case Kind.CHANGED if one.old and one.new:
                lines.append(f"~ {one.price_key}  {price_changes.line(one.old)}")
                lines.append(f"  {' ' * len(one.price_key)}→ {price_changes.line(one.new)}")
    return lines


def _summary(found: price_changes.Diff, *, dry_run: bool) -> str:
    return (
        f"{len(found.of(Kind.NEW))} added, {len(found.of(Kind.CHANGED))} changed,"
        f" {found.unchanged} unchanged, {len(found.of(Kind.REFUSED))} refused"
        f"{' (dry run: nothing written)' if dry_run else ''}"
    )
