"""What a team got and paid, and its statement of a month, on pages and as CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse

from billing import ledger
from billing.models import Entry, Grant
from payments import currencies
from payments.models import Payment
from saas_litellm.base import clock, shown
from saas_litellm.base.csv_files import csv_stream
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid, NotFound
from saas_litellm.customers.statement import batches
from saas_litellm.portal import wallets
from saas_litellm.portal.access import Visit, team_page
from saas_litellm.portal.wallets import Wallet
from teams.models import Team

ROWS = 100


@team_page
def receipts(visit: Visit) -> HttpResponse:
    """Credits that came in, newest first."""
    page = Paginator(wallets.receipts(visit.team), ROWS).get_page(visit.request.GET.get("page"))
    rows = [_receipt(grant) for grant in page]
    return visit.show("portal/receipts.html", {"rows": rows, "page": page})


@team_page
def receipt(visit: Visit, number: int) -> HttpResponse:
    """One of them, to print."""
    grant = wallets.receipts(visit.team).filter(pk=number).first()
    if grant is None:
        raise NotFound("There is no such receipt.")
    return visit.show("portal/receipt.html", {"row": _receipt(grant), "now": clock.now()})


@team_page
def statement(visit: Visit) -> HttpResponse:
    """Every ledger line of a month."""
    start, end = _month(visit.request.GET.get("month"))
    wallet, others = _wallet(visit.team, visit.request.GET.get("wallet"))
    found = wallets.statement(wallet, start=start, end=end)
    paginator = Paginator(found.entries, ROWS)
    paginator.count = found.count
    page = paginator.get_page(visit.request.GET.get("page"))
    this_month = clock.now().date().replace(day=1)
    return visit.show(
        "portal/statement.html",
        {
            "start": start,
            "before": _before(start),
            "after": end if start < this_month else None,
            "wallet": wallet,
            "others": others,
            "opening": _amount(found.opening),
            "closing": _amount(found.closing),
            "sums": [(kind, shown.credit_amount(amount)) for kind, amount in found.sums],
            "rows": [_line(entry, is_shared=wallet.is_shared) for entry in page],
            "page": page,
        },
    )


@team_page
def statement_csv(visit: Visit) -> StreamingHttpResponse:
    """The same lines with every digit, sent as they are read."""
    start, end = _month(visit.request.GET.get("month"))
    wallet, _ = _wallet(visit.team, visit.request.GET.get("wallet"))
    return csv_stream(
        _batches(wallet, wallets.lines(wallet, start=start, end=end)),
        columns=wallets.columns(wallet),
        filename=f"{visit.team.slug}-{start:%Y-%m}.csv",
    )


async def _batches(wallet: Wallet, entries: QuerySet[Entry]) -> AsyncIterator[list[dict[str, Any]]]:
    async for batch in batches(entries):
        yield [wallets.row(entry, wallet) for entry in batch]


def _receipt(grant: Grant) -> dict[str, Any]:
    entry = grant.entry
    return {
        "pk": grant.pk,
        "number": f"R-{entry.pk}",
        "at": entry.created_at,
        "kind": grant.get_kind_display(),
        "credits": shown.credit_amount(entry.amount_nanocredits),
        "exact": str(from_nano(entry.amount_nanocredits)),
        "paid": wallets.paid(grant.paid_nano_usd),
        "reference": ledger.payment_reference(entry) or entry.reason,
        "expires_at": grant.expires_at,
        "organization": entry.account.organization,
        "payment": _payment(entry),
    }


def _payment(entry: Entry) -> dict[str, Any] | None:
    """What Stripe says of a purchase that was paid there."""
    payment: Payment | None = getattr(entry, "payment", None)
    if payment is None:
        return None
    return {
        "price": currencies.shown(payment.received_minor, payment.currency),
        "card": payment.card,
        "receipt_url": payment.receipt_url,
        "returned": payment.returned_minor
        and currencies.shown(payment.returned_minor, payment.currency),
        "taken": shown.exact(payment.taken_nanocredits),
    }


def _line(entry: Any, *, is_shared: bool) -> dict[str, Any]:
    return {
        "at": entry.created_at,
        "kind": entry.get_kind_display(),
        "what": entry.labels.get("job_type") or entry.reason,
        "detail": entry.reason if entry.labels.get("job_type") else "",
        "amount": shown.credit_amount(entry.amount_nanocredits),
        "exact": str(from_nano(entry.amount_nanocredits)),
        "balance": "" if is_shared else shown.credit_amount(entry.balance_after_nanocredits),
    }


def _month(text: str | None) -> tuple[date, date]:
    """Its first day and that of the next one. Raises Invalid."""
    start = clock.now().date().replace(day=1)
    if text:
        try:
            start = date.fromisoformat(f"{text}-01")
        except ValueError as error:
            raise Invalid("A month reads 2026-03.", param="month") from error
    if not 2000 <= start.year <= 9000:
        raise Invalid("That month lies too far away.", param="month")
    return start, (start + timedelta(days=31)).replace(day=1)


def _before(start: date) -> date:
    return (start - timedelta(days=1)).replace(day=1)


def _wallet(team: Team, key: str | None) -> tuple[Wallet, list[Wallet]]:
    """The wallet asked for, or the one in use; and the team's other one."""
    found = wallets.of(team)
    chosen = next((wallet for wallet in found if wallet.key == key), found[0])
    return chosen, [wallet for wallet in found if wallet.key != chosen.key]


def _amount(nanocredits: int | None) -> str | None:
    return None if nanocredits is None else shown.credit_amount(nanocredits)
