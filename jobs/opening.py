"""Opening calls: their jobs, their worst cases set aside, their rows. One transaction, many calls.

Each call is opened or refused by itself; what one is refused for takes nothing from the others. Rows
are taken in the order idempotency records, jobs, pools, budget periods, accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from billing import budgets, ledger, plans
from billing.models import Hold
from jobs import admission, lifecycle, payloads, routing
from jobs.admission import Order, Placing, output_bound
from jobs.docket import Docket
from jobs.lifecycle import Drafted, NewJob, spender_of
from jobs.models import Attempt, Call, Job
from jobs.open_calls import OpenCall
from jobs.refusals import JobClosed
from jobs.routing import Route
from saas_litellm.base import clock, idempotency, rows, standing
from saas_litellm.base.grouping import brisk
from saas_litellm.base.idempotency import Claim, InProgress
from saas_litellm.base.ids import new_id
from saas_litellm.base.refusals import NotFound, PaymentRequired, Refusal
from saas_litellm.base.standing import Stale
from teams import keys
from teams.catalog import ResolvedAlias
from teams.models import ApiKey, Team


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A call to be opened, in the job of ``job_id`` or in a new one.

    ``stamp``: what it was looked up under, if that has to stand still. ``period_ids``: the budget
    periods it counts in, where they are known. ``is_asked_at_once``: where nothing has a say before
    the first deployment is asked, the hold records the attempt too.
    """

    order: Order
    resolved: ResolvedAlias
    team: Team
    api_key: ApiKey | None
    job_id: UUID | None = None
    new_job: NewJob | None = None
    version_id: int = 0
    account_id: int = 0
    claim: Claim | None = None
    is_cache_hit: bool = False
    is_stamped: bool = False
    stamp: int | None = None
    period_ids: Sequence[int] | None = None
    is_asked_at_once: bool = False
    call_id: UUID = field(default_factory=new_id)


def open_all(openings: Sequence[Opening]) -> list[OpenCall | Exception]:
    """Open each, or say why not: a Refusal, or Stale when it has to be looked up again."""
    with transaction.atomic():
        return _Desk(openings).serve()


class _Desk:
    """The transaction at work."""

    def __init__(self, openings: Sequence[Opening]) -> None:
        self._openings = openings
        self._opened: list[OpenCall] = []
        self._new: list[Drafted] = []

    def serve(self) -> list[OpenCall | Exception]:
        busy = self._take_claims()
        with rows.together():
            brisk()
            stamp = standing.ask_stamp()
            docket = Docket.ask(one.job_id for one in self._openings if one.job_id is not None)
            book = None
            if all(_is_plain(one) for one in self._openings):
                book = ledger.Book.ask(one.account_id for one in self._openings)
        self._stamp, self._docket = stamp(), docket()
        self._periods = {opening.call_id: self._periods_of(opening) for opening in self._openings}
        self._book = book() if book is not None else self._opened_book()
        results = [
            busy.get(opening.call_id) or self._open_or_refuse(opening) for opening in self._openings
        ]
        self._write()
        return results

    def _opened_book(self) -> ledger.Book:
        jobs = self._docket.jobs.values()
        return ledger.Book.open(
            account_ids=[self._account_of(opening) for opening in self._openings],
            period_ids=[pk for ids in self._periods.values() for pk in ids],
            pool_ids=[job.hold_id for job in jobs if job.hold_id and _has_pool(job)],
        )

    def _take_claims(self) -> dict[UUID, Exception]:
        """Take the idempotency keys, in one order everywhere; says whose are taken already."""
        busy: dict[UUID, Exception] = {}
        claimed = [(one.claim, one.call_id) for one in self._openings if one.claim is not None]
        if claimed:
            brisk()
        for claim, call_id in sorted(claimed, key=lambda pair: pair[0].scope):
            try:
                idempotency.take(claim, reference=f"call:{call_id}")
            except InProgress as error:
                busy[call_id] = error
        return busy

    def _periods_of(self, opening: Opening) -> Sequence[int]:
        if opening.period_ids is not None:
            return opening.period_ids
        job = self._docket.jobs.get(opening.job_id) if opening.job_id else None
        if job is None:
            return ()
        api_key_id = opening.api_key.pk if opening.api_key else job.api_key_id
        return budgets.current(spender_of(opening.team, api_key_id))

    def _account_of(self, opening: Opening) -> int:
        job = self._docket.jobs.get(opening.job_id) if opening.job_id else None
        return job.account_id if job is not None else opening.account_id

    def _open_or_refuse(self, opening: Opening) -> OpenCall | Exception:
        try:
            return self._open(opening)
        except (Refusal, Stale) as refusal:
            if opening.claim is not None:
                idempotency.release(opening.claim)
            return refusal

    def _open(self, opening: Opening) -> OpenCall:
        if opening.is_stamped and opening.stamp != self._stamp:
            raise Stale
        drafted = self._draft(opening)
        job = drafted.job if drafted is not None else self._found(opening)
        if not job.is_open:
            raise JobClosed
        keys.require_running(job.team)
        resolved, order = opening.resolved, opening.order
        bounded_by, max_tokens = output_bound(order.params, resolved.alias)
        route = Route(()) if opening.is_cache_hit else routing.route(resolved)
        placing = Placing(
            job=job,
            api_key=opening.api_key,
            order=order,
            resolved=resolved,
            call_id=opening.call_id,
            is_cache_hit=opening.is_cache_hit,
        )
        with self._book.all_or_nothing():
            periods = self._periods[opening.call_id]
            if drafted is not None:
                lifecycle.reserve_own(drafted, self._book, period_ids=periods)
            call = self._hold(placing, periods, bounded_by=bounded_by, max_tokens=max_tokens)
        if drafted is not None:
            self._docket.add(job, actor=drafted.actor)
            self._new.append(drafted)
        self._docket.reserve(job, admission.reservation_of(call))
        opened = OpenCall(
            call=call,
            job=job,
            alias=resolved.alias,
            resolved=resolved,
            route=route,
            claim=opening.claim,
            kept_request=_request_to_keep(order) if payloads.is_kept(job.team) else None,
            params=_bounded(order, bounded_by, call),
            attempt=_first_attempt(call, route) if opening.is_asked_at_once else None,
        )
        self._opened.append(opened)
        return opened

    def _draft(self, opening: Opening) -> Drafted | None:
        if opening.new_job is None:
            return None
        return lifecycle.draft(
            opening.new_job, version_id=opening.version_id, account_id=opening.account_id
        )

    def _found(self, opening: Opening) -> Job:
        job = self._docket.jobs.get(opening.job_id) if opening.job_id else None
        if job is None or job.team_id != opening.team.pk:
            raise NotFound("There is no job with this id.")
        job.team = opening.team
        return job

    def _hold(
        self, placing: Placing, periods: Sequence[int], *, bounded_by: str, max_tokens: int
    ) -> Call:
        """Where the plan clamps and the caller left the output's length open, a worst case that
        credits do not cover is made shorter instead of refused."""
        try:
            return self._hold_worst(placing, periods, max_tokens)
        except PaymentRequired as refusal:
            shorter = admission.clamped(placing, refusal, max_tokens=max_tokens)
            if shorter is None or bounded_by in placing.order.params:
                raise
            return self._hold_worst(placing, periods, shorter)

    def _hold_worst(self, placing: Placing, periods: Sequence[int], max_tokens: int) -> Call:
        job, call = placing.job, admission.draft(placing, max_tokens=max_tokens)
        self._docket.require_room(job, admission.reservation_of(call))
        call.hold = self._book.hold(
            account_id=job.account_id,
            amount_nanocredits=call.held_nanocredits,
            reference=f"call:{call.pk}",
            expires_at=call.expires_at,
            period_ids=periods,
            pool=self._pool_of(job),
        )
        return call

    def _pool_of(self, job: Job) -> Hold | None:
        if not _has_pool(job):
            return None
        return job.hold if job.hold_id is None else self._book.pool(job.hold_id)

    def _write(self) -> None:
        calls = [opened.call for opened in self._opened]
        attempts = [opened.attempt for opened in self._opened if opened.attempt is not None]
        with rows.gathered():
            self._book.write()
            for call in calls:
                # A related row that was saved after it was assigned.
                call.hold = call.hold
            self._docket.write()
            rows.insert(calls)
            rows.number(attempts)
            rows.insert(attempts)
        self._docket.tell()
        for drafted in self._new:
            lifecycle.use_quote(drafted)


def _is_plain(opening: Opening) -> bool:
    """Whether no row but its wallet's has to be locked: a new job, no budget."""
    return opening.job_id is None and opening.period_ids is not None and not opening.period_ids


def _has_pool(job: Job) -> bool:
    """Whether its calls are held from what the job has set aside; a flat job's calls hold nothing."""
    is_holding = job.hold_id is not None or job.hold is not None
    return is_holding and plans.load(job.plan_version_id).flat_rule(job.job_type) is None


def _first_attempt(call: Call, route: Route) -> Attempt | None:
    """The attempt at the route's first deployment, if nothing has to be asked before it is asked."""
    candidate = route.first
    if candidate is None or not routing.is_free(candidate):
        return None
    call.status, call.dispatched_at = Call.Status.DISPATCHED, clock.now()
    return rows.new(
        Attempt,
        call_id=call.pk,
        deployment=candidate.priced.deployment,
        number=1,
        started_at=call.dispatched_at,
    )


def _request_to_keep(order: Order) -> dict[str, Any]:
    return {"messages": order.prompt, **order.params}


def _bounded(order: Order, field: str, call: Call) -> dict[str, Any]:
    """The order's params with each answer's output bounded by what was held."""
    if not field:
        return dict(order.params)
    return {**order.params, field: call.max_output_tokens // int(order.params.get("n") or 1)}
