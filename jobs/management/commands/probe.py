from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobs import probing
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Call every deployment once (a few paid tokens each) and report how it answers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--alias", default="", help="Only the deployments of this alias.")
        parser.add_argument("--timeout", type=float, default=30, help="Seconds for each.")

    def operate(self, **options: Any) -> None:
        found = probing.probe(alias=options["alias"], timeout_seconds=options["timeout"])
        lines = [
            f"{'ok  ' if one.is_well else 'FAIL'} {one.deployment}  {one.latency_ms} ms"
            f"  {one.cost_usd} USD  {one.detail}"
            for one in found
        ]
        self.answer(
            "\n".join(lines) or "No active deployment.",
            deployments=[asdict(one) for one in found],
        )
        ill = sum(not one.is_well for one in found)
        if ill:
            raise CommandError(f"{ill} of {len(found)} deployments did not answer.")
