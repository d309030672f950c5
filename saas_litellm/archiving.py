"""Archiving a closed month of the ledger: what it asks for first, and the proof that it changed nothing.

The whole is one transaction that sees one state of the database: the books are verified, the
charges moved (``billing.ledger.archive``), the books verified again. Whatever fails, and whoever
kills it, leaves the ledger as it was.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import orjson
from django.db import IntegrityError, OperationalError, connection, transaction

from billing import guards, lots, revenue
from billing.ledger import archive
from billing.models import ArchivedEntry, ArchivedMonth, Hold
from jobs.models import Job
from saas_litellm import verification
from saas_litellm.base import audit, clock
from saas_litellm.base.refusals import Conflict, Invalid

# The month that runs and the one before: minimums, paces and limits read their lines.
FEWEST_MONTHS = 2
ONLY_POSTGRESQL = (
    "Only a ledger on PostgreSQL is archived. This platform runs on SQLite, which works without"
    " it: set DATABASE_URL first (docs/scaling.md)."
)
Told = Callable[[str], None]


def obstacles(month: date, *, months_kept: int) -> list[str]:
    """Why a month cannot be archived; none if it can. The books themselves are not verified."""
    if connection.vendor != "postgresql":
        return [ONLY_POSTGRESQL]
    found = []
    if ArchivedMonth.objects.filter(month=month).exists():
        found.append(f"{month:%Y-%m} is archived already.")
    begins_kept = clock.now().date().replace(day=1)
    for _ in range(max(months_kept, FEWEST_MONTHS) - 1):
        begins_kept = _month_before(begins_kept)
    _, ends = archive.bounds(month)
    if ends.date() > begins_kept:
        found.append(f"Months from {begins_kept:%Y-%m} on are kept.")
    jobs = Job.objects.filter(status__in=Job.OPEN, created_at__lt=ends).count()
    if jobs:
        found.append(f"{jobs} jobs of that time are still open: close them first.")
    holds = Hold.objects.filter(state=Hold.State.OPEN, created_at__lt=ends).count()
    if holds:
        found.append(f"{holds} holds of that time are still open.")
    kept = revenue.last_kept()
    if kept is None or kept < archive.bounds(month)[1].date() - date.resolution:
        found.append("Its days of revenue are not kept yet: the worker does that.")
    return found


def archive_month(
    month: date, *, months_kept: int, actor: str, told: Told = lambda _: None
) -> ArchivedMonth:
    """Archive it. Raises Invalid or Conflict, and has then changed nothing."""
    if connection.vendor != "postgresql":
        raise Invalid(ONLY_POSTGRESQL)
    lots.fold_all()
    guards.refuse_archived_keys()
    with _one_state():
        _require(obstacles(month, months_kept=months_kept))
        there = archive.candidates(month)
        if there["unfolded"]:
            raise Conflict(f"{there['unfolded']} charges are not attributed to lots yet.")
        told("Verifying the books ...")
        _verify("before")
        told(f"Moving {there['lines']:,} charges of {there['accounts']:,} accounts ...")
        made = archive.move_out(month, actor=actor)
        audit.record(
            actor=actor,
            action="ledger.archive",
            target=f"month:{month:%Y-%m}",
            lines=made.lines,
            nanocredits=str(made.amount_nanocredits),
        )
        told("Verifying them again ...")
        _verify("after")
    return made


def restore_month(month: date, *, actor: str, told: Told = lambda _: None) -> int:
    """Bring an archived month's charges back; returns how many. Raises Invalid or Conflict."""
    found = find(month)
    with _one_state():
        told("Verifying the books ...")
        _verify("before")
        moved = archive.move_back(found)
        audit.record(
            actor=actor, action="ledger.restore", target=f"month:{month:%Y-%m}", lines=moved
        )
        told("Verifying them again ...")
        _verify("after")
    return moved


def find(month: date) -> ArchivedMonth:
    """Raises Invalid."""
    found = ArchivedMonth.objects.filter(month=month).first()
    if found is None:
        raise Invalid(f"{month:%Y-%m} is not archived.", param="month")
    return found


def write(month: date, folder: Path) -> dict[str, Any]:
    """An archived month as a file of JSON lines, compressed, with a manifest beside it.

    The same month gives the same bytes. Returns the manifest.
    """
    found = find(month)
    name = f"ledger-{month:%Y-%m}"
    digest, file = hashlib.sha256(), io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
        for entry in ArchivedEntry.objects.filter(archived=found).order_by("id").iterator(2000):
            line = orjson.dumps(_as_json(entry), option=orjson.OPT_SORT_KEYS) + b"\n"
            digest.update(line)
            packed.write(line)
    manifest = {
        "file": f"{name}.jsonl.gz",
        "month": f"{month:%Y-%m}",
        "lines": found.lines,
        "amount_nanocredits": found.amount_nanocredits,
        "price_nano_usd": found.price_nano_usd,
        "sha256_of_lines": digest.hexdigest(),
        "sha256_of_file": hashlib.sha256(file.getvalue()).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / f"{name}.jsonl.gz", file.getvalue())
    _put(folder / f"{name}.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return manifest


def check_file(manifest_path: Path) -> dict[str, Any]:
    """Read a written month again: it is whole, adds up, and says what the archive says.

    Raises Invalid where it does not.
    """
    manifest: dict[str, Any] = orjson.loads(manifest_path.read_bytes())
    content = (manifest_path.parent / manifest["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256_of_file"]:
        raise Invalid(f"{manifest['file']} is not the file that was written.")
    lines = gzip.decompress(content).splitlines(keepends=True)
    written = [orjson.loads(line) for line in lines]
    sums = {
        "lines": len(written),
        "amount_nanocredits": sum(line["amount_nanocredits"] for line in written),
        "price_nano_usd": sum(line["price_nano_usd"] or 0 for line in written),
        "sha256_of_lines": hashlib.sha256(b"".join(lines)).hexdigest(),
    }
    found = ArchivedMonth.objects.filter(month=f"{manifest['month']}-01").first()
    for name, value in sums.items():
        if manifest[name] != value:
            raise Invalid(f"{manifest['file']}: {name} is {value}, not {manifest[name]}.")
        if found is not None and value != getattr(found, name, value):
            raise Invalid(f"{manifest['file']}: {name} is {value}, the archive says otherwise.")
    return manifest


def _as_json(entry: ArchivedEntry) -> dict[str, Any]:
    names = [field.attname for field in ArchivedEntry._meta.concrete_fields]
    return {name: getattr(entry, name) for name in names if name != "archived_id"}


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    beside = path.with_suffix(".part")
    beside.write_bytes(content)
    beside.replace(path)


@contextmanager
def _one_state() -> Iterator[None]:
    """A transaction that sees one state of the database; what changed meanwhile undoes it all."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                if not connection.savepoint_ids:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except (IntegrityError, OperationalError) as error:
        raise Conflict(
            f"Its lines changed meanwhile, nothing was done: {str(error).splitlines()[0]}"
        ) from error


def _verify(when: str) -> None:
    found = verification.verify()
    if found:
        raise Conflict(
            f"The books do not agree {when} it, nothing was done: {found[0]}"
            + (f" and {len(found) - 1} more" if found[1:] else "")
        )


def _require(found: list[str]) -> None:
    if found:
        raise Conflict(" ".join(found))


def _month_before(month: date) -> date:
    return (month - date.resolution).replace(day=1)
