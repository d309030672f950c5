from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from teams import directory


class Command(OperatorCommand):
    help = "Create an organization."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--name", default="")

    def operate(self, *, slug: str, name: str, **options: Any) -> None:
        organization = directory.create_organization(slug=slug, name=name, actor=self.actor)
        self.answer(f"Created the organization {organization.slug}.", organization=slug)
