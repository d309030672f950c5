"""A statement: the ledger's lines of one account in a period, each with the balance after it.

Ids of one account grow in the order of commit, so a period is a run of ids: what came before it
gives the opening balance, and opening, lines and closing add up whatever a clock says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q, QuerySet, Sum
from django.http import StreamingHttpResponse
from django.urls import reverse

from billing.models import Account, Entry
from saas_litellm.base import clock, shown
from saas_litellm.base.bridge import in_database
from saas_litellm.base.csv_files import csv_stream
from saas_litellm.base.days import midnight
from saas_litellm.base.money import from_nano
from saas_litellm.customers.parts import Figure, credit_figure
from saas_litellm.dashboard import periods
from saas_litellm.dashboard.periods import Period

ROWS = 50
ROWS_AT_ONCE = 1000
CLOCKS_DIFFER = timedelta(minutes=10)
COLUMNS = ("at", "kind", "credits", "balance", "reference", "reason", "actor", "entry")
_PAGES = {"job": "admin:jobs_job_change", "call": "admin:jobs_call_change"}


@dataclass(frozen=True, slots=True)
class Line:
    entry: Entry

    @property
    def amount(self) -> str:
        sign = "+" if self.entry.amount_nanocredits > 0 else ""
        return f"{sign}{shown.credit_amount(self.entry.amount_nanocredits)}"

    @property
    def balance(self) -> str:
        return shown.credit_amount(self.entry.balance_after_nanocredits)

    @property
    def exact_amount(self) -> str:
        return f"{from_nano(self.entry.amount_nanocredits)} credits"

    @property
    def exact_balance(self) -> str:
        return f"{from_nano(self.entry.balance_after_nanocredits)} credits"

    @property
    def subject(self) -> str:
        """job, call, lot, topup, ...: what kind of thing the line is about."""
        return self.entry.reference.partition(":")[0]

    @property
    def about(self) -> str:
        """What people wrote; of a charge the platform wrote only what the link says."""
        return "" if self.entry.kind == Entry.Kind.CHARGE and self.link else self.entry.reason

    @property
    def link(self) -> str:
        """The job or call that the line is about."""
        kind, _, pk = self.entry.reference.partition(":")
        return reverse(_PAGES[kind], args=[pk]) if kind in _PAGES and pk else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The entries after ``after`` up to ``last``, ids; balances in nanocredits."""

    account_id: int
    after: int
    last: int
    opening: int
    closing: int

    @property
    def entries(self) -> QuerySet[Any]:
        return Entry.objects.filter(account=self.account_id, pk__gt=self.after, pk__lte=self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One page of it, the newest line first; sums are of the whole period, in nanocredits."""

    period: Period
    run: Run
    came_in: int
    went_out: int
    count: int
    number: int
    lines: Sequence[Line]

    @property
    def pages(self) -> int:
        return max(1, -(-self.count // ROWS))

    @property
    def newer(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def older(self) -> int | None:
        return self.number + 1 if self.number < self.pages else None


def period_of(query: Mapping[str, str], account: Account | None) -> Period:
    """As the overview's (``?period=``), and ``all``: since the account's first line."""
    today = clock.now().date()
    if query.get("period") == "all":
        first = Entry.objects.filter(account=account).order_by("id").first() if account else None
        start = first.created_at.date() if first else today
        return Period(key="all", start=start, end=today + timedelta(days=1))
    return periods.of_query(query, today=today)


def of(account: Account, period: Period, *, number: int = 1) -> Statement:
    """Page ``number`` of the period's lines; one beyond the last is the last."""
    run = run_of(account, period)
    positive = Q(amount_nanocredits__gt=0)
    sums = run.entries.order_by().aggregate(
        count=Count("pk"),
        came_in=Sum("amount_nanocredits", filter=positive, default=0),
        went_out=Sum("amount_nanocredits", filter=~positive, default=0),
    )
    pages = max(1, -(-sums["count"] // ROWS))
    number = min(max(1, number), pages)
    entries = run.entries.order_by("-id")[(number - 1) * ROWS : number * ROWS]
    return Statement(
        period=period, run=run, number=number, lines=[Line(entry) for entry in entries], **sums
    )


def figures(found: Statement) -> list[Figure]:
    """What came and went in the whole period, between the balances before and after."""
    return [
        credit_figure("Before", found.run.opening),
        credit_figure("Came in", found.came_in),
        credit_figure("Went out", found.went_out),
        credit_figure("After", found.run.closing),
    ]


def query_of(period: Period) -> str:
    """The period as its page's address says it."""
    if period.key != "custom":
        return urlencode({"period": period.key})
    return urlencode({"period": "custom", "from": period.start, "to": period.last})


def run_of(account: Account, period: Period) -> Run:
    before = _last_before(account, period.start)
    after, opening = before
    last, closing = max(before, _last_before(account, period.end))
    return Run(account_id=account.pk, after=after, last=last, opening=opening, closing=closing)


def last_lines(account: Account | None, *, count: int) -> list[Line]:
    """The newest lines, whatever the period."""
    entries = Entry.objects.filter(account=account).order_by("-id")[:count] if account else []
    return [Line(entry) for entry in entries]


def as_csv(run: Run, *, filename: str) -> StreamingHttpResponse:
    """Every line of the period, the oldest first, with all digits."""
    return csv_stream(_batches(run), columns=COLUMNS, filename=filename)


async def _batches(run: Run) -> AsyncIterator[list[dict[str, Any]]]:
    async for entries in batches(run.entries):
        yield [
            {
                "at": entry.created_at.isoformat(),
                "kind": entry.kind,
                "credits": from_nano(entry.amount_nanocredits),
                "balance": from_nano(entry.balance_after_nanocredits),
                "reference": entry.reference,
                "reason": entry.reason,
                "actor": entry.actor,
                "entry": entry.pk,
            }
            for entry in entries
        ]


async def batches(entries: QuerySet[Entry]) -> AsyncIterator[list[Entry]]:
    """So many at once, the oldest first: lines of any number in little memory."""
    last = 0
    while batch := await in_database(_batch, entries, last):
        last = batch[-1].pk
        yield batch


def _batch(entries: QuerySet[Entry], after: int) -> list[Entry]:
    return list(entries.filter(pk__gt=after).order_by("id")[:ROWS_AT_ONCE])


def _last_before(account: Account, day: date) -> tuple[int, int]:
    """Id and balance of the last entry before a day.

    Found by its time, and then by id among its neighbours: processes' clocks differ a little.
    """
    entries = Entry.objects.filter(account=account, created_at__lt=midnight(day))
    newest = entries.order_by("-created_at").values_list("created_at", flat=True).first()
    if newest is None:
        return 0, 0
    found = (
        entries.filter(created_at__gte=newest - CLOCKS_DIFFER)
        .order_by("-id")
        .values_list("pk", "balance_after_nanocredits")
        .first()
    )
    return found or (0, 0)
