"""Do the lines carried forward agree with the archived charges that they stand for?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from billing.ledger import archive
from billing.models import ArchivedEntry, ArchivedMonth, Draw, Entry

CHUNK = 2_000
# An invariant's name, the row that breaks it, and how.
Found = tuple[str, str, str]


def carried_lines() -> Iterator[Found]:
    """Each carried line is the charges that it stands for, and each of its draws is theirs."""
    lines: dict[Any, int] = defaultdict(int)
    amounts: dict[Any, int] = defaultdict(int)
    drawn: dict[Any, int] = defaultdict(int)
    for entry in ArchivedEntry.objects.iterator(CHUNK):
        reference = archive.reference(entry.archived_id)
        lines[reference] += 1
        amounts[entry.account_id, reference, entry.labels.get("team")] += entry.amount_nanocredits
        for lot_id, amount, paid in entry.draws:
            drawn[lot_id, reference] += amount
            drawn[lot_id, reference, "paid"] += paid
    for entry in Entry.objects.filter(kind=Entry.Kind.CARRIED).iterator(CHUNK):
        key = (entry.account_id, entry.reference, entry.labels.get("team"))
        if entry.amount_nanocredits != amounts.pop(key, 0):
            yield "I1", f"entry {entry.pk}", "is not the charges that it carries forward"
    for draw in Draw.objects.filter(entry__kind=Entry.Kind.CARRIED).select_related("entry"):
        drawn[draw.lot_id, draw.entry.reference] -= draw.amount_nanocredits
        drawn[draw.lot_id, draw.entry.reference, "paid"] -= draw.paid_nano_usd
    for account_id, reference, _ in amounts:
        yield "I1", f"account {account_id}", f"has no line {reference}"
    for lot_id, reference, *_ in (key for key, left in drawn.items() if left):
        yield "I5", f"lot {lot_id}", f"its draws of {reference} are not the charges'"
    for month in ArchivedMonth.objects.all():
        if month.lines != lines[archive.reference(month.month)]:
            yield "I1", f"archived month {month}", f"should have {month.lines} lines"


def add_archived(sums: dict[Any, int], prefix: str) -> None:
    """Add archived charges to sums by reference, of those that begin with ``prefix``."""
    found = ArchivedEntry.objects.filter(reference__startswith=prefix).order_by()
    for reference, amount in found.values_list("reference", "amount_nanocredits").iterator(CHUNK):
        sums[reference] += amount
