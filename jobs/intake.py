"""Intake: from a request to an open call.

First what the caller may is read, then what limits it, then one transaction opens the call. All of
it is one hop to the database pool while nothing but the database has a say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from django.conf import settings
from django.db import transaction

from billing import exhaustion
from billing.refusals import InsufficientCredits
from jobs import admission, cache, calls, estimate, lifecycle, replays
from jobs.cache import Policy, Recording
from jobs.calls import OpenCall, Order
from jobs.models import Job
from jobs.refusals import JobClosed, UnitUnpriced
from saas_litellm.base import alarms
from saas_litellm.base.bridge import in_database
from saas_litellm.base.idempotency import Claim, Key
from saas_litellm.base.limiter import Rule, limiter
from saas_litellm.base.refusals import Refusal
from teams import catalog, keys, limits
from teams.api import Caller
from teams.catalog import ResolvedAlias
from teams.models import Alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A call that a request asks for. The functions are sync and use the database.

    Exactly one of ``find_job`` and ``make_job`` is there.
    """

    order: Order
    who: Callable[[], Caller]
    key: Key | None
    find_job: Callable[[Caller], Job] | None = None
    make_job: Callable[[Caller], Job] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who asks, and what stands behind the alias; ``job`` is None until it is made."""

    caller: Caller
    resolved: ResolvedAlias
    job: Job | None
    claim: Claim | None
    # The limits it counts under, and the tokens it may take.
    rules: tuple[Rule, ...]
    tokens: int
    caching: Policy | None = None
    is_cache_hit: bool = False


async def admit(errand: Errand) -> OpenCall:
    """Open the errand's call; raises the Refusal that keeps it from being opened."""

    def begin() -> Visit | OpenCall:
        visit = look(errand)
        return visit if visit.rules or visit.caching else open_call(errand, visit)

    begun = await in_database(begin)
    if isinstance(begun, OpenCall):
        return begun
    if begun.caching is None:
        return await _within_limits(errand, begun)
    return await _through_cache(errand, begun, begun.caching)


async def _through_cache(errand: Errand, visit: Visit, caching: Policy) -> OpenCall:
    """Play an answer back, join the one being made, or begin a recording that others may join."""
    while (joined := cache.joined(caching.key)) is not None:
        # Until the leader is admitted, nobody knows whether there will be an answer.
        await joined.admitted.wait()
        if not joined.is_void:
            return await _hit(errand, visit, joined)
        joined.leave()
    recording = cache.begin(caching.key)
    try:
        kept = await cache.find(caching.key)
        if kept is not None:
            cache.void(caching.key, recording)
            kept.readers = 1
            return await _hit(errand, visit, kept)
        opened = await _within_limits(errand, visit)
    except BaseException:
        cache.void(caching.key, recording)
        raise
    recording.admitted.set()
    return replace(opened, recording=recording, caching=caching)


async def _hit(errand: Errand, visit: Visit, recording: Recording) -> OpenCall:
    try:
        opened = await _within_limits(errand, replace(visit, is_cache_hit=True))
    except BaseException:
        recording.leave()
        raise
    return replace(opened, recording=recording)


async def _within_limits(errand: Errand, visit: Visit) -> OpenCall:
    """Count the call under its team's limits, if there are any, then open it; raises RateLimited."""
    if not visit.rules:
        return await in_database(open_call, errand, visit)
    counted = await limiter().admit(
        visit.rules,
        tokens=visit.tokens,
        ticket=uuid4().hex,
        lease_seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS,
    )
    if counted.refused is not None:
        raise limits.refusal(counted)
    try:
        opened = await in_database(open_call, errand, visit)
    except BaseException as error:
        await limiter().release(counted)
        if isinstance(error, Refusal):
            error.headers.update(limits.headers(counted))
        raise
    return replace(opened, admission=counted)


def look(errand: Errand) -> Visit:
    """What has to be known before the call is opened; reads only.

    Raises Unauthenticated and its kin, NotFound, JobClosed, TeamPaused, ModelNotAllowed,
    ModelUnavailable; Replayed, and what else an idempotency key may bring.
    """
    order = errand.order
    lifecycle.check_metadata(order.call_metadata or {}, param="call_metadata")
    caller = errand.who()
    claim = errand.key.claim(caller.name) if errand.key is not None else None
    if claim is not None:
        replays.look_up(claim)
    job = errand.find_job(caller) if errand.find_job is not None else None
    if job is not None and not job.is_open:
        raise JobClosed
    keys.require_running(caller.team)
    resolved = catalog.resolve(team=caller.team, name=order.model, kind=order.kind)
    rules = limits.rules_for(team=caller.team, api_key=caller.api_key, alias=resolved.alias)
    return Visit(
        caller=caller,
        resolved=resolved,
        job=job,
        claim=claim,
        rules=rules,
        tokens=_tokens(order, resolved) if rules else 0,
        caching=_caching(caller, order, resolved.alias),
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


def open_call(errand: Errand, visit: Visit) -> OpenCall:
    """Make the job if there is none yet, and open the call: all of it or nothing."""
    try:
        return _opened(errand, visit)
    except UnitUnpriced:
        # Out here, where the refusal has not taken the alarm back with it.
        alarms.sound(
            kind="plan.unit_unpriced",
            subject=f"team {visit.caller.team.slug}, {visit.resolved.alias.name}",
            detail=f"its plan has no price for the unit of {visit.resolved.alias.kind}",
        )
        raise
    except InsufficientCredits as refusal:
        exhaustion.tell(visit.caller.team, refusal)
        raise


def _opened(errand: Errand, visit: Visit) -> OpenCall:
    with transaction.atomic():
        job = visit.job
        if job is None:
            assert errand.make_job is not None, "an errand finds or makes its job"
            job = errand.make_job(visit.caller)
        return calls.open_call(
            job=job,
            api_key=visit.caller.api_key,
            order=errand.order,
            resolved=visit.resolved,
            claim=visit.claim,
            is_cache_hit=visit.is_cache_hit,
        )
