"""A team's money as its own ledger lines tell it.

An organization's wallet serves several teams. There a team sees its own lines and those of the
wallet as a whole (credits that came in or expired), and no other team's; so no running balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing import ledger
from billing.models import Account, Entry, Grant
from saas_litellm.base import shown
from saas_litellm.base.money import from_nano
from teams.models import Team

# What a customer got or bought; a refund's and an adjustment's lots are no receipts.
RECEIPT_KINDS = (Grant.Kind.PURCHASE, Grant.Kind.SUBSCRIPTION, Grant.Kind.PROMOTIONAL)
_NOBODYS = ~Q(labels__has_key="team")


def begin(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)


def accounts_of(team: Team) -> list[Account]:
    """The wallet the team draws on, and then the one that it drew on before, if there is one."""
    current = ledger.account_of(team)
    return [current, *Account.objects.filter(_owned_by(team)).exclude(pk=current.pk)]


def is_shared(account: Account) -> bool:
    return account.organization_id is not None


def lines(account: Account, team: Team) -> QuerySet[Entry]:
    """The ledger lines of a wallet that are this team's business."""
    own = Entry.objects.filter(account=account)
    if is_shared(account):
        own = own.filter(Q(labels__team=team.slug) | _NOBODYS)
    return own


def work(team: Team) -> QuerySet[Entry]:
    """The lines of the team's own work, in whichever wallet: charges, and what came back."""
    # Looked up first: with their ids the ledger is read by its index.
    accounts = list(Account.objects.filter(_owned_by(team)).values_list("pk", flat=True))
    return Entry.objects.filter(account__in=accounts, labels__team=team.slug).order_by()


def used_by_day(team: Team, *, start: date, end: date) -> dict[date, int]:
    """Net nanocredits of each day from ``start`` up to but not including ``end``."""
    rows = (
        work(team)
        .filter(created_at__gte=begin(start), created_at__lt=begin(end))
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .values_list("day")
        .annotate(Sum("amount_nanocredits"))
    )
    used = {start + timedelta(days=n): 0 for n in range((end - start).days)}
    return used | {day: -amount for day, amount in rows}


def used_by_type(team: Team, *, start: date, end: date) -> list[tuple[str, int]]:
    """Net nanocredits by job type, the most first; "" is what belongs to no job."""
    rows = (
        work(team)
        .filter(created_at__gte=begin(start), created_at__lt=begin(end))
        .values_list("labels__job_type")
        .annotate(Sum("amount_nanocredits"))
    )
    used = [(name or "", -amount) for name, amount in rows]
    return sorted(used, key=lambda row: (-row[1], row[0]))


def receipts(team: Team) -> QuerySet[Grant]:
    """Newest first."""
    return (
        Grant.objects.filter(
            entry__account__in=[account.pk for account in accounts_of(team)],
            kind__in=RECEIPT_KINDS,
        )
        .select_related("entry__account__organization")
        .order_by("-entry_id")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One month of one wallet. ``opening`` and ``closing`` are None where teams share it."""

    account: Account
    entries: QuerySet[Entry]
    opening: int | None
    closing: int | None
    sums: list[tuple[str, int]]


def statement(account: Account, team: Team, *, start: date, end: date) -> Statement:
    """From ``start`` up to but not including ``end``, oldest line first."""
    mine = lines(account, team)
    entries = mine.filter(created_at__gte=begin(start), created_at__lt=begin(end)).order_by("id")
    sums = entries.order_by().values_list("kind").annotate(Sum("amount_nanocredits"))
    opening = closing = None
    if not is_shared(account):
        opening, closing = _balance(account, begin(start)), _balance(account, begin(end))
    return Statement(
        account=account,
        entries=entries,
        opening=opening,
        closing=closing,
        sums=sorted((str(Entry.Kind(kind).label), amount) for kind, amount in sums),
    )


def row(entry: Entry, *, is_shared: bool) -> dict[str, Any]:
    """A line as its CSV has it: every digit, and numbers as numbers."""
    line = {
        "at": entry.created_at.isoformat(),
        "line": entry.pk,
        "kind": entry.kind,
        "job_type": entry.labels.get("job_type", ""),
        "reference": entry.reference,
        "reason": entry.reason,
        "credits": from_nano(entry.amount_nanocredits),
    }
    if not is_shared:
        line["balance"] = from_nano(entry.balance_after_nanocredits)
    return line


def paid(nano_usd: int) -> str:
    """What was paid, as an invoice has it: at least cents."""
    return shown.usd(nano_usd) if nano_usd % 10**7 == 0 else f"${from_nano(nano_usd)}"


def _owned_by(team: Team) -> Q:
    return Q(team=team) | Q(organization=team.organization_id)


def _balance(account: Account, before: datetime) -> int:
    last = (
        Entry.objects.filter(account=account, created_at__lt=before)
        .order_by("-id")
        .values_list("balance_after_nanocredits", flat=True)
        .first()
    )
    return last or 0
