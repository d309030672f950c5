from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import directory
from teams.models import AccessGroup, Alias, Team


class Command(OperatorCommand):
    help = "Create a team in an organization, with access groups and a default alias."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--organization", required=True)
        parser.add_argument("--name", default="")
        parser.add_argument("--group", action="append", default=[], help="May be repeated.")
        parser.add_argument("--default-alias")
        parser.add_argument("--draws-on", choices=Team.Wallet.values, default=Team.Wallet.TEAM)

    def operate(self, **options: Any) -> None:
        groups = list(AccessGroup.objects.filter(name__in=options["group"]))
        missing = set(options["group"]) - {group.name for group in groups}
        if missing:
            raise CommandError(f"There is no access group {', '.join(sorted(missing))}.")
        alias = None
        if options["default_alias"]:
            alias = Alias.objects.filter(name=options["default_alias"]).first()
            if alias is None:
                raise CommandError(f"There is no alias {options['default_alias']}.")
        team = directory.create_team(
            slug=options["slug"],
            name=options["name"],
            organization=directory.find_organization(options["organization"]),
            actor=self.actor,
            access_groups=groups,
            default_alias=alias,
            draws_on=options["draws_on"],
        )
        self.answer(f"Created the team {team.slug}.", team=team.slug)
