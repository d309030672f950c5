from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing import plans
from jobs import shadows
from jobs.models import Shadow, ShadowDay
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano
from teams import directory


class Command(OperatorCommand):
    help = "Let a plan version price live jobs beside the real plan, charging nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["start", "stop", "show"])
        parser.add_argument("plan", nargs="?", help="slug:version, to start one.")
        parser.add_argument("--id", type=int, help="Which shadow to stop.")
        parser.add_argument("--team", help="Default: every team.")

    def operate(self, **options: Any) -> None:
        getattr(self, f"_{options['act']}")(options)

    def _start(self, options: dict[str, Any]) -> None:
        slug, _, number = (options["plan"] or "").partition(":")
        version = plans.find(slug).versions.filter(number=int(number or 0)).first()
        if version is None:
            raise CommandError("Name the version: shadow_plan start PLAN:VERSION.")
        shadow = shadows.start(
            version=version,
            team=directory.find_team(options["team"]) if options["team"] else None,
            actor=self.actor,
        )
        self.answer(f"Started shadow {shadow.pk} of {version}.", id=shadow.pk)

    def _stop(self, options: dict[str, Any]) -> None:
        shadow = Shadow.objects.filter(pk=options["id"]).first()
        if shadow is None:
            raise CommandError("Name the shadow to stop: --id, as `shadow_plan show` lists it.")
        shadows.stop(shadow=shadow, actor=self.actor)
        self.answer(f"Stopped shadow {shadow.pk}.", id=shadow.pk)

    def _show(self, options: dict[str, Any]) -> None:
        shadows.price_due()
        days = ShadowDay.objects.select_related("shadow__version__plan", "team")
        rows = [
            {
                "shadow": day.shadow_id,
                "plan": str(day.shadow.version),
                "day": day.day,
                "team": day.team.slug,
                "jobs": day.jobs,
                "real_usd": from_nano(day.real_nano_usd),
                "shadow_usd": from_nano(day.shadow_nano_usd),
                "difference_usd": from_nano(day.difference_nano_usd),
            }
            for day in days[:1000]
        ]
        lines = ["  ".join(str(value) for value in row.values()) for row in rows]
        self.answer("\n".join(lines) or "No job has been priced in shadow yet.", days=rows)
