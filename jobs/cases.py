"""A settlement on its way: a call that has ended, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billing import ledger
from billing.models import Hold
from jobs import charging, tries
from jobs.closing import Ending
from jobs.models import Attempt, Call, Job
from jobs.open_calls import OpenCall, Outcome
from jobs.usage import Usage
from saas_litellm.base import clock

# What a settlement writes of a call.
SETTLED = (
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


@dataclass(slots=True, kw_only=True)
class Case:
    """One settlement and its rows as they stand. ``is_late``: the call had been found abandoned."""

    settlement: Settlement
    call: Call
    job: Job
    is_late: bool
    # What the job's total has of this call's cost already, of it an estimate that is lifted.
    booked_nano_usd: int
    estimated_nano_usd: int = 0
    cost_nano_usd: int = 0
    price: int = 0
    held: Hold | None = None
    period_ids: Sequence[int] = ()
    charge: ledger.Charge | None = None
    ending: Ending | None = None
    excess_nanocredits: int = 0

    @property
    def usage(self) -> Usage | None:
        """What the team pays for; None when nothing was delivered."""
        outcome = self.settlement.outcome
        return outcome.usage if outcome.is_output_delivered else None

    @property
    def full_cost_nano_usd(self) -> int:
        """What the answer cost whoever asked for it: a cache hit is priced by that."""
        return self.cost_nano_usd or self.call.saved_nano_usd

    @property
    def ends_its_job(self) -> bool:
        """Whether the job was made for this call alone, and is still open."""
        return self.job.is_single and self.job.is_open

    def record(self, charge: ledger.Charge) -> None:
        """Put how the call ended, and its charge, on its row."""
        call, outcome, usage = self.call, self.settlement.outcome, self.settlement.outcome.usage
        is_settled = outcome.is_output_delivered
        self.charge = charge
        call.status = Call.Status.SETTLED if is_settled else Call.Status.FAILED
        call.usage, call.usage_source = usage.as_json(), usage.source
        call.prompt_tokens, call.cached_tokens = usage.prompt_tokens, usage.cached_tokens
        call.completion_tokens, call.total_tokens = usage.completion_tokens, usage.total_tokens
        call.latency_ms, call.first_token_at = outcome.latency_ms, outcome.first_token_at
        call.finished_at, call.finish_reason = clock.now(), outcome.finish_reason
        call.error_code, call.is_output_delivered = outcome.error_code, is_settled
        call.price_nanocredits = charge.charged_nanocredits + charge.overrun_nanocredits
        call.charged_nanocredits = charge.charged_nanocredits
        call.overrun_nanocredits = charge.overrun_nanocredits
        call.overrun_reason, call.price_nano_usd = charge.overrun_reason, charge.price_nano_usd
        call.provider_cost_nano_usd = (
            self.booked_nano_usd - self.estimated_nano_usd + self.cost_nano_usd
        )

    def ended_attempt(self) -> Attempt | None:
        """The attempt to end: one that was recorded and never asked ends as it is."""
        attempt, opened = self.settlement.attempt, self.settlement.opened
        if attempt is not None:
            return tries.end(attempt, self.settlement.outcome, at=self.call.finished_at)
        if opened.attempt is not None:
            opened.attempt.ended_at = self.call.finished_at
        return opened.attempt


def is_plain(opened: OpenCall) -> bool:
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
