"""Settling calls: what each cost, what it is charged, and the end of its hold. One transaction, many
calls, each exactly once.

Rows are taken in the order jobs, counts of tiers, pools, budget periods, accounts. All that is
decided about a call is decided under its job's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from billing import budgets, ledger
from billing.models import Hold
from jobs import (
    admission,
    charging,
    closing,
    lifecycle,
    payloads,
    replays,
    rollups,
    telling,
    tries,
)
from jobs.closing import Ending
from jobs.docket import Docket
from jobs.models import Attempt, Call, CostLine, Job
from jobs.open_calls import OpenCall, Outcome
from jobs.usage import Usage
from saas_litellm.base import alarms, clock, rows
from saas_litellm.base.grouping import brisk
from teams.models import Team
from teams.prices import UnitPrices

# What a settlement writes of a call.
_SETTLED = (
    "status",
    "deployment",
    "unit_prices",
    "usage",
    "usage_source",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "total_tokens",
    "latency_ms",
    "first_token_at",
    "finished_at",
    "finish_reason",
    "error_code",
    "is_output_delivered",
    "quantity_before",
    "quantity",
    "price_nanocredits",
    "charged_nanocredits",
    "overrun_nanocredits",
    "overrun_reason",
    "price_nano_usd",
    "provider_cost_nano_usd",
    "saved_nano_usd",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A call that has ended. ``attempt``: the one that answered, or the last that failed."""

    opened: OpenCall
    attempt: Attempt | None
    outcome: Outcome


def settle_all(settlements: Sequence[Settlement]) -> list[Call]:
    """Charge what was delivered, close the holds, book the costs, move the totals: once.

    Returns the calls as they stand; a second settlement, or one that lost to another process,
    changes nothing. A call found abandoned settles late: its estimated cost is reversed and it is
    charged at most what is available now. A job that was made for its one call ends with it.
    """
    with transaction.atomic():
        clerk = _Clerk(settlements)
        settled = clerk.serve()
    for case in clerk.cases:
        _report(case)
    return settled


@dataclass(slots=True, kw_only=True)
class _Case:
    """One settlement on its way. ``call`` is the row as it stands."""

    settlement: Settlement
    call: Call
    job: Job
    is_late: bool
    booked_nano_usd: int
    cost_nano_usd: int = 0
    estimated_nano_usd: int = 0
    price: int = 0
    held: Hold | None = None
    period_ids: Sequence[int] = ()
    charge: ledger.Charge | None = None
    ending: Ending | None = None
    excess_nanocredits: int = 0


class _Clerk:
    """The transaction at work."""

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        self._settlements = settlements
        self.cases: list[_Case] = []
        self._by_call: dict[UUID, _Case] = {}
        self._own_holds: dict[Any, Hold] = {}
        self._lines: list[CostLine] = []

    def serve(self) -> list[Call]:
        with rows.together():
            brisk()
            docket = Docket.ask(one.opened.call.job_id for one in self._settlements)
            running = rows.ask_figures(
                Call,
                {one.opened.call.pk for one in self._settlements},
                "status",
                "provider_cost_nano_usd",
            )
            book = None
            if all(_is_plain(one.opened) for one in self._settlements):
                book = ledger.Book.ask(one.opened.job.account_id for one in self._settlements)
        self._docket = docket()
        booked = {pk: cost for pk, (status, cost) in running().items() if status in Call.RUNNING}
        # What a team lets be kept is asked as it stands now: a call may have run for long.
        keeping = {one.opened.job.team_id for one in self._settlements if one.opened.is_answer_kept}
        self._teams = (
            Team.objects.select_related("organization").in_bulk(keeping) if keeping else {}
        )
        settled = [self._taken_up(one, booked) for one in self._settlements]
        # The counts of tiers are rows of their own, taken in one order everywhere.
        counted: set[UUID] = set()
        for case in sorted(self.cases, key=lambda case: charging.turn(case.call)):
            usage, cost = _usage(case), _full_cost(case)
            case.price = charging.price(case.call, usage=usage, cost=cost, counted=counted)
            case.held, case.period_ids = self._hold_of(case)
        self._book = book() if book is not None else self._opened_book()
        for case in self.cases:
            self._charge(case)
            self._end_single(case)
        for case in self.cases:
            case.call.balance_nanocredits = self._book.balance_of(case.job.account_id)
        self._write()
        return settled

    def _taken_up(self, one: Settlement, booked: Mapping[UUID, int]) -> Call:
        """The row, and a case if it has not ended yet. Of a running call, ``booked`` has all that
        changes between its hold and its end: the cost of attempts that failed."""
        call = one.opened.call
        if call.pk in self._by_call:
            return self._by_call[call.pk].call
        is_running = call.pk in booked
        if is_running:
            call.provider_cost_nano_usd = booked[call.pk]
            # What a settlement that was rolled back has left on it.
            call.quantity_before = call.quantity = None
        else:
            call = Call.objects.get(pk=call.pk)
        job = self._docket.jobs[call.job_id]
        job.team = self._teams.get(job.team_id) or one.opened.job.team
        call.job, call.team, call.alias = job, job.team, one.opened.alias
        is_late = call.status == Call.Status.ABANDONED
        if not is_running and not is_late:
            return call
        case = _Case(
            settlement=one,
            call=call,
            job=job,
            is_late=is_late and not is_running,
            booked_nano_usd=call.provider_cost_nano_usd,
        )
        outcome = one.outcome
        if one.attempt is not None:
            prices = tries.unit_prices(one.opened, one.attempt)
            call.deployment_id, call.unit_prices = one.attempt.deployment_id, prices.as_json()
            case.cost_nano_usd = tries.cost_of(prices, outcome)
        elif call.is_cache_hit and outcome.unit_prices:
            call.unit_prices = dict(outcome.unit_prices)
            call.saved_nano_usd = tries.cost_of(UnitPrices.from_json(call.unit_prices), outcome)
        self.cases.append(case)
        self._by_call[call.pk] = case
        return call

    def _hold_of(self, case: _Case) -> tuple[Hold | None, Sequence[int]]:
        """The hold to settle, and the budget periods to charge. A call's hold changes in its end
        alone, so it is still as it was opened."""
        held = case.settlement.opened.call.hold
        if held is not None:
            return (None if case.is_late else held), held.budget_period_ids
        if not case.price:
            return None, ()
        job, key_id = case.job, case.call.api_key_id or case.job.api_key_id
        return None, budgets.current(lifecycle.spender_of(job.team, key_id))

    def _opened_book(self) -> ledger.Book:
        pools = {case.held.pool_id for case in self.cases if case.held is not None}
        for case in self.cases:
            if _ends_its_job(case) and (own := closing.own_hold(case.job)) is not None:
                self._own_holds[case.job.pk] = own
        return ledger.Book.open(
            account_ids=[case.job.account_id for case in self.cases],
            period_ids=[
                *(pk for case in self.cases for pk in case.period_ids),
                *(pk for own in self._own_holds.values() for pk in own.budget_period_ids),
            ],
            pool_ids=[
                *(pk for pk in pools if pk is not None),
                *(own.pk for own in self._own_holds.values()),
            ],
        )

    def _charge(self, case: _Case) -> None:
        call, job, outcome = case.call, case.job, case.settlement.outcome
        if case.is_late:
            case.estimated_nano_usd = self._lift_estimate(case)
        if case.held is None and case.price == 0:
            charge = self._book.nothing(job.account_id)
        else:
            charge = self._book.settle(
                account_id=job.account_id,
                held=case.held,
                bill=charging.bill(call, case.price),
                period_ids=case.period_ids,
            )
        case.charge = charge
        is_settled = outcome.is_output_delivered
        call.status = Call.Status.SETTLED if is_settled else Call.Status.FAILED
        call.usage, call.usage_source = outcome.usage.as_json(), outcome.usage.source
        call.prompt_tokens = outcome.usage.prompt_tokens
        call.cached_tokens = outcome.usage.cached_tokens
        call.completion_tokens = outcome.usage.completion_tokens
        call.total_tokens = outcome.usage.total_tokens
        call.latency_ms, call.first_token_at = outcome.latency_ms, outcome.first_token_at
        if case.is_late and call.finished_at is not None:
            rollups.mark_dirty([call.finished_at.date()])
        call.finished_at, call.finish_reason = clock.now(), outcome.finish_reason
        call.error_code, call.is_output_delivered = outcome.error_code, is_settled
        call.price_nanocredits = charge.charged_nanocredits + charge.overrun_nanocredits
        call.charged_nanocredits = charge.charged_nanocredits
        call.overrun_nanocredits = charge.overrun_nanocredits
        call.overrun_reason, call.price_nano_usd = charge.overrun_reason, charge.price_nano_usd
        call.provider_cost_nano_usd = (
            case.booked_nano_usd - case.estimated_nano_usd + case.cost_nano_usd
        )
        self._docket.account_for(
            call,
            freed=None if case.is_late else admission.reservation_of(call),
            booked_nano_usd=case.booked_nano_usd,
        )

    def _end_single(self, case: _Case) -> None:
        if not _ends_its_job(case):
            return
        ending = closing.ending_of_single(
            case.job,
            is_delivered=self._has_delivered(case.job),
            actor=f"team:{case.job.team.slug}",
        )
        own = self._own_holds.get(case.job.pk)
        excess = closing.end(ending, self._docket, self._book, own)
        if excess is not None:
            case.ending, case.excess_nanocredits = ending, excess

    def _has_delivered(self, job: Job) -> bool:
        """Whether any of its calls did: others than the one it was made for may have joined it."""
        if any(case.call.is_output_delivered for case in self.cases if case.job is job):
            return True
        is_alone = job.successful_calls + job.failed_calls == 1
        return not is_alone and job.calls.filter(is_output_delivered=True).exists()

    def _lift_estimate(self, case: _Case) -> int:
        """Reverse the estimate that was booked for an abandoned attempt; returns it, in nano-USD.

        It was booked for one that was recorded and never asked, too.
        """
        attempt = case.settlement.attempt or case.settlement.opened.attempt
        line = CostLine.objects.filter(attempt=attempt, kind=CostLine.Kind.ESTIMATE).first()
        if attempt is None or line is None or not line.amount_nano_usd:
            return 0
        amount: int = line.amount_nano_usd
        self._lines.append(tries.cost_line(case.call, attempt, CostLine.Kind.REVERSAL, -amount))
        return amount

    def _write(self) -> None:
        ended = [attempt for case in self.cases if (attempt := _ended(case)) is not None]
        for case in self.cases:
            attempt, cost = case.settlement.attempt, case.cost_nano_usd
            if cost and attempt is not None:
                self._lines.append(tries.cost_line(case.call, attempt, CostLine.Kind.ATTEMPT, cost))
        with rows.gathered():
            self._book.write()
            rows.update([case.call for case in self.cases], _SETTLED)
            rows.update(ended, tries.ENDED)
            rows.insert(self._lines)
            self._docket.write()
        for case in self.cases:
            opened, parts = case.settlement.opened, case.settlement.outcome.parts
            if opened.claim is not None:
                replays.settle(opened.claim, call=case.call, parts=parts)
            if opened.kept_request is not None:
                payloads.keep(
                    case.call, team=case.job.team, request=opened.kept_request, answer=parts
                )
            if not case.is_late:
                telling.call_failed(case.call)
            if case.ending is not None:
                closing.give_back_and_tell(case.ending, case.excess_nanocredits)


def _report(case: _Case) -> None:
    """What is told once the settlement stands."""
    opened, attempt, charge = case.settlement.opened, case.settlement.attempt, case.charge
    if attempt is not None:
        tries.tell_breaker(attempt, case.settlement.outcome, tries.of(opened, attempt).health)
    if charge is not None and charge.overrun_nanocredits:
        alarms.sound(
            kind="call.overrun",
            subject=f"team {opened.job.team.slug}",
            detail=f"call {case.call.pk}: {charge.overrun_nanocredits} nanocredits not taken"
            f" ({charge.overrun_reason})",
        )
    charging.flag_thin_margin(case.call)


def _is_plain(opened: OpenCall) -> bool:
    """Whether no row but its wallet's has to be locked after its job's: no tier's count, no pool,
    no budget."""
    held = opened.call.hold
    return (
        held is not None
        and held.pool_id is None
        and not held.budget_period_ids
        and opened.job.hold_id is None
        and not charging.is_counted(opened.call)
    )


def _ends_its_job(case: _Case) -> bool:
    return case.job.is_single and case.job.is_open


def _usage(case: _Case) -> Usage | None:
    """What the team pays for; None when nothing was delivered."""
    outcome = case.settlement.outcome
    return outcome.usage if outcome.is_output_delivered else None


def _full_cost(case: _Case) -> int:
    """What the answer cost whoever asked for it: a cache hit is priced by that."""
    return case.cost_nano_usd or case.call.saved_nano_usd


def _ended(case: _Case) -> Attempt | None:
    """The attempt to end: one that was recorded and never asked ends as it is."""
    attempt, opened = case.settlement.attempt, case.settlement.opened
    if attempt is not None:
        return tries.end(attempt, case.settlement.outcome, at=case.call.finished_at)
    if opened.attempt is not None:
        opened.attempt.ended_at = case.call.finished_at
    return opened.attempt
