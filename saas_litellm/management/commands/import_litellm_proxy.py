from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.proxy_import import carry, config, database
from saas_litellm.proxy_import.carry import Issued, Report


class Command(OperatorCommand):
    help = (
        "Carry the models, teams, limits and budgets of a LiteLLM proxy over, and say what has no"
        " counterpart. What is here already under the same name is left as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("config", metavar="CONFIG.yaml", type=Path)
        parser.add_argument(
            "--database-url",
            default="",
            help="The proxy's PostgreSQL, for its organizations, teams and keys; only read.",
        )
        parser.add_argument(
            "--issue-keys",
            type=Path,
            metavar="FILE",
            help="Issue a new key for each of the proxy's, and write the secrets to this new CSV file.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Tell, change nothing.")

    def operate(
        self,
        *,
        config: Path,
        database_url: str,
        issue_keys: Path | None,
        dry_run: bool,
        **options: Any,
    ) -> None:
        given = _read_config(config)
        books = database.read(database_url) if database_url else database.Books()
        # The secrets are on disk before the keys are in the database, or there are no keys.
        with transaction.atomic():
            report = carry.carry(
                given,
                books,
                actor=self.actor,
                is_issuing_keys=issue_keys is not None,
                is_dry=dry_run,
            )
            if issue_keys and report.issued:
                _write(issue_keys, report.issued)
        self.answer(
            "\n".join(_shown(report, is_dry=dry_run)),
            made=report.made,
            there=report.there,
            changed=report.changed,
            left_out=report.left_out,
            keys_issued=len(report.issued),
            dry_run=dry_run,
        )


def _read_config(path: Path) -> config.Config:
    try:
        return config.read(path.read_text(), os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _write(path: Path, issued: Sequence[Issued]) -> None:
    """Readable by its owner alone. A file that is there is never written over."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"The keys cannot be written to {path}: {error}") from error
    with os.fdopen(descriptor, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["team", "name", "key"])
        lines.writerows([one.team, one.name, one.secret] for one in issued)


def _shown(report: Report, *, is_dry: bool) -> list[str]:
    parts = (
        ("Made" if not is_dry else "Would be made (dry run: nothing written)", report.made),
        ("Here already", report.there),
        ("Changed on the way", report.changed),
        ("Left out", report.left_out),
    )
    return [
        line
        for title, lines in parts
        if lines
        for line in (f"{title}:", *(f"  {text}" for text in lines))
    ] or ["There was nothing to carry over."]
