"""Do the books agree? Each invariant of the money, checked over every row.

I1 balance = Σ entries · I2 held = Σ open holds, in accounts and in budgets · I3 held ≤ balance +
credit limit · I4 at most one charge per call, job and team-month, its amount the one its stored
snapshot gives · I5 Σ remaining lots − debt = balance − Σ entries after the fold · I6 job totals =
Σ its calls, cost = Σ cost lines, profit by day = Σ the work · I7 no hold or call is open past its
end · I8 a payment's ledger lines and losses are what it brought in, less what was taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Sum

from billing import plans
from billing.ledger import archive
from billing.models import (
    Account,
    ArchivedEntry,
    BudgetPeriod,
    Draw,
    Entry,
    Fold,
    Hold,
    Loss,
    Lot,
    MonthlyMinimum,
)
from jobs import partitions, repricing, rollups
from jobs.models import Call, CostLine, Job
from payments.models import Payment
from saas_litellm import archive_checks
from saas_litellm.base import alarms, clock
from saas_litellm.base.models import LedgerCheck

CHUNK = 2_000
EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    row: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.row}: {self.detail}"


def verify() -> list[Violation]:
    """Every violation there is, from one snapshot of the database."""
    checks: tuple[Callable[[], Iterator[Violation]], ...] = (
        _accounts,
        _apart,
        _charges_of_calls,
        _charges_of_jobs,
        _charges_of_months,
        _orphan_charges,
        _lots,
        _budgets,
        _job_totals,
        _profit,
        _overdue,
        _payments,
    )
    with _snapshot():
        return [violation for check in checks for violation in check()]


@contextmanager
def _snapshot() -> Iterator[None]:
    """All reads inside see one state of the database, and keep nobody from writing."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        # Django's own transactions begin IMMEDIATE here: they would hold the one writer's place.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        return
    with transaction.atomic():
        if connection.vendor == "postgresql" and not connection.savepoint_ids:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def check() -> list[Violation]:
    """Verify, keep when and with what result, and sound an alarm for findings."""
    started_at = clock.now()
    found = verify()
    LedgerCheck.objects.create(
        started_at=started_at,
        seconds=(clock.now() - started_at).total_seconds(),
        findings=len(found),
        examples=[str(violation) for violation in found[:EXAMPLES]],
    )
    if found:
        alarms.sound(kind="ledger.violated", subject=found[0].row, detail=str(found[0]))
    return found


def is_check_due() -> bool:
    """Whether the last one is LEDGER_CHECK_HOURS old, and no other worker has begun since."""
    hours = settings.LEDGER_CHECK_HOURS
    if not hours:
        return False
    last = LedgerCheck.objects.first()
    if last is not None and last.started_at > clock.now() - timedelta(hours=hours):
        return False
    return bool(cache.add("ledger-check", "begun", timeout=3600))


def _accounts() -> Iterator[Violation]:
    entered = _sums(Entry.objects.values_list("account_id").annotate(Sum("amount_nanocredits")))
    opened = Hold.objects.filter(state=Hold.State.OPEN)
    held = _sums(opened.values_list("account_id").annotate(Sum("amount_nanocredits")))
    running: dict[int, int] = defaultdict(int)
    carried = archive.newest_carried()
    for entry in Entry.objects.order_by("id").iterator(CHUNK):
        running[entry.account_id] += entry.amount_nanocredits
        if entry.pk < carried.get(entry.account_id, 0):
            # Charges that stood between these lines are archived: the carried line has them all.
            continue
        if running[entry.account_id] != entry.balance_after_nanocredits:
            yield Violation("I1", f"entry {entry.pk}", "its balance after is not the running sum")
            running[entry.account_id] = entry.balance_after_nanocredits
    for account in Account.objects.iterator(CHUNK):
        row = f"account {account.pk}"
        if account.balance_nanocredits != entered[account.pk]:
            yield Violation("I1", row, f"balance differs from its entries ({entered[account.pk]})")
        if account.held_nanocredits != held[account.pk]:
            yield Violation("I2", row, f"held differs from its open holds ({held[account.pk]})")
        if account.available_nanocredits < 0:
            yield Violation("I3", row, "more is held than there is")


def _apart() -> Iterator[Violation]:
    """What no constraint of the database spans: archived charges, and attempts in partitions."""
    for found in chain(archive_checks.carried_lines(), partitions.attempts_twice()):
        yield Violation(*found)


def _charges_of_calls() -> Iterator[Violation]:
    taken = _sums(
        Entry.objects.filter(reference__startswith="call:")
        .exclude(kind=Entry.Kind.REFUND)
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    archive_checks.add_archived(taken, "call:")
    refunded = _refunds("call:")
    calls = Call.objects.select_related("job", "alias")
    for call in calls.filter(status=Call.Status.SETTLED).iterator(CHUNK):
        reference = f"call:{call.pk}"
        if -taken[reference] != call.charged_nanocredits:
            yield Violation("I4", f"call {call.pk}", f"charged {-taken[reference]} by the ledger")
        if refunded[reference] != call.refunded_nanocredits:
            yield Violation(
                "I4", f"call {call.pk}", f"refunded {refunded[reference]} in the ledger"
            )
        price = repricing.booked_price(call)
        if price != call.price_nanocredits:
            yield Violation("I4", f"call {call.pk}", f"its snapshot gives the price {price}")


def _charges_of_jobs() -> Iterator[Violation]:
    charged = _sums(
        Entry.objects.filter(kind=Entry.Kind.CHARGE, reference__startswith="job:")
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    archive_checks.add_archived(charged, "job:")
    refunded = _refunds("job:")
    delivered = set(Call.objects.filter(is_output_delivered=True).values_list("job_id", flat=True))
    for job in Job.objects.iterator(CHUNK):
        reference = f"job:{job.pk}"
        if -charged[reference] != job.base_charged_nanocredits:
            yield Violation("I4", f"job {job.pk}", f"charged {-charged[reference]} by the ledger")
        if refunded[reference] != job.base_refunded_nanocredits:
            yield Violation("I4", f"job {job.pk}", f"refunded {refunded[reference]} in the ledger")
        price = repricing.booked_base_price(job, is_delivered=job.pk in delivered)
        if price != job.base_charged_nanocredits + job.base_overrun_nanocredits:
            yield Violation("I4", f"job {job.pk}", f"its own price should be {price}")


def _charges_of_months() -> Iterator[Violation]:
    charged = _sums(
        Entry.objects.filter(kind=Entry.Kind.CHARGE, reference__startswith="minimum:")
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    for minimum in MonthlyMinimum.objects.iterator(CHUNK):
        row = f"minimum:{minimum.team_id}:{minimum.month:%Y-%m}"
        if -charged[row] != minimum.charged_nanocredits:
            yield Violation("I4", row, f"charged {-charged[row]} by the ledger")
        price = max(0, minimum.minimum_nanocredits - minimum.spent_nanocredits)
        if price != minimum.charged_nanocredits + minimum.overrun_nanocredits:
            yield Violation("I4", row, f"its price should be {price}")


def _orphan_charges() -> Iterator[Violation]:
    references = {f"call:{pk}" for pk in Call.objects.values_list("pk", flat=True)}
    references |= {f"job:{pk}" for pk in Job.objects.values_list("pk", flat=True)}
    references |= {
        f"minimum:{team_id}:{month:%Y-%m}"
        for team_id, month in MonthlyMinimum.objects.values_list("team_id", "month")
    }
    seen: set[str] = set()
    for entry in chain(
        Entry.objects.filter(kind=Entry.Kind.CHARGE).iterator(CHUNK),
        ArchivedEntry.objects.iterator(CHUNK),
    ):
        if entry.reference not in references:
            yield Violation("I4", f"entry {entry.pk}", f"charges {entry.reference}, unknown")
        if entry.reference in seen:
            yield Violation("I4", f"entry {entry.pk}", f"charges {entry.reference} again")
        seen.add(entry.reference)


def _job_totals() -> Iterator[Violation]:
    lines = _sums(CostLine.objects.values_list("call_id").annotate(Sum("amount_nano_usd")))
    sums: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for call in Call.objects.iterator(CHUNK):
        if lines[call.pk] != call.provider_cost_nano_usd:
            yield Violation("I6", f"call {call.pk}", "its cost is not the sum of its cost lines")
        of_job = sums[call.job_id]
        is_running = call.status in Call.RUNNING
        of_job["in_flight"] += is_running
        of_job["finished"] += not is_running
        of_job["tokens"] += call.total_tokens
        of_job["cost"] += call.provider_cost_nano_usd
        of_job["charged"] += call.charged_nanocredits
        of_job["price"] += call.price_nano_usd
        of_job["refunded"] += call.refunded_nanocredits
        of_job["refunded_usd"] += call.refunded_nano_usd
        of_job["overrun"] += call.overrun_nanocredits
        of_job["held"] += call.held_nanocredits if is_running else 0
    for job in Job.objects.select_related("hold").iterator(CHUNK):
        yield from _job_against(job, sums[job.pk])


def _job_against(job: Job, of_calls: dict[str, int]) -> Iterator[Violation]:
    rule = plans.load(job.plan_version_id).flat_rule(job.job_type)
    flat = rule.price_nanocredits if rule and job.is_open else 0
    expected = {
        "in_flight": of_calls["in_flight"],
        "total_tokens": of_calls["tokens"],
        "provider_cost_nano_usd": of_calls["cost"],
        "overrun_nanocredits": of_calls["overrun"] + job.base_overrun_nanocredits,
        "charged_nanocredits": of_calls["charged"] + job.base_charged_nanocredits,
        "price_nano_usd": of_calls["price"] + job.base_price_nano_usd,
        "refunded_nanocredits": of_calls["refunded"] + job.base_refunded_nanocredits,
        "refunded_nano_usd": of_calls["refunded_usd"] + job.base_refunded_nano_usd,
        "held_nanocredits": of_calls["held"] + flat,
    }
    for name, value in expected.items():
        if getattr(job, name) != value:
            yield Violation("I6", f"job {job.pk}", f"{name} should be {value}")
    if job.successful_calls + job.failed_calls != of_calls["finished"]:
        yield Violation("I6", f"job {job.pk}", f"{of_calls['finished']} of its calls have ended")


def _lots() -> Iterator[Violation]:
    remaining = _sums(Lot.objects.values_list("account_id").annotate(Sum("remaining_nanocredits")))
    folds = {fold.account_id: fold for fold in Fold.objects.all()}
    for account in Account.objects.iterator(CHUNK):
        fold = folds.get(account.pk) or Fold(account=account)
        later = Entry.objects.filter(account=account, pk__gt=fold.entry_id)
        unfolded = sum(later.values_list("amount_nanocredits", flat=True))
        if remaining[account.pk] - fold.debt_nanocredits != account.balance_nanocredits - unfolded:
            yield Violation("I5", f"account {account.pk}", "its lots do not add up to its balance")
    drawn = _sums(Draw.objects.values_list("lot_id").annotate(Sum("amount_nanocredits")))
    for lot in Lot.objects.iterator(CHUNK):
        if lot.amount_nanocredits - lot.remaining_nanocredits != drawn[lot.pk]:
            yield Violation("I5", f"lot {lot.pk}", "its draws do not give what remains")


def _budgets() -> Iterator[Violation]:
    held: dict[int, int] = defaultdict(int)
    used: dict[int, int] = defaultdict(int)
    in_budgets = Hold.objects.exclude(budget_period_ids=[])
    references: dict[str, list[int]] = {}
    for hold in in_budgets.iterator(CHUNK):
        references[hold.reference] = hold.budget_period_ids
        for period_id in hold.budget_period_ids:
            held[period_id] += hold.amount_nanocredits if hold.state == Hold.State.OPEN else 0
    for entry in chain(
        Entry.objects.filter(idempotency_key__startswith="charge:").iterator(CHUNK),
        ArchivedEntry.objects.iterator(CHUNK),
    ):
        for period_id in references.get(entry.reference, ()):
            used[period_id] -= entry.amount_nanocredits
    for period in BudgetPeriod.objects.iterator(CHUNK):
        if period.held_nanocredits != held[period.pk]:
            yield Violation("I2", f"budget period {period.pk}", "held differs from its open holds")
        if period.used_nanocredits < used[period.pk]:
            yield Violation("I1", f"budget period {period.pk}", "used is below its charges")


def _profit() -> Iterator[Violation]:
    for difference in rollups.compare():
        yield Violation("I6", "profit report", difference)


def _overdue() -> Iterator[Violation]:
    limit = clock.now() - timedelta(seconds=settings.SWEEP_INTERVAL_SECONDS)
    for hold in Hold.objects.filter(state=Hold.State.OPEN, expires_at__lt=limit):
        yield Violation("I7", f"hold {hold.reference}", "open past its expiry")
    for call in Call.objects.filter(status__in=Call.RUNNING, expires_at__lt=limit):
        yield Violation("I7", f"call {call.pk}", "running past its expiry")
    owned = set(Job.objects.filter(status__in=Job.OPEN).values_list("hold_id", flat=True))
    for hold in Hold.objects.filter(state=Hold.State.OPEN, expires_at=None):
        if hold.pk not in owned:
            yield Violation("I7", f"hold {hold.reference}", "open although its job is closed")


def _payments() -> Iterator[Violation]:
    of_payments = {"reference__startswith": "payment:"}
    entered = _sums(
        Entry.objects.filter(**of_payments)
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    lost = _sums(
        Loss.objects.filter(**of_payments)
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    for payment in Payment.objects.exclude(entry=None).iterator(CHUNK):
        row = payment.reference
        if entered.pop(row, 0) != payment.nanocredits - payment.taken_nanocredits:
            yield Violation("I8", row, "its ledger lines are not what it brought in")
        if lost[row] != payment.lost_nanocredits:
            yield Violation("I8", row, f"its losses add up to {lost[row]}")
    for row in entered:
        yield Violation("I8", row, "has ledger lines and no payment")


def _refunds(prefix: str) -> dict[str, int]:
    return _sums(
        Entry.objects.filter(kind=Entry.Kind.REFUND, reference__startswith=prefix)
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )


def _sums(rows: Any) -> dict[Any, int]:
    return defaultdict(int, {key: int(total or 0) for key, total in rows})
