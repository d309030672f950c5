from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.core.management.base import CommandParser

from jobs import usage_export
from jobs.usage_export import Span
from saas_litellm.base import http
from saas_litellm.base.commands import OperatorCommand
from teams import directory


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Command(OperatorCommand):
    help = (
        "Write usage as JSON lines of OpenMeter's or Lago's events, for those who bill elsewhere."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=usage_export.FORMATS, required=True)
        parser.add_argument("--start", type=_moment, required=True, help="UTC: 2026-03-01.")
        parser.add_argument("--end", type=_moment, required=True, help="The first moment after.")
        parser.add_argument("--team")
        parser.add_argument("--after", default="", help="Go on after the event of this id.")
        parser.add_argument(
            "--batches",
            action="store_true",
            help=f"Each line is the body of one request, with up to {usage_export.BATCH} events.",
        )

    def operate(self, **options: Any) -> None:
        team = directory.find_team(options["team"]) if options["team"] else None
        span = Span(start=options["start"], end=options["end"], team=team)
        write = usage_export.FORMATS[options["format"]]
        written = map(write, usage_export.events(span, after=options["after"]))
        lines: Iterable[Any] = written
        if options["batches"]:
            lines = (usage_export.batch_of(options["format"], some) for some in _batches(written))
        for line in lines:
            self.stdout.write(http.encode(line).decode())


def _batches(written: Iterator[Any]) -> Iterator[list[Any]]:
    while some := list(islice(written, usage_export.BATCH)):
        yield some
