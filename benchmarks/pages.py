"""Every page at size: `python -m benchmarks.pages [part of a page's name]`.

Opens the pages of the admin and of the portal, and some lists of the API, on the database that
DATABASE_URL names, which has been seeded before (`manage.py seed_demo --size large`). Time is that
of the handler: middleware, view and template, without a network. Whatever it needs beside (people
who sign in, a key) and whatever pages write happens in one transaction, which is rolled back.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import scratch
from benchmarks.pages_opened import Page, every_page

LIMIT_MS = 300
# After a first opening, which also reads templates: so many more, or what fits into the seconds.
OPENINGS, SECONDS = 7, 4.0


@dataclass(slots=True)
class Meter:
    """Counts the statements of whichever connection it hangs on, and the time they take."""

    queries: int = 0
    seconds: float = 0.0

    def __call__(self, execute: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*args)
        finally:
            self.queries += 1
            self.seconds += time.perf_counter() - began

    def reset(self) -> None:
        self.queries, self.seconds = 0, 0.0


@dataclass(slots=True)
class Measured:
    """Milliseconds: of the first opening, of all others; ``database`` and ``queries`` at the median."""

    name: str
    first: float
    others: list[float] = field(default_factory=list)
    database: float = 0.0
    queries: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.others)

    def __str__(self) -> str:
        mark = "  <--" if self.median > LIMIT_MS else ""
        return (
            f"{self.name:<44} {self.median:>8.0f} {max(self.others):>8.0f} {self.first:>8.0f}"
            f" {self.queries:>8} {self.database:>8.0f}{mark}"
        )


def main(wanted: str = "") -> int:
    """Exit status: 1 if a page was slower than LIMIT_MS, 2 if there is nothing to measure."""
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        print("Set DATABASE_URL to a database that has been migrated and seeded.")
        return 2
    _set_up(url)
    from django.db import connection, transaction

    from jobs.models import Job

    if not Job.objects.exists():
        print("Nothing is in there: manage.py migrate, then manage.py seed_demo --size large")
        return 2
    with transaction.atomic():
        found = _measure_all(every_page(), wanted)
        transaction.set_rollback(True)
    connection.close()
    slow = [measured.name for measured in found if measured.median > LIMIT_MS]
    print(f"{len(found)} pages; slower than {LIMIT_MS} ms: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


def _set_up(url: str) -> None:
    warnings.filterwarnings("ignore", "No directory at")
    os.environ |= {"ALLOWED_HOSTS": "localhost"}
    scratch.set_up(url)
    from asgiref.sync import sync_to_async
    from django.conf import settings

    from saas_litellm.base import bridge

    # Nobody collected static files; and what is asked of the API sees this transaction.
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    bridge.database_sync_to_async = lambda work, **_: sync_to_async(work)  # type: ignore[assignment]


def _measure_all(pages: Iterable[Page], wanted: str) -> list[Measured]:
    from django.db import connection

    meter, found = Meter(), []
    print(
        f"{'page, ms':<44} {'median':>8} {'worst':>8} {'first':>8} {'queries':>8} {'database':>8}"
    )
    with connection.execute_wrapper(meter):
        for page in pages:
            if wanted in page.name:
                found.append(_measure(page, meter))
                print(found[-1], flush=True)
    return found


def _measure(page: Page, meter: Meter) -> Measured:
    measured = Measured(page.name, _open(page, meter))
    until, in_database = time.perf_counter() + SECONDS, []
    while not measured.others or (len(measured.others) < OPENINGS and time.perf_counter() < until):
        measured.others.append(_open(page, meter))
        in_database.append(meter.seconds * 1000)
    measured.queries, measured.database = meter.queries, statistics.median(in_database)
    return measured


def _open(page: Page, meter: Meter) -> float:
    """Milliseconds to the whole answer; of a stream, to its first piece with rows."""
    meter.reset()
    began = time.perf_counter()
    answer = page.client.get(page.address, headers=page.headers)
    if answer.streaming:
        asyncio.run(_begin(answer))
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != 200:
        raise RuntimeError(f"{page.name}: {answer.status_code} at {page.address}")
    return took


async def _begin(answer: Any) -> None:
    pieces = aiter(answer)
    await anext(pieces)
    await anext(pieces)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
