from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from saas_litellm import checks, worker

# So many rounds may take long, or fail, before it counts as dead.
MISSED_ROUNDS = 8
SHORTEST_SECONDS = 120


class Command(BaseCommand):
    help = "Do the background work until stopped: sweep dead calls, close idle jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--beat-file",
            type=Path,
            metavar="FILE",
            help="Touch this file after each round, for --is-alive.",
        )
        parser.add_argument(
            "--is-alive",
            type=Path,
            metavar="FILE",
            help="Do no work: succeed if the worker that touches this file ended a round lately.",
        )

    def handle(
        self, *args: Any, beat_file: Path | None, is_alive: Path | None, **options: Any
    ) -> None:
        if is_alive is not None:
            _require_beat(is_alive)
            return
        if problem := checks.refusal_to_serve():
            raise CommandError(f"Refusing to work.\n{problem}\nLocally, `make run` sets all of it.")
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        self.stdout.write("worker: running; Ctrl-C ends it")
        worker.run_until(stopped, after_round=beat_file.touch if beat_file else None)
        self.stdout.write("worker: stopped")


def _require_beat(file: Path) -> None:
    late = max(SHORTEST_SECONDS, MISSED_ROUNDS * settings.SWEEP_INTERVAL_SECONDS)
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        raise CommandError(f"{file} is not there: no round has ended yet.") from error
    if age > late:
        raise CommandError(f"The last round ended {age:.0f} seconds ago.")
