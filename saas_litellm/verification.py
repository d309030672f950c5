"""Do the books agree? Each invariant of the money, checked over every row.

I1 balance = Σ entries · I2 held = Σ open holds · I3 held ≤ balance + credit limit · I4 at most one
charge per call and per job, its amount the one its stored snapshot gives · I6 job totals = Σ its
calls, cost = Σ cost lines · I7 no hold or call is open past its end. (I5 is about lots, which are
not folded yet.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from billing import plans
from billing.models import Account, Entry, Hold
from billing.pricing import Measure
from jobs import costs
from jobs.models import Call, CostLine, Job
from jobs.usage import Usage
from saas_litellm.base import clock
from teams.prices import UnitPrices

CHUNK = 2_000


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
        _charges_of_calls,
        _charges_of_jobs,
        _orphan_charges,
        _job_totals,
        _overdue,
    )
    with transaction.atomic():
        if connection.vendor == "postgresql" and not connection.savepoint_ids:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return [violation for check in checks for violation in check()]


def _accounts() -> Iterator[Violation]:
    entered = _sums(Entry.objects.values_list("account_id").annotate(Sum("amount_nanocredits")))
    opened = Hold.objects.filter(state=Hold.State.OPEN)
    held = _sums(opened.values_list("account_id").annotate(Sum("amount_nanocredits")))
    running: dict[int, int] = defaultdict(int)
    for entry in Entry.objects.order_by("id").iterator(CHUNK):
        running[entry.account_id] += entry.amount_nanocredits
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


def _charges_of_calls() -> Iterator[Violation]:
    charges = {
        entry.reference: entry
        for entry in Entry.objects.filter(kind=Entry.Kind.CHARGE, reference__startswith="call:")
    }
    calls = Call.objects.select_related("job", "alias")
    for call in calls.filter(status=Call.Status.SETTLED).iterator(CHUNK):
        entry = charges.get(f"call:{call.pk}")
        taken = -entry.amount_nanocredits if entry else 0
        if taken != call.charged_nanocredits:
            yield Violation("I4", f"call {call.pk}", f"charged {taken} by the ledger")
        price = _price_again(call)
        if price != call.price_nanocredits:
            yield Violation("I4", f"call {call.pk}", f"its snapshot gives the price {price}")


def _charges_of_jobs() -> Iterator[Violation]:
    charged = _sums(
        Entry.objects.filter(kind=Entry.Kind.CHARGE, reference__startswith="job:")
        .values_list("reference")
        .annotate(Sum("amount_nanocredits"))
    )
    for job in Job.objects.iterator(CHUNK):
        rule = plans.load(job.plan_version_id).flat_rule(job.job_type)
        is_charged = rule is not None and job.status == Job.Status.COMPLETED
        expected = rule.price_nanocredits if rule is not None and is_charged else 0
        if -charged[f"job:{job.pk}"] != expected:
            yield Violation("I4", f"job {job.pk}", f"its flat charge should be {expected}")


def _orphan_charges() -> Iterator[Violation]:
    references = {f"call:{pk}" for pk in Call.objects.values_list("pk", flat=True)}
    references |= {f"job:{pk}" for pk in Job.objects.values_list("pk", flat=True)}
    seen: set[str] = set()
    for entry in Entry.objects.filter(kind=Entry.Kind.CHARGE).iterator(CHUNK):
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
        of_job["overrun"] += call.overrun_nanocredits
        of_job["held"] += call.held_nanocredits if is_running else 0
    for job in Job.objects.select_related("hold").iterator(CHUNK):
        yield from _job_against(job, sums[job.pk])


def _job_against(job: Job, of_calls: dict[str, int]) -> Iterator[Violation]:
    plan = plans.load(job.plan_version_id)
    rule = plan.flat_rule(job.job_type)
    flat = rule.price_nanocredits if rule else 0
    is_charged = job.status == Job.Status.COMPLETED
    expected = {
        "in_flight": of_calls["in_flight"],
        "total_tokens": of_calls["tokens"],
        "provider_cost_nano_usd": of_calls["cost"],
        "overrun_nanocredits": of_calls["overrun"],
        "charged_nanocredits": of_calls["charged"] + (flat if is_charged else 0),
        "price_nano_usd": of_calls["price"] + (plan.nano_usd(flat) if is_charged else 0),
        "held_nanocredits": of_calls["held"] + (flat if job.is_open else 0),
    }
    for name, value in expected.items():
        if getattr(job, name) != value:
            yield Violation("I6", f"job {job.pk}", f"{name} should be {value}")
    if job.successful_calls + job.failed_calls != of_calls["finished"]:
        yield Violation("I6", f"job {job.pk}", f"{of_calls['finished']} of its calls have ended")


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


def _price_again(call: Call) -> int:
    """The price from what the call stored: usage, unit prices, plan version."""
    usage = Usage.from_json(call.usage or {})
    measure = Measure(
        provider_cost_nano_usd=costs.provider_cost_nano_usd(
            prices=UnitPrices.from_json(call.unit_prices), usage=usage
        ),
        input_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )
    return plans.load(call.job.plan_version_id).call_price(
        job_type=call.job.job_type, alias=call.alias.name, measure=measure
    )


def _sums(rows: Any) -> dict[Any, int]:
    return defaultdict(int, {key: int(total or 0) for key, total in rows})
