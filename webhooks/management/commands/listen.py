from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

from django.core.management.base import CommandParser

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.events import TYPES
from saas_litellm.base.refusals import Invalid
from teams import directory
from webhooks import listening, signing
from webhooks.sending import Answer


class Command(OperatorCommand):
    help = (
        "Print events as they happen, and hand them to a local URL as webhooks: for developing"
        " a receiver without a public address."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", help="Its events only; without it, the platform's.")
        parser.add_argument("--types", nargs="+", default=[], help="These types only.")
        parser.add_argument("--forward", metavar="URL", help="Post them there, signed.")
        parser.add_argument("--secret", help="Sign with it; without it, with a new one.")
        parser.add_argument("--seconds", type=float, help="End by itself after so long.")

    def operate(self, **options: Any) -> None:
        team = directory.find_team(options["team"]) if options["team"] else None
        unknown = set(options["types"]) - set(TYPES)
        if unknown:
            raise Invalid(f"There is no type {min(unknown)}: {', '.join(TYPES)}.")
        secret = options["secret"] or signing.new_secret()
        stopped = threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
        if options["forward"]:
            self.stdout.write(f"Signing with {secret}")
        listener = listening.Listening(
            team=team,
            types=options["types"],
            forward=options["forward"],
            secret=secret,
            show=self._show,
            ready=lambda: self._say(f"Listening to {team or 'the platform'}; Ctrl-C ends it"),
        )
        asyncio.run(listener.run(stopped, seconds=options["seconds"]))

    def _show(self, body: bytes, answer: Answer | None) -> None:
        came = "" if answer is None else f"  -> {answer.status or answer.failure}"
        self._say(f"{body.decode()}{came}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
