"""Admitting a call: price its worst case, and fit it to what limits leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings

from billing import counters, plans
from billing.pricing import BASIS_POINTS, CallPrice, Plan
from jobs import estimate
from jobs.docket import Reservation, caps_beyond
from jobs.estimate import Estimate
from jobs.models import Call, Job
from jobs.refusals import JobCapExceeded, UnitUnpriced
from saas_litellm.base import clock, rows
from saas_litellm.base.money import nano
from saas_litellm.base.refusals import Invalid, PaymentRequired
from teams.catalog import ResolvedAlias
from teams.models import Alias, ApiKey, Team

# An answer cut shorter than this is of no use to anyone: better to refuse.
LEAST_CLAMPED_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call as its caller asked for it; ``params`` are allow-listed OpenAI fields.

    An embedding has ``texts`` (or texts as token ids) in place of messages.
    """

    params: Mapping[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] | list[list[int]] = field(default_factory=list)
    # What is asked of a model that neither chats nor embeds: a picture, a text to speak, ...
    media: Mapping[str, Any] = field(default_factory=dict)
    # The most units that it may be paid for, in thousandths.
    milliunits: int = 0
    kind: str = Alias.Kind.CHAT
    model: str | None = None
    purpose: str = ""
    call_metadata: Mapping[str, Any] | None = None
    is_stream: bool = False
    # Seconds that the caller allows its answer to be kept: 0 not at all, None as the alias says.
    cache_ttl: int | None = None

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """What the provider reads, in a form that can be weighed."""
        return self.messages or [
            {"content" if isinstance(text, str) else "tokens": text} for text in self.texts
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Everything that decides what a call may cost. ``job`` is locked, or new."""

    job: Job
    api_key: ApiKey | None
    order: Order
    resolved: ResolvedAlias
    call_id: UUID = field(default_factory=uuid4)
    is_cache_hit: bool = False

    @property
    def plan(self) -> Plan:
        return plans.load(self.job.plan_version_id)


def output_bound(params: Mapping[str, Any], alias: Alias) -> tuple[str, int]:
    """The field that bounds one answer's output, and the bound; raises Invalid beyond the alias's.

    What is not a chat puts no words out: its bound is 0.
    """
    if alias.kind != Alias.Kind.CHAT:
        return "", 0
    name = "max_completion_tokens" if params.get("max_completion_tokens") else "max_tokens"
    asked = params.get(name)
    limit = alias.default_max_tokens if asked is None else int(asked)
    if limit > alias.max_output_tokens:
        raise Invalid(
            f"{name} may be {alias.max_output_tokens} at most for {alias.name}.", param=name
        )
    return name, limit


def draft(placing: Placing, *, max_tokens: int) -> Call:
    """The call's row with its worst case, fitted to its locked job. Raises UnitUnpriced and
    JobCapExceeded."""
    job = placing.job
    _require_unit_price(placing)
    now = clock.now()
    worst = _worst(placing, max_tokens=max_tokens)
    chosen = placing.resolved.deployments[0]
    is_hit = placing.is_cache_hit
    keeps_metadata = job.team.payload_policy != Team.PayloadPolicy.OFF
    call = rows.new(
        Call,
        id=placing.call_id,
        job=job,
        team=job.team,
        api_key=placing.api_key,
        alias=placing.resolved.alias,
        deployment=None if is_hit else chosen.deployment,
        is_stream=placing.order.is_stream,
        is_cache_hit=is_hit,
        purpose=placing.order.purpose if keeps_metadata else "",
        call_metadata=dict(placing.order.call_metadata or {}) if keeps_metadata else {},
        created_at=now,
        expires_at=now
        + timedelta(seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS),
        unit_prices=chosen.prices.as_json(),
        estimated_prompt_tokens=worst.prompt_tokens,
        max_output_tokens=worst.output_tokens,
        held_nanocredits=worst.price_nanocredits,
        held_cost_nano_usd=worst.cost_nano_usd,
    )
    _fit_to_job(placing, call)
    return call


def _require_unit_price(placing: Placing) -> None:
    """Unknown is never 0: what is paid by the unit needs a plan with a price for it."""
    alias, job_type = placing.resolved.alias, placing.job.job_type
    if alias.kind not in Alias.BY_UNIT:
        return
    if not placing.plan.prices_units(job_type=job_type, alias=alias.name):
        raise UnitUnpriced


def clamped(placing: Placing, refusal: PaymentRequired, *, max_tokens: int) -> int | None:
    """The longest output that what the refusal says is available covers; None to refuse.

    None unless the alias's rule clamps and a useful answer is affordable.
    """
    rule = placing.plan.rule_for(job_type=placing.job.job_type, alias=placing.resolved.alias.name)
    available = refusal.figures.get("credits_available")
    if not isinstance(rule, CallPrice) or not rule.is_clamping or available is None:
        return None
    affordable, low, high = nano(available), LEAST_CLAMPED_TOKENS, max_tokens
    if _worst(placing, max_tokens=low).price_nanocredits > affordable:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if _worst(placing, max_tokens=middle).price_nanocredits <= affordable:
            low = middle
        else:
            high = middle - 1
    return low


def reservation_of(call: Call) -> Reservation:
    """What an admitted call set aside under its job's caps."""
    return Reservation(nanocredits=call.held_nanocredits, cost_nano_usd=call.held_cost_nano_usd)


def _worst(placing: Placing, *, max_tokens: int) -> Estimate:
    return estimate.worst_case(
        plan=placing.plan,
        job_type=placing.job.job_type,
        resolved=placing.resolved,
        messages=placing.order.prompt,
        params=placing.order.params,
        max_tokens=max_tokens,
        counted_before=counted(placing),
        is_cache_hit=placing.is_cache_hit,
        milliunits=placing.order.milliunits,
    )


def counted(placing: Placing) -> int:
    """Where a tiered rule's count stands for this call; a package's bound needs no count."""
    rule = placing.plan.call_rule(job_type=placing.job.job_type, alias=placing.resolved.alias.name)
    if rule is None or rule.tiers is None:
        return 0
    lifetime = timedelta(seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS)
    return counters.reached(
        team_id=placing.job.team_id, rule_id=rule.rule_id, until=clock.now() + lifetime
    )


def _fit_to_job(placing: Placing, call: Call) -> None:
    """A quote bounds the hold, a hard margin floor the admission."""
    job, alias = placing.job, placing.resolved.alias.name
    left = caps_beyond(job).get("quote")
    if left is not None:
        call.held_nanocredits = min(call.held_nanocredits, left)
    rule = placing.plan.rule_for(job_type=job.job_type, alias=alias)
    if rule is None or not rule.is_floor_hard or rule.margin_floor_basis_points is None:
        return
    cost = job.provider_cost_nano_usd + job.held_cost_nano_usd + call.held_cost_nano_usd
    value = job_value_nano_usd(
        placing.plan,
        job_type=job.job_type,
        nanocredits=job.charged_nanocredits + job.held_nanocredits + call.held_nanocredits,
    )
    if is_below_floor(cost=cost, value=value, floor=rule.margin_floor_basis_points):
        raise JobCapExceeded(needed=call.held_nanocredits, available=0)


def job_value_nano_usd(plan: Plan, *, job_type: str, nanocredits: int) -> int:
    """What a job's calls and its own price are worth at the plan's rate, in nano-USD."""
    rule = plan.job_rule(job_type)
    return plan.nano_usd(max(nanocredits, rule.held_nanocredits if rule else 0))


def is_below_floor(*, cost: int, value: int, floor: int) -> bool:
    """Whether provider cost leaves less than ``floor`` basis points of the price."""
    return cost * BASIS_POINTS > value * (BASIS_POINTS - floor)
