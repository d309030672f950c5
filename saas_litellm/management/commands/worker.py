from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from saas_litellm import worker


class Command(BaseCommand):
    help = "Do the background work until stopped: sweep dead calls, close idle jobs."

    def handle(self, *args: Any, **options: Any) -> None:
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        self.stdout.write("worker: running; Ctrl-C ends it")
        worker.run_until(stopped)
        self.stdout.write("worker: stopped")
