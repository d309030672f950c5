"""Days that are over, as files in a folder whose manifest says what is there: each once.

A file is named for its table and day. A day that is in the manifest is written again only when its
rows changed since (a refund, a late settlement), as the next revision, and the one before is then
removed. Each row carries its file's serial number: of two rows with one id the store keeps the one
with the greater. A run that is killed leaves at most a file that the manifest does not name, which
the next run writes again.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from jobs.warehouse import writers
from jobs.warehouse.tables import TABLES, Table
from saas_litellm.base import clock, replica
from saas_litellm.base.refusals import Conflict, Invalid

# What ended before midnight has committed by then.
SETTLED_AFTER = timedelta(hours=1)
MANIFEST = "manifest.json"
SAVED_EACH_SECONDS = 5


@dataclass(slots=True, kw_only=True)
class Written:
    """One file of the manifest: what is in it, and until when that is known to be so."""

    table: str
    day: str
    revision: int
    serial: int
    file: str
    totals: dict[str, int]
    bytes: int
    sha256: str
    checked_at: str


@replica.reading()
def export(
    folder: Path,
    *,
    format_: str,
    first: date | None = None,
    last: date | None = None,
    is_rechecked: bool = False,
    told: Callable[[Written], None] = lambda _: None,
) -> list[Written]:
    """Write the days from ``first`` to ``last`` that are over and not there; returns what it wrote.

    ``is_rechecked``: sum every day there is again, not only those that may have changed. Raises
    Invalid for another format than the folder's or without pyarrow, Conflict while another export
    writes there.
    """
    if format_ == "parquet":
        writers.require_parquet()
    over = (clock.now() - SETTLED_AFTER).date() - timedelta(days=1)
    last = min(last or over, over)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Written] = []
    with _alone(folder):
        known = _Manifest.read(folder, format_)
        for table in TABLES:
            begins = first or table.first_day()
            for day in _days(begins, last) if begins else ():
                written = _export_day(known, table, day, is_rechecked=is_rechecked)
                if written is not None:
                    made.append(written)
                    told(written)
        known.save()
    return made


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises Invalid where there is none."""
    try:
        manifest: dict[str, Any] = orjson.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Invalid(f"There is no {MANIFEST} in {folder}.") from None
    return manifest


@dataclass(slots=True, kw_only=True)
class _Manifest:
    folder: Path
    format_: str
    serial: int
    files: dict[tuple[str, str], Written]
    replaced: list[Path] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)

    @classmethod
    def read(cls, folder: Path, format_: str) -> _Manifest:
        if not (folder / MANIFEST).exists():
            return cls(folder=folder, format_=format_, serial=0, files={})
        kept = read_manifest(folder)
        if kept["format"] != format_:
            raise Invalid(f"{folder} holds {kept['format']}: choose another folder.")
        files = [Written(**file) for file in kept["files"]]
        return cls(
            folder=folder,
            format_=format_,
            serial=kept["serial"],
            files={(file.table, file.day): file for file in files},
        )

    def take(self, written: Written, *, instead_of: Written | None) -> None:
        """What is not saved yet when the process dies is written again, as it was."""
        self.serial = written.serial
        self.files[written.table, written.day] = written
        if instead_of is not None:
            self.replaced.append(self.folder / instead_of.file)
        if time.monotonic() - self.saved_at > SAVED_EACH_SECONDS:
            self.save()

    def save(self) -> None:
        kept = {
            "format": self.format_,
            "serial": self.serial,
            "files": [asdict(file) for _, file in sorted(self.files.items())],
        }
        beside = self.folder / f"{MANIFEST}.part"
        beside.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
        beside.replace(self.folder / MANIFEST)
        self.saved_at = time.monotonic()
        while self.replaced:
            self.replaced.pop().unlink(missing_ok=True)


def _export_day(known: _Manifest, table: Table, day: date, *, is_rechecked: bool) -> Written | None:
    """What was written; None where the day is there as it is."""
    before = known.files.get((table.name, f"{day}"))
    now = clock.now()
    if before is not None:
        since = datetime.fromisoformat(before.checked_at)
        if not (is_rechecked or table.may_have_changed(day, since=since)):
            return None
        if table.summed(day) == before.totals:
            before.checked_at = now.isoformat()
            return None
    revision = before.revision + 1 if before else 1
    write, ending = writers.FORMATS[known.format_]
    name = f"{day}.{ending}" if revision == 1 else f"{day}.r{revision}.{ending}"
    path = known.folder / table.name / name
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f"{name}.part")
    totals: Counter[str] = Counter(dict.fromkeys(("rows", *table.totals), 0))
    write(table, _counted(table, day, totals), beside, serial=known.serial + 1)
    beside.replace(path)
    content = path.read_bytes()
    written = Written(
        table=table.name,
        day=f"{day}",
        revision=revision,
        serial=known.serial + 1,
        file=f"{table.name}/{name}",
        totals=dict(totals),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        checked_at=now.isoformat(),
    )
    known.take(written, instead_of=before)
    return written


def _counted(table: Table, day: date, totals: Counter[str]) -> Iterator[tuple[Any, ...]]:
    for row in table.rows(day):
        table.add(totals, row)
        yield row


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another export is writing to {folder}.") from None
        yield


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)
