"""The shape of an operator's command: text or --json, and a refusal is a non-zero exit."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from saas_litellm.base.money import InexactAmount
from saas_litellm.base.refusals import Refusal


class OperatorCommand(BaseCommand):
    """Subclasses implement ``operate`` and answer with ``self.answer``."""

    # Their findings would stand before the answer; `manage.py check` is where they are read.
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("--json", action="store_true", help="Answer as one JSON object.")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_json: bool = options.pop("json")
        try:
            self.operate(**options)
        except (Refusal, InexactAmount, ImproperlyConfigured) as refusal:
            raise CommandError(str(refusal)) from refusal
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f"The database is not ready: {str(error).splitlines()[0]}. Is DATABASE_URL right,"
                " and has `manage.py migrate` run? `manage.py doctor` looks at all of it."
            ) from error

    # Each command names its own options, which no common signature could.
    operate: Callable[..., None]

    def answer(self, text: str, **figures: Any) -> None:
        self.stdout.write(json.dumps(figures, default=str) if self.is_json else text)

    @property
    def actor(self) -> str:
        return f"command:{getpass.getuser()}"
