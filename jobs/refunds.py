"""Refunds of jobs and calls: credits go back to the wallet, and the totals say so.

A refund corrects one charge, a job's own or a call's, and gives back at most what that charge
took; overrun was never paid and is never refunded. Rows are taken in the order operator, job, call,
account.
"""

from __future__ import annotations

import hashlib

from django.db import transaction
from django.db.models import F, Sum

from billing import ledger
from billing.ledger import archive
from billing.models import Entry
from billing.refusals import IdempotencyKeyReused, RefundBeyondCharge
from jobs import allowance, lifecycle, rollups
from jobs.models import Call, Job
from saas_litellm.base import audit
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from teams.operators import Operator


def refund_job(
    *,
    job: Job,
    nanocredits: int | None,
    reason: str,
    actor: str,
    idempotency_key: str,
    operator: Operator | None = None,
) -> list[Entry]:
    """Refund part or (None) all that is left of a closed job, its newest charges first.

    ``operator``: whose permission and allowance count, when it is not the platform's own doing.
    The same key and amount again return the first refunds. Raises Invalid while the job is open,
    RefundBeyondCharge, IdempotencyKeyReused, Forbidden, RefundBeyondAllowance.
    """
    with transaction.atomic():
        allowance.take_turn(operator)
        lifecycle.lock(job.pk)
        job.refresh_from_db()
        key = _stored(idempotency_key)
        earlier = _earlier(job.account_id, key, nanocredits)
        if earlier:
            return earlier
        if job.is_open:
            raise Invalid("Close the job first: cancel it, or wait for it.", param="job_id")
        left = job.net_nanocredits
        wanted = left if nanocredits is None else nanocredits
        if not 0 < wanted <= left:
            raise RefundBeyondCharge(left=left)
        allowance.require(operator, nanocredits=wanted)
        audit.record(
            actor=actor,
            action="job.refund",
            target=f"job:{job.pk}",
            reason=reason,
            before={"net_credits": str(from_nano(left))},
            after={"net_credits": str(from_nano(left - wanted))},
            credits=str(from_nano(wanted)),
        )
        return spread(job=job, nanocredits=wanted, reason=reason, actor=actor, key=key)


def refund_call(
    *,
    call: Call,
    nanocredits: int | None,
    reason: str,
    actor: str,
    idempotency_key: str,
    operator: Operator | None = None,
) -> Entry:
    """Refund part or (None) all that is left of one settled call. Raises as refund_job does."""
    with transaction.atomic():
        allowance.take_turn(operator)
        lifecycle.lock(call.job_id)
        call.refresh_from_db()
        key = _stored(idempotency_key)
        earlier = _earlier(call.job.account_id, key, nanocredits)
        if earlier:
            return earlier[0]
        left = max(0, call.charged_nanocredits - call.refunded_nanocredits)
        wanted = left if nanocredits is None else nanocredits
        if not 0 < wanted <= left:
            raise RefundBeyondCharge(left=left)
        allowance.require(operator, nanocredits=wanted)
        audit.record(
            actor=actor,
            action="call.refund",
            target=f"call:{call.pk}",
            reason=reason,
            before={"net_credits": str(from_nano(left))},
            after={"net_credits": str(from_nano(left - wanted))},
            credits=str(from_nano(wanted)),
        )
        entry = give_back_call(
            call=call, nanocredits=wanted, reason=reason, actor=actor, key=f"{key}:0"
        )
        assert entry is not None
        return entry


def spread(*, job: Job, nanocredits: int, reason: str, actor: str, key: str) -> list[Entry]:
    """Give an amount back over the job's charges, newest first, in the caller's transaction."""
    references = [f"job:{job.pk}", *(f"call:{pk}" for pk in job.calls.values_list("pk", flat=True))]
    _require_in_ledger(job, references)
    charges = Entry.objects.filter(
        account=job.account_id, kind=Entry.Kind.CHARGE, reference__in=references
    ).order_by("-id")
    before = Entry.objects.filter(corrects__in=charges, kind=Entry.Kind.REFUND).order_by()
    refunded = dict(before.values_list("corrects_id").annotate(Sum("amount_nanocredits")))
    entries: list[Entry] = []
    for number, charge in enumerate(charges):
        left = -charge.amount_nanocredits - refunded.get(charge.pk, 0)
        amount = min(left, nanocredits)
        if amount <= 0:
            continue
        nanocredits -= amount
        entries.append(
            _give_back(
                job=job,
                charge=charge,
                nanocredits=amount,
                reason=reason,
                actor=actor,
                key=f"{key}:{number}",
            )
        )
    if nanocredits > 0:
        raise RefundBeyondCharge(left=sum(entry.amount_nanocredits for entry in entries))
    return entries


def give_back_call(
    *, call: Call, nanocredits: int, reason: str, actor: str, key: str
) -> Entry | None:
    """Give back of one call's charge, in the caller's transaction; None for nothing."""
    if nanocredits <= 0:
        return None
    _require_in_ledger(call.job, [f"call:{call.pk}"])
    charge = Entry.objects.get(
        account=call.job.account_id, kind=Entry.Kind.CHARGE, reference=f"call:{call.pk}"
    )
    return _give_back(
        job=call.job,
        charge=charge,
        nanocredits=nanocredits,
        reason=reason,
        actor=actor,
        key=key,
    )


def _require_in_ledger(job: Job, references: list[str]) -> None:
    """Raises Invalid where a charge was archived with its month."""
    if archive.has(account_id=job.account_id, references=references):
        raise Invalid(
            "It was charged in a month that is archived: adjust the balance instead, or bring"
            " the month back.",
            param="job_id",
        )


def _give_back(
    *, job: Job, charge: Entry, nanocredits: int, reason: str, actor: str, key: str
) -> Entry:
    kind, _, pk = charge.reference.partition(":")
    if kind == "call":
        Call.objects.filter(pk=pk).update(
            refunded_nanocredits=F("refunded_nanocredits") + nanocredits
        )
    entry = ledger.refund(
        charge=charge,
        amount_nanocredits=nanocredits,
        reason=reason,
        actor=actor,
        idempotency_key=key,
    )
    nano_usd = -(entry.price_nano_usd or 0)
    lifecycle.account_for_refund(
        job_id=job.pk, nanocredits=nanocredits, nano_usd=nano_usd, is_base=kind == "job"
    )
    if kind == "call":
        Call.objects.filter(pk=pk).update(refunded_nano_usd=F("refunded_nano_usd") + nano_usd)
        finished_at = Call.objects.values_list("finished_at", flat=True).get(pk=pk)
        rollups.mark_dirty([finished_at.date()] if finished_at else [])
    elif job.closed_at is not None:
        rollups.mark_dirty([job.closed_at.date()])
    return entry


def _stored(idempotency_key: str) -> str:
    """A caller's key as a prefix that no other caller's key begins with."""
    return f"refund:{hashlib.sha256(idempotency_key.encode()).hexdigest()}"


def _earlier(account_id: int, key: str, nanocredits: int | None) -> list[Entry]:
    """The refunds that this key made before; raises IdempotencyKeyReused for another amount."""
    earlier = list(
        Entry.objects.filter(
            account=account_id, kind=Entry.Kind.REFUND, idempotency_key__startswith=f"{key}:"
        ).order_by("id")
    )
    total = sum(entry.amount_nanocredits for entry in earlier)
    if earlier and nanocredits not in {None, total}:
        raise IdempotencyKeyReused
    return earlier
