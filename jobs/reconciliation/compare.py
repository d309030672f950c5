"""A provider's export beside our books, line by line, and the corrections that follow from it.

A correction changes what the founder's work cost, never what a team paid: no wallet, entry or
hold is touched here.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import PurePath

from django.db import connection, transaction
from django.db.models import F

from jobs import lifecycle, rollups
from jobs.models import Call, CostLine, Job, Reconciliation, ReconciliationLine
from jobs.reconciliation import books, formats, naming
from jobs.reconciliation.books import Figures
from jobs.reconciliation.formats import Export
from saas_litellm.base import audit, clock
from saas_litellm.base.money import MAX_AMOUNT, divide_half_even
from saas_litellm.base.refusals import Conflict, Invalid

MAX_THRESHOLD_BASIS_POINTS = 1_000_000
EXPLAINING_CALLS = 50


@dataclass(slots=True)
class _Pair:
    """One line to be: their figures where the export gives them, and ours."""

    tokens: int | None = None
    nano_usd: int | None = None
    ours: Figures = field(default_factory=Figures)


def reconcile(
    *, content: bytes, filename: str, actor: str, threshold_basis_points: int = 100
) -> Reconciliation:
    """Compare an export with the books of its days and store every line, in one transaction.

    A line is there for each model and day of the export, and for each model of ours that the
    export should have on a day we called it; the export's figure is then 0. Raises Invalid
    (a file that is not entirely understood, a threshold outside 0 to 1,000,000 basis points),
    and Conflict for a file that was compared before; nothing is stored then.
    """
    if not 0 <= threshold_basis_points <= MAX_THRESHOLD_BASIS_POINTS:
        raise Invalid("The threshold is 0 to 10,000 percent.", param="threshold")
    export = formats.read(content)
    digest = hashlib.sha256(content).hexdigest()
    with transaction.atomic():
        _refuse_twice(digest)
        made = Reconciliation.objects.create(
            source=export.source,
            filename=_plain_name(filename),
            digest=digest,
            first_day=export.first_day,
            last_day=export.last_day,
            threshold_basis_points=threshold_basis_points,
            actor=actor[:200],
            created_at=clock.now(),
        )
        lines = [_line(made, *key, pair) for key, pair in sorted(_pairs(export).items())]
        ReconciliationLine.objects.bulk_create(lines, batch_size=500)
        audit.record(
            actor=made.actor,
            action="reconciliation.compare",
            target=f"reconciliation:{made.pk}",
            filename=made.filename,
            lines=len(lines),
        )
    return made


def explain(line: ReconciliationLine) -> list[Call]:
    """The model's calls of that day: doubtful ones first, then the dearest; 50 at most."""
    served = _served(line, books.sums(first_day=line.day, last_day=line.day))
    return list(
        books.sent(first_day=line.day, last_day=line.day)
        .filter(served__in=served)
        .select_related("team", "alias")
        .order_by("-is_doubtful", "-provider_cost_nano_usd", "pk")[:EXPLAINING_CALLS]
    )


def percent(line: ReconciliationLine) -> str:
    """The variance in percent of their cost, half-even to a hundredth; "-" without one."""
    variance = line.variance_nano_usd
    if variance is None or not line.their_nano_usd:
        return "-"
    basis = divide_half_even(
        variance * 10_000 * (1 if line.their_nano_usd > 0 else -1), abs(line.their_nano_usd)
    )
    return f"{Decimal(basis) / 100:+.2f}"


def correct(*, line: ReconciliationLine, actor: str, reason: str) -> CostLine:
    """Book the line's variance as a cost of its model and day, once.

    Raises Invalid without a reason; Conflict when the line is corrected already, has no cost
    figure or no variance, or when our books of that day have changed since: its figures are then
    brought up to date for another look, and nothing is booked.
    """
    reason = _checked_reason(reason)
    with transaction.atomic():
        # The lock: corrections of one day happen one after another, each seeing the last.
        rollups.mark_dirty([line.day])
        stored = ReconciliationLine.objects.select_related("reconciliation").get(pk=line.pk)
        if stored.correction_id is not None:
            raise Conflict("This line has its correction already.")
        if not _refreshed(stored):
            return _book(stored, actor=actor, reason=reason)
    raise Conflict(
        "Our books of this model's day have changed since the comparison. The line shows their"
        " figures of now; look again before you book a correction."
    )


def correct_call(*, call: Call, amount_nano_usd: int, actor: str, reason: str) -> CostLine:
    """Add an amount, of either sign, to what one finished call cost at its provider.

    The line stands on the call's last attempt; call and job move with it. Raises Invalid for an
    amount of 0, one that makes a cost negative or out of range, and a missing reason; Conflict
    for a call that is running or never reached a provider.
    """
    reason = _checked_reason(reason)
    with transaction.atomic():
        lifecycle.lock(call.job_id)
        stored = Call.objects.get(pk=call.pk)
        attempt = stored.attempts.order_by("-number").first()
        if stored.finished_at is None:
            raise Conflict("The call is still running.")
        if attempt is None:
            raise Conflict("The call never reached a provider.")
        if not amount_nano_usd or not (
            0 <= stored.provider_cost_nano_usd + amount_nano_usd <= MAX_AMOUNT
        ):
            raise Invalid("That is not an amount this call's cost can change by.", param="amount")
        booked = CostLine.objects.create(
            call=stored,
            attempt=attempt,
            kind=CostLine.Kind.CORRECTION,
            amount_nano_usd=amount_nano_usd,
            reason=reason,
            actor=actor[:200],
            created_at=clock.now(),
        )
        moved = {"provider_cost_nano_usd": F("provider_cost_nano_usd") + amount_nano_usd}
        Call.objects.filter(pk=stored.pk).update(**moved)
        within = Job.objects.filter(provider_cost_nano_usd__lte=MAX_AMOUNT - amount_nano_usd)
        if within.filter(pk=stored.job_id).update(**moved) != 1:
            raise Invalid("The job's cost would be out of range.", param="amount")
        rollups.mark_dirty([stored.finished_at.date()])
        _record(booked, actor=actor, target=f"call:{stored.pk}")
    return booked


def _pairs(export: Export) -> dict[tuple[date, str], _Pair]:
    theirs = {usage.model for usage in export.usages}
    sums = books.sums(first_day=export.first_day, last_day=export.last_day)
    corrections = books.corrections(first_day=export.first_day, last_day=export.last_day)
    families = {naming.undated(name) for name in theirs}
    ours = naming.in_scope({model for _, model in sums}, source=export.source, families=families)
    families |= {naming.undated(name) for name in ours.values()}
    corrected = {name for _, name in corrections if naming.undated(name) in families}
    keys = naming.keys(theirs=theirs, ours={*ours.values(), *corrected})
    absent = (0 if export.has_tokens else None, 0 if export.has_cost else None)
    pairs: dict[tuple[date, str], _Pair] = defaultdict(lambda: _Pair(*absent))
    given = {(usage.day, keys[usage.model]) for usage in export.usages}
    pairs |= {key: _Pair() for key in given}
    for usage in export.usages:
        pair = pairs[usage.day, keys[usage.model]]
        pair.tokens = _plus(pair.tokens, usage.tokens)
        pair.nano_usd = _plus(pair.nano_usd, usage.cost_nano_usd)
    for (day, model), figures in sums.items():
        if model in ours:
            pairs[day, keys[ours[model]]].ours.add(figures)
    for (day, name), amount in corrections.items():
        if name in corrected:
            pairs[day, keys[name]].ours.nano_usd += amount
    return pairs


def _plus(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


def _line(made: Reconciliation, day: date, model: str, pair: _Pair) -> ReconciliationLine:
    line = ReconciliationLine(
        reconciliation=made,
        model=model,
        day=day,
        their_tokens=pair.tokens,
        their_nano_usd=pair.nano_usd,
    )
    _set_ours(line, pair.ours)
    return line


def _set_ours(line: ReconciliationLine, ours: Figures) -> None:
    line.our_tokens, line.our_nano_usd = ours.tokens, ours.nano_usd
    line.calls, line.doubtful_calls = ours.calls, ours.doubtful_calls
    line.is_beyond_threshold = _is_beyond(line)


def _is_beyond(line: ReconciliationLine) -> bool:
    """By cost where the export gives it, else by tokens; exact, the threshold itself is within."""
    theirs, ours = line.their_nano_usd, line.our_nano_usd
    if theirs is None:
        theirs, ours = line.their_tokens, line.our_tokens
    if theirs is None:
        return False
    return abs(theirs - ours) * 10_000 > line.reconciliation.threshold_basis_points * abs(theirs)


def _served(line: ReconciliationLine, sums: Iterable[tuple[date, str]]) -> list[str]:
    """Which of these litellm models the line stands for, as its reconciliation compared them."""
    names, families = _names(line)
    ours = naming.in_scope(
        {model for _, model in sums}, source=line.reconciliation.source, families=families
    )
    return [model for model, name in ours.items() if _key(name, names) == line.model]


def _names(line: ReconciliationLine) -> tuple[set[str], set[str]]:
    names = set(line.reconciliation.lines.values_list("model", flat=True).distinct().order_by())
    return names, {naming.undated(name) for name in names}


def _key(name: str, names: set[str]) -> str:
    return name if name in names else naming.undated(name)


def _refreshed(line: ReconciliationLine) -> bool:
    """Bring the line's own figures up to date; whether its cost has changed."""
    sums = books.sums(first_day=line.day, last_day=line.day)
    now = Figures()
    for model in _served(line, sums):
        now.add(sums[line.day, model])
    names, _ = _names(line)
    for (_, name), amount in books.corrections(first_day=line.day, last_day=line.day).items():
        now.nano_usd += amount if _key(name, names) == line.model else 0
    if now.nano_usd == line.our_nano_usd:
        return False
    _set_ours(line, now)
    line.save()
    return True


def _book(line: ReconciliationLine, *, actor: str, reason: str) -> CostLine:
    variance = line.variance_nano_usd
    if variance is None:
        raise Conflict("The export gives no cost for this line, so there is nothing to correct.")
    if variance == 0 or abs(variance) > MAX_AMOUNT:
        raise Conflict("There is no variance that a correction could book.")
    booked = CostLine.objects.create(
        model=line.model,
        day=line.day,
        kind=CostLine.Kind.CORRECTION,
        amount_nano_usd=variance,
        reason=reason,
        actor=actor[:200],
        created_at=clock.now(),
    )
    taken = ReconciliationLine.objects.filter(pk=line.pk, correction=None)
    if taken.update(correction=booked) != 1:
        raise Conflict("This line has its correction already.")
    _record(booked, actor=actor, target=f"reconciliation_line:{line.pk}")
    return booked


def _record(booked: CostLine, *, actor: str, target: str) -> None:
    audit.record(
        actor=actor[:200],
        action="cost.correct",
        target=target,
        reason=booked.reason,
        cost_line=booked.pk,
        amount_nano_usd=booked.amount_nano_usd,
        model=booked.model,
        day=str(booked.day or ""),
    )


def _checked_reason(reason: str) -> str:
    plain = reason.strip()
    if not plain or len(plain) > 500 or "\x00" in plain:
        raise Invalid("Give a reason, in at most 500 characters.", param="reason")
    return plain


def _plain_name(filename: str) -> str:
    name = PurePath(filename.replace("\\", "/")).name
    return "".join(letter for letter in name if letter.isprintable())[:200]


def _refuse_twice(digest: str) -> None:
    if connection.vendor == "postgresql":
        # Two uploads of one file at once: the second waits here for the first.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(digest[:15], 16)])
    if before := Reconciliation.objects.filter(digest=digest).first():
        raise Conflict(f"This file was compared before, as reconciliation {before.pk}.")
