"""Settling calls: what each cost, what it is charged, and the end of its hold. One transaction, many
calls, each exactly once.

Rows are taken in the order jobs, counts of tiers, pools, budget periods, accounts. All that is
decided about a call is decided under its job's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from jobs.cases import SETTLED, Case, Settlement, is_plain
from jobs.docket import Docket
from jobs.models import Call, CostLine, Job
from saas_litellm.base import alarms, rows
from saas_litellm.base.grouping import brisk
from teams.models import Team
from teams.prices import UnitPrices


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


class _Clerk:
    """The transaction at work."""

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        self._settlements = settlements
        self.cases: list[Case] = []
        self._by_call: dict[UUID, Case] = {}
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
            if all(is_plain(one.opened) for one in self._settlements):
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
            case.price = charging.price(
                case.call, usage=case.usage, cost=case.full_cost_nano_usd, counted=counted
            )
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
        case = Case(
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

    def _hold_of(self, case: Case) -> tuple[Hold | None, Sequence[int]]:
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
            if case.ends_its_job and (own := closing.own_hold(case.job)) is not None:
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

    def _charge(self, case: Case) -> None:
        call, job = case.call, case.job
        if case.is_late:
            case.estimated_nano_usd = self._lift_estimate(case)
            if call.finished_at is not None:
                rollups.mark_dirty([call.finished_at.date()])
        if case.held is None and case.price == 0:
            charge = self._book.nothing(job.account_id)
        else:
            charge = self._book.settle(
                account_id=job.account_id,
                held=case.held,
                bill=charging.bill(call, case.price),
                period_ids=case.period_ids,
            )
        case.record(charge)
        self._docket.account_for(
            call,
            freed=None if case.is_late else admission.reservation_of(call),
            booked_nano_usd=case.booked_nano_usd,
        )

    def _end_single(self, case: Case) -> None:
        if not case.ends_its_job:
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

    def _lift_estimate(self, case: Case) -> int:
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
        ended = [one for case in self.cases if (one := case.ended_attempt()) is not None]
        for case in self.cases:
            attempt, cost = case.settlement.attempt, case.cost_nano_usd
            if cost and attempt is not None:
                self._lines.append(tries.cost_line(case.call, attempt, CostLine.Kind.ATTEMPT, cost))
        with rows.gathered():
            self._book.write()
            rows.update([case.call for case in self.cases], SETTLED)
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


def _report(case: Case) -> None:
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
