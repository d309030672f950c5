"""A team's money as its own ledger lines tell it.

An organization's wallet serves several teams. A team that draws on it sees its own lines and those
of the wallet as a whole (credits that came in or expired), and no other team's; so no running
balance. One that drew on it once sees what it used there itself, and nothing else of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import Account, Entry, Grant
from jobs.models import Job
from saas_litellm.base import shown
from saas_litellm.base.money import from_nano
from saas_litellm.customers import wallets
from saas_litellm.customers.statement import Run, run_of
from saas_litellm.dashboard.periods import Period
from teams.models import Team

# What a customer got or bought; a refund's and an adjustment's lots are no receipts.
RECEIPT_KINDS = (Grant.Kind.PURCHASE, Grant.Kind.SUBSCRIPTION, Grant.Kind.PROMOTIONAL)
_NOBODYS = ~Q(labels__has_key="team")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A wallet as one team may see it; ``account`` is None before its first use."""

    team: Team
    account: Account | None
    is_shared: bool
    is_in_use: bool

    @property
    def key(self) -> str:
        """As links have it."""
        return "organization" if self.is_shared else "team"

    @property
    def name(self) -> str:
        """As people read it."""
        return "the organization's wallet" if self.is_shared else "the team's own wallet"

    def seen(self, run: Run) -> QuerySet[Entry]:
        """Of the wallet's lines, those that are the team's business, oldest first."""
        entries = run.entries.order_by("id")
        if not self.is_shared:
            return entries
        own = Q(labels__team=self.team.slug)
        return entries.filter(own | _NOBODYS if self.is_in_use else own)


def in_use(team: Team) -> Wallet:
    """The wallet the team draws on. Looks only: it makes no account."""
    is_shared = team.draws_on == Team.Wallet.ORGANIZATION
    return Wallet(team=team, account=wallets.find(team), is_shared=is_shared, is_in_use=True)


def of(team: Team) -> list[Wallet]:
    """The wallet the team draws on, and then the one that it drew on before, if there is one."""
    current = in_use(team)
    other = _own_of(team) if current.is_shared else _organizations_once_drawn_on(team)
    if other is None:
        return [current]
    earlier = Wallet(team=team, account=other, is_shared=not current.is_shared, is_in_use=False)
    return [current, earlier]


def used_by_day(team: Team, *, start: date, end: date) -> dict[date, int]:
    """Net nanocredits of each day from ``start`` up to but not including ``end``."""
    used = {start + timedelta(days=n): 0 for n in range((end - start).days)}
    for work in _work(team, start=start, end=end):
        rows = work.annotate(day=TruncDate("created_at", tzinfo=UTC)).values_list("day")
        for day, amount in rows.annotate(Sum("amount_nanocredits")):
            # A clock that differs may put a line just beyond the days asked for.
            used[min(max(day, start), end - timedelta(days=1))] -= amount
    return used


def used_by_type(team: Team, *, start: date, end: date) -> list[tuple[str, int]]:
    """Net nanocredits by job type, the most first; "" is what belongs to no job."""
    used: dict[str, int] = defaultdict(int)
    for work in _work(team, start=start, end=end):
        rows = work.values_list("labels__job_type").annotate(Sum("amount_nanocredits"))
        for name, amount in rows:
            used[name or ""] -= amount
    return sorted(used.items(), key=lambda row: (-row[1], row[0]))


def receipts(team: Team) -> QuerySet[Grant]:
    """What came into the wallets that are the team's to know of as a whole. Newest first."""
    whole = [w.account for w in of(team) if w.account and (w.is_in_use or not w.is_shared)]
    return (
        Grant.objects.filter(entry__account__in=whole, kind__in=RECEIPT_KINDS)
        .select_related("entry__account__organization", "entry__payment")
        .order_by("-entry_id")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Some days of one wallet. ``opening`` and ``closing`` are None where teams share it."""

    wallet: Wallet
    entries: QuerySet[Entry]
    opening: int | None
    closing: int | None
    sums: list[tuple[str, int]]
    count: int


def statement(wallet: Wallet, *, start: date, end: date) -> Statement:
    """From ``start`` up to but not including ``end``, oldest line first."""
    if wallet.account is None:
        return Statement(
            wallet=wallet, entries=Entry.objects.none(), opening=0, closing=0, sums=[], count=0
        )
    run = _run(wallet.account, start=start, end=end)
    entries = wallet.seen(run)
    found = entries.order_by().values_list("kind")
    rows = list(found.annotate(Sum("amount_nanocredits"), Count("pk")))
    return Statement(
        wallet=wallet,
        entries=entries,
        opening=None if wallet.is_shared else run.opening,
        closing=None if wallet.is_shared else run.closing,
        sums=sorted((str(Entry.Kind(kind).label), amount) for kind, amount, _ in rows),
        count=sum(count for _, _, count in rows),
    )


def lines(wallet: Wallet, *, start: date, end: date) -> QuerySet[Entry]:
    """Those of the statement alone."""
    if wallet.account is None:
        return Entry.objects.none()
    return wallet.seen(_run(wallet.account, start=start, end=end))


def columns(wallet: Wallet) -> list[str]:
    """Those of a statement's CSV."""
    shown_always = ["at", "line", "kind", "job_type", "reference", "reason", "credits"]
    return shown_always if wallet.is_shared else [*shown_always, "balance"]


def row(entry: Entry, wallet: Wallet) -> dict[str, Any]:
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
    if not wallet.is_shared:
        line["balance"] = from_nano(entry.balance_after_nanocredits)
    return line


def paid(nano_usd: int) -> str:
    """What was paid, as an invoice has it: at least cents."""
    return shown.usd(nano_usd) if nano_usd % 10**7 == 0 else f"${from_nano(nano_usd)}"


def _own_of(team: Team) -> Account | None:
    return Account.objects.filter(team=team).first()


def _organizations_once_drawn_on(team: Team) -> Account | None:
    """Only where the team's work, or a month's minimum, was paid from it."""
    account = Account.objects.filter(organization=team.organization_id).first()
    if account is None:
        return None
    minimums = Entry.objects.filter(
        account=account, reference__startswith=f"minimum:{team.pk}:", labels__team=team.slug
    )
    worked = Job.objects.filter(team=team, account_id=account.pk)
    return account if worked.exists() or minimums.exists() else None


def _run(account: Account, *, start: date, end: date) -> Run:
    return run_of(account, Period(key="custom", start=start, end=end))


def _work(team: Team, *, start: date, end: date) -> Iterator[QuerySet[Any]]:
    """By wallet, the lines of the team's own work: charges, and what came back."""
    for wallet in of(team):
        if wallet.account is not None:
            run = _run(wallet.account, start=start, end=end)
            yield run.entries.filter(labels__team=team.slug).order_by()
