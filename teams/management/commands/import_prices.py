from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from saas_litellm.base import audit
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_femto, plain
from teams import cost_map, prices
from teams.prices import RATE_NAMES, UnitPrices


class Command(OperatorCommand):
    help = "Seed unit prices from the cost map bundled with litellm, showing what changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Show, change nothing.")
        parser.add_argument("--only", action="append", default=[], help="A glob on the model.")

    def operate(self, *, dry_run: bool, only: list[str], **options: Any) -> None:
        try:
            listed = list(cost_map.priced_models(cost_map.load()))
        except cost_map.CostMapMissing as error:
            raise CommandError(str(error)) from error
        if only:
            listed = [entry for entry in listed if any(fnmatch(entry.model, glob) for glob in only)]
        sheets = {entry.model: entry.prices for entry in listed if entry.prices}
        refused = [(entry.model, entry.problem) for entry in listed if entry.prices is None]
        known = {key: UnitPrices.from_json(row.rates) for key, row in prices.current_all().items()}
        added = sorted(set(sheets) - set(known))
        changed = sorted(
            model for model in sheets if known.get(model, sheets[model]) != sheets[model]
        )
        lines = [f"+ {model}  {_line(sheets[model])}" for model in added]
        for model in changed:
            lines += [
                f"~ {model}  {_line(known[model])}",
                f"  {' ' * len(model)}→ {_line(sheets[model])}",
            ]
        lines += [f"! {model}  refused: {problem}" for model, problem in refused]
        if not dry_run:
            with transaction.atomic():
                prices.publish_all(
                    {model: sheets[model] for model in [*added, *changed]},
                    source="litellm bundled cost map",
                )
                audit.record(
                    actor=self.actor,
                    action="prices.import",
                    target="unit prices",
                    added=len(added),
                    changed=len(changed),
                )
        unchanged = len(sheets) - len(added) - len(changed)
        lines.append(
            f"{len(added)} added, {len(changed)} changed, {unchanged} unchanged,"
            f" {len(refused)} refused{' (dry run: nothing written)' if dry_run else ''}"
        )
        self.answer(
            "\n".join(lines),
            added=added,
            changed=changed,
            unchanged=unchanged,
            refused=dict(refused),
            dry_run=dry_run,
        )


def _line(sheet: UnitPrices) -> str:
    """USD per million tokens, every rate that is set."""
    rates = [
        f"{name} {plain(from_femto(rate) * 10**6)}"
        for name in RATE_NAMES
        if (rate := getattr(sheet.base, name)) is not None
    ]
    tiers = [f"above {tier.above_tokens}" for tier in sheet.tiers]
    return ", ".join([*rates, *tiers])
