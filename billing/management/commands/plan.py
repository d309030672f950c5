from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError, CommandParser

from billing import plan_specs, plans
from billing.models import PlanVersion, PricePlan
from billing.plan_specs import VersionSpec
from saas_litellm.base import http
from saas_litellm.base.commands import OperatorCommand
from teams import directory
from teams.api import parse


class Command(OperatorCommand):
    help = "Show, draft, activate or assign a price plan (docs/selling.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        show = acts.add_parser("show", help="A plan and its versions, as JSON.")
        draft = acts.add_parser("draft", help="A new version from a JSON file; makes the plan.")
        draft.add_argument("file", type=Path)
        activate = acts.add_parser("activate", help="Put a version in effect, for good.")
        activate.add_argument("number", type=int)
        assign = acts.add_parser("assign", help="Put a team or an organization on the plan.")
        owner = assign.add_mutually_exclusive_group(required=True)
        owner.add_argument("--team")
        owner.add_argument("--organization")
        for act in (show, draft, activate, assign):
            act.add_argument("plan")
            act.add_argument("--json", action="store_true")
        for act in (activate, assign):
            act.add_argument("--from", dest="since", type=_moment, help="ISO time, UTC.")

    def operate(self, **options: Any) -> None:
        getattr(self, options["act"])(**options)

    def show(self, *, plan: str, **_: Any) -> None:
        found = plans.find(plan)
        versions = found.versions.select_related("plan")
        shown = [plan_specs.shown(version) for version in versions]
        self.stdout.write(
            orjson.dumps(orjson.loads(http.encode(shown)), option=orjson.OPT_INDENT_2).decode()
        )

    def draft(self, *, plan: str, file: Path, **_: Any) -> None:
        try:
            written = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise CommandError(f"{file}: {error}") from error
        spec = parse(VersionSpec, written)
        found = PricePlan.objects.filter(slug=plan).first() or plan_specs.create_plan(
            slug=plan, name=plan, actor=self.actor
        )
        version = plan_specs.draft(plan=found, spec=spec, actor=self.actor)
        self._answer(version, "drafted; try it with `manage.py reprice`, then activate it")

    def activate(self, *, plan: str, number: int, since: datetime | None, **_: Any) -> None:
        version = plans.find(plan).versions.filter(number=number).first()
        if version is None:
            raise CommandError(f"There is no version {number} of the plan {plan}.")
        plans.activate(version=version, actor=self.actor, effective_from=since)
        self._answer(version, f"in effect from {version.effective_from:%Y-%m-%d %H:%M} UTC")

    def assign(
        self,
        *,
        plan: str,
        team: str | None,
        organization: str | None,
        since: datetime | None,
        **_: Any,
    ) -> None:
        assignment = plans.assign(
            plan=plans.find(plan),
            team=directory.find_team(team) if team else None,
            organization=directory.find_organization(organization) if organization else None,
            actor=self.actor,
            effective_from=since,
        )
        self.answer(
            f"{assignment} from {assignment.effective_from:%Y-%m-%d %H:%M} UTC.",
            plan=plan,
            effective_from=assignment.effective_from,
        )

    def _answer(self, version: PlanVersion, what: str) -> None:
        self.answer(f"{version} is {what}.", plan=version.plan.slug, version=version.number)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
