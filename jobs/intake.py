"""Intake: from a request to an open call.

First what the caller may is looked up, in memory where that suffices, then what limits it; then one
transaction, shared with the calls that come at the same time, opens the call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.conf import settings

from billing import budgets, exhaustion, ledger, plans
from billing.refusals import InsufficientCredits
from jobs import admission, cache, estimate, lifecycle, replays
from jobs.admission import Order
from jobs.cache import Policy, Recording
from jobs.lifecycle import NewJob, spender_of
from jobs.open_calls import OpenCall
from jobs.opening import Opening, open_all
from jobs.refusals import UnitUnpriced
from saas_litellm.base import alarms, standing
from saas_litellm.base.bridge import in_database
from saas_litellm.base.grouping import Group
from saas_litellm.base.idempotency import Claim, Key
from saas_litellm.base.ids import new_id
from saas_litellm.base.limiter import Rule, limiter
from saas_litellm.base.refusals import Refusal
from saas_litellm.base.standing import Memory, NotRemembered, Stale
from teams import catalog, keys, limits
from teams.api import Caller
from teams.catalog import ResolvedAlias
from teams.models import Alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A call that a request asks for, in the job of ``job_id`` or in a new one.

    ``who`` and ``new_job`` are sync; what they need of the database they ask of the memory.
    """

    order: Order
    who: Callable[[Memory], Caller]
    key: Key | None
    job_id: UUID | None = None
    new_job: Callable[[Caller, Memory], NewJob] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who asks, and what stands behind the alias."""

    caller: Caller
    opening: Opening
    # The limits it counts under, and the tokens it may take.
    rules: tuple[Rule, ...]
    tokens: int
    is_remembered: bool
    caching: Policy | None = None


_openings: Group[Opening, OpenCall] = Group(open_all)


async def admit(errand: Errand) -> OpenCall:
    """Open the errand's call; raises the Refusal that keeps it from being opened."""
    remembered = _remembered(errand)
    if remembered is not None:
        with contextlib.suppress(Stale):
            return await _admitted(remembered)
    while True:
        # What has changed since it was looked up is looked up anew, as often as it takes.
        with contextlib.suppress(Stale):
            return await _admitted(await in_database(_looked_up, errand))


def _remembered(errand: Errand) -> Visit | None:
    """None also where memory would refuse: only what stands now may."""
    try:
        return look(errand, standing.remembered())
    except (NotRemembered, Refusal):
        return None


def _looked_up(errand: Errand) -> Visit:
    return look(errand, standing.looked_up())


async def _admitted(visit: Visit) -> OpenCall:
    if visit.caching is None:
        return await _within_limits(visit)
    return await _through_cache(visit, visit.caching)


async def _through_cache(visit: Visit, caching: Policy) -> OpenCall:
    """Play an answer back, join the one being made, or begin a recording that others may join."""
    while (joined := cache.joined(caching.key)) is not None:
        # Until the leader is admitted, nobody knows whether there will be an answer.
        await joined.admitted.wait()
        if not joined.is_void:
            return await _hit(visit, joined)
        joined.leave()
    recording = cache.begin(caching.key)
    try:
        kept = await cache.find(caching.key)
        if kept is not None:
            cache.void(caching.key, recording)
            kept.readers = 1
            return await _hit(visit, kept)
        opened = await _within_limits(visit)
    except BaseException:
        cache.void(caching.key, recording)
        raise
    recording.admitted.set()
    return replace(opened, recording=recording, caching=caching)


async def _hit(visit: Visit, recording: Recording) -> OpenCall:
    played = replace(visit.opening, is_cache_hit=True, is_asked_at_once=False)
    try:
        opened = await _within_limits(replace(visit, opening=played))
    except BaseException:
        recording.leave()
        raise
    return replace(opened, recording=recording)


async def _within_limits(visit: Visit) -> OpenCall:
    """Count the call under its team's limits, if there are any, then open it; raises RateLimited."""
    if not visit.rules:
        return await _opened(visit)
    counted = await limiter().admit(
        visit.rules,
        tokens=visit.tokens,
        ticket=new_id().hex,
        lease_seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS,
    )
    if counted.refused is not None:
        if visit.is_remembered:
            # The limits may be others by now.
            raise Stale
        raise limits.refusal(counted)
    try:
        opened = await _opened(visit)
    except BaseException as error:
        await limiter().release(counted)
        if isinstance(error, Refusal):
            error.headers.update(limits.headers(counted))
        raise
    return replace(opened, admission=counted)


async def _opened(visit: Visit) -> OpenCall:
    try:
        return await _openings.do(visit.opening)
    except (UnitUnpriced, InsufficientCredits) as refusal:
        await in_database(_tell, visit, refusal)
        raise


def _tell(visit: Visit, refusal: Refusal) -> None:
    """Outside of the transaction that was refused, which has taken everything back with it."""
    if not isinstance(refusal, UnitUnpriced):
        exhaustion.tell(visit.caller.team, refusal)
        return
    alias = visit.opening.resolved.alias
    alarms.sound(
        kind="plan.unit_unpriced",
        subject=f"team {visit.caller.team.slug}, {alias.name}",
        detail=f"its plan has no price for the unit of {alias.kind}",
    )


def look(errand: Errand, memory: Memory) -> Visit:
    """What has to be known before the call is opened; sync, reads only.

    Raises Unauthenticated and its kin, TeamPaused, ModelNotAllowed, ModelUnavailable; Replayed, and
    what else an idempotency key may bring; NotRemembered.
    """
    order = errand.order
    lifecycle.check_metadata(order.call_metadata or {}, param="call_metadata")
    caller = errand.who(memory)
    claim = errand.key.claim(caller.name) if errand.key is not None else None
    if claim is not None:
        _look_up(claim, memory)
    new_job = errand.new_job(caller, memory) if errand.new_job is not None else None
    keys.require_running(caller.team)
    resolved = catalog.recalled(memory, team=caller.team, name=order.model, kind=order.kind)
    rules = limits.rules_for(team=caller.team, api_key=caller.api_key, alias=resolved.alias)
    opening = Opening(
        order=order,
        resolved=resolved,
        team=caller.team,
        api_key=caller.api_key,
        job_id=errand.job_id,
        new_job=new_job,
        version_id=_version_id(memory, new_job) if new_job is not None else 0,
        account_id=ledger.account_id_of(caller.team, memory) if new_job is not None else 0,
        claim=claim,
        is_stamped=True,
        stamp=memory.stamp,
        period_ids=_period_ids(memory, caller, errand.job_id),
        is_asked_at_once=True,
    )
    return Visit(
        caller=caller,
        opening=opening,
        rules=rules,
        tokens=_tokens(order, resolved) if rules else 0,
        is_remembered=not memory.may_ask,
        caching=_caching(caller, order, resolved.alias),
    )


def _look_up(claim: Claim, memory: Memory) -> None:
    if not memory.may_ask:
        raise NotRemembered
    replays.look_up(claim)


def _version_id(memory: Memory, new_job: NewJob) -> int:
    if new_job.quote is not None:
        return new_job.quote.plan_version_id
    return plans.recalled_version_id(memory, new_job.team)


def _period_ids(memory: Memory, caller: Caller, job_id: UUID | None) -> Sequence[int] | None:
    """None where the job has to be known first: it may count in the budgets of the key it was made
    with."""
    if caller.api_key is None and job_id is not None:
        return None
    return budgets.current(
        spender_of(caller.team, caller.api_key.pk if caller.api_key else None), memory
    )


def _caching(caller: Caller, order: Order, alias: Alias) -> Policy | None:
    """No look at the request where neither it nor its alias asks for a cache."""
    if not (order.cache_ttl or alias.cache_ttl_seconds):
        return None
    request = {
        "kind": order.kind,
        "is_stream": order.is_stream,
        "prompt": order.prompt,
        "params": dict(order.params),
    }
    return cache.policy(
        team_id=caller.team.pk,
        alias_id=alias.pk,
        default_ttl=alias.cache_ttl_seconds,
        asked_ttl=order.cache_ttl,
        request=request,
    )


def _tokens(order: Order, resolved: ResolvedAlias) -> int:
    _, output = admission.output_bound(order.params, resolved.alias)
    prompt = estimate.count_prompt(resolved=resolved, messages=order.prompt, params=order.params)
    return prompt + output * int(order.params.get("n") or 1)
