"""A job's rows as the domain would have written them: work, costs, holds and ledger lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from billing.models import Hold
from jobs import charging, costs
from jobs.models import Attempt, Call, CostLine, Job, StatusChange
from jobs.usage import Usage
from saas_litellm.seeding import lines
from saas_litellm.seeding.founding import Customer, Served
from saas_litellm.seeding.lines import Line
from saas_litellm.seeding.market import JobType
from saas_litellm.seeding.rows import Rows
from teams.prices import UnitPrices

MAX_OUTPUT = 4_000
_HELD_FOR = timedelta(seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One call to come. ``failure``: that of its first attempt; without an ``is_rescued`` it is the end."""

    id: UUID
    usage: Usage
    starts_at: datetime
    ends_at: datetime
    is_stream: bool
    failure: str = ""
    is_rescued: bool = False

    @property
    def is_delivered(self) -> bool:
        return not self.failure or self.is_rescued


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One closed job to come."""

    id: UUID
    customer: Customer
    job_type: JobType
    served: Served
    calls: list[Said]
    status: str
    starts_at: datetime
    ends_at: datetime
    user_id: str
    metadata: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class _Bill:
    """A call's figures."""

    said: Said
    prices: UnitPrices
    deployment_id: int
    cost_nano_usd: int
    price_nanocredits: int

    @property
    def status(self) -> str:
        return Call.Status.SETTLED if self.said.is_delivered else Call.Status.FAILED


class Book:
    """One errand: what it costs, and its rows."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self._plan = errand.customer.plan
        self._bills = [self._billed(said) for said in errand.calls]
        charged = sum(bill.price_nanocredits for bill in self._bills)
        due = self._plan.closed_price(
            job_type=errand.job_type.name,
            charged_by_calls=charged,
            ending="completed"
            if errand.status == Job.Status.COMPLETED
            else "failed_delivered"
            if any(said.is_delivered for said in errand.calls)
            else "failed_empty",
        )
        self._base = max(0, due - charged)
        self.nanocredits = charged + self._base

    def write(self, rows: Rows) -> Iterator[Line]:
        """Write the work's rows; the ledger lines are the caller's to enter."""
        errand, plan = self.errand, self._plan
        hold_id = self._hold_of_job(rows)
        base_usd = plan.nano_usd(self._base)
        delivered = sum(said.is_delivered for said in errand.calls)
        flat = plan.flat_rule(errand.job_type.name)
        rows.add(
            Job,
            id=errand.id,
            team_id=errand.customer.team_id,
            api_key_id=errand.customer.key_id,
            plan_version_id=plan.version_id,
            hold_id=hold_id,
            account_id=errand.customer.account_id,
            job_type=errand.job_type.name,
            user_id=errand.user_id,
            metadata=errand.metadata,
            status=errand.status,
            error_message="the document could not be read" * (errand.status == Job.Status.FAILED),
            created_at=errand.starts_at,
            started_at=errand.starts_at,
            closed_at=errand.ends_at,
            last_activity_at=errand.ends_at,
            max_provider_cost_nano_usd=flat.max_provider_cost_nano_usd if flat else None,
            base_charged_nanocredits=self._base,
            base_price_nano_usd=base_usd,
            successful_calls=delivered,
            failed_calls=len(errand.calls) - delivered,
            total_tokens=sum(said.usage.total_tokens for said in errand.calls),
            total_latency_ms=sum(_milliseconds(said) for said in errand.calls),
            charged_nanocredits=self.nanocredits,
            price_nano_usd=base_usd
            + sum(plan.nano_usd(bill.price_nanocredits) for bill in self._bills),
            provider_cost_nano_usd=sum(bill.cost_nano_usd for bill in self._bills),
        )
        self._write_history(rows)
        for bill in self._bills:
            self._write_call(rows, bill)
            if bill.price_nanocredits:
                yield self._line_of_call(bill)
        if self._base:
            yield self._line_of_job()

    def _billed(self, said: Said) -> _Bill:
        deployment_id, prices = self.errand.served.deployments[-1 if said.is_rescued else 0]
        is_costed = said.is_delivered
        cost = costs.provider_cost_nano_usd(prices=prices, usage=said.usage) if is_costed else 0
        price = (
            self._plan.call_price(
                job_type=self.errand.job_type.name,
                alias=self.errand.job_type.alias,
                measure=charging.measure_of(said.usage, cost=cost),
            )
            if said.is_delivered
            else 0
        )
        return _Bill(
            said=said,
            prices=prices,
            deployment_id=deployment_id,
            cost_nano_usd=cost,
            price_nanocredits=price,
        )

    def _hold_of_job(self, rows: Rows) -> int | None:
        rule = self._plan.job_rule(self.errand.job_type.name)
        if rule is None or not rule.held_nanocredits:
            return None
        held: int = rows.add(
            Hold,
            account_id=self.errand.customer.account_id,
            amount_nanocredits=rule.held_nanocredits,
            state=Hold.State.SETTLED if self._base else Hold.State.RELEASED,
            reference=f"job:{self.errand.id}",
            created_at=self.errand.starts_at,
            closed_at=self.errand.ends_at,
        )
        return held

    def _write_history(self, rows: Rows) -> None:
        errand = self.errand
        first = errand.calls[0].starts_at
        for before, after, at in (
            ("", Job.Status.PENDING, errand.starts_at),
            (Job.Status.PENDING, Job.Status.IN_PROGRESS, first),
            (Job.Status.IN_PROGRESS, errand.status, errand.ends_at),
        ):
            rows.add(
                StatusChange,
                job_id=errand.id,
                from_status=before,
                to_status=after,
                at=at,
                actor=f"team:{errand.customer.slug}",
            )

    def _write_call(self, rows: Rows, bill: _Bill) -> None:
        errand, said, usage = self.errand, bill.said, bill.said.usage
        estimated = usage.prompt_tokens * 11 // 10
        worst = costs.worst_cost_nano_usd(
            prices=bill.prices, prompt_tokens=estimated, output_tokens=MAX_OUTPUT
        )
        bound = Usage(prompt_tokens=estimated, completion_tokens=MAX_OUTPUT)
        held = self._plan.worst_call_price(
            job_type=errand.job_type.name,
            alias=errand.job_type.alias,
            measure=charging.measure_of(bound, cost=worst),
        )
        rows.add(
            Call,
            id=said.id,
            job_id=errand.id,
            team_id=errand.customer.team_id,
            api_key_id=errand.customer.key_id,
            alias_id=errand.served.alias_id,
            deployment_id=bill.deployment_id,
            hold_id=self._hold_of_call(rows, bill, held) if held else None,
            status=bill.status,
            is_stream=said.is_stream,
            purpose=errand.job_type.purpose,
            created_at=said.starts_at,
            dispatched_at=said.starts_at,
            first_token_at=_first_token(said) if said.is_stream and said.is_delivered else None,
            finished_at=said.ends_at,
            expires_at=said.starts_at + _HELD_FOR,
            unit_prices=bill.prices.as_json(),
            estimated_prompt_tokens=estimated,
            max_output_tokens=MAX_OUTPUT,
            held_nanocredits=held,
            held_cost_nano_usd=worst,
            usage=usage.as_json(),
            usage_source=usage.source,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            latency_ms=_milliseconds(said),
            finish_reason="stop" if said.is_delivered else "",
            error_code="" if said.is_delivered else "provider_error",
            is_output_delivered=said.is_delivered,
            price_nanocredits=bill.price_nanocredits,
            charged_nanocredits=bill.price_nanocredits,
            price_nano_usd=self._plan.nano_usd(bill.price_nanocredits),
            provider_cost_nano_usd=bill.cost_nano_usd,
        )
        self._write_attempts(rows, bill)

    def _hold_of_call(self, rows: Rows, bill: _Bill, held: int) -> Any:
        return rows.add(
            Hold,
            account_id=self.errand.customer.account_id,
            amount_nanocredits=held,
            state=Hold.State.SETTLED if bill.price_nanocredits else Hold.State.RELEASED,
            reference=f"call:{bill.said.id}",
            created_at=bill.said.starts_at,
            expires_at=bill.said.starts_at + _HELD_FOR,
            closed_at=bill.said.ends_at,
        )

    def _write_attempts(self, rows: Rows, bill: _Bill) -> None:
        said = bill.said
        began, number = said.starts_at, 1
        if said.failure:
            failed_at = began + (said.ends_at - began) / 3 if said.is_rescued else said.ends_at
            rows.add(
                Attempt,
                call_id=said.id,
                deployment_id=self.errand.served.deployments[0][0],
                number=number,
                started_at=began,
                ended_at=failed_at,
                failure=said.failure,
                failure_status=429 if said.failure == "rate_limited" else 503,
                failure_detail="The upstream is busy.",
            )
            began, number = failed_at, 2
        if not said.is_delivered:
            return
        attempt_id = rows.add(
            Attempt,
            call_id=said.id,
            deployment_id=bill.deployment_id,
            number=number,
            started_at=began,
            ended_at=said.ends_at,
        )
        if bill.cost_nano_usd:
            rows.add(
                CostLine,
                call_id=said.id,
                attempt_id=attempt_id,
                kind=CostLine.Kind.ATTEMPT,
                amount_nano_usd=bill.cost_nano_usd,
                created_at=said.ends_at,
            )

    def _line_of_call(self, bill: _Bill) -> Line:
        errand = self.errand
        return lines.charge(
            errand.customer,
            at=bill.said.ends_at,
            nanocredits=bill.price_nanocredits,
            reference=f"call:{bill.said.id}",
            reason=f"call of job {errand.id}",
            labels={"job_type": errand.job_type.name, "alias": errand.job_type.alias},
        )

    def _line_of_job(self) -> Line:
        errand = self.errand
        return lines.charge(
            errand.customer,
            at=errand.ends_at,
            nanocredits=self._base,
            reference=f"job:{errand.id}",
            reason=f"{errand.job_type.name} {errand.status}",
            labels={"job_type": errand.job_type.name},
        )


def _milliseconds(said: Said) -> int:
    return (said.ends_at - said.starts_at) // timedelta(milliseconds=1)


def _first_token(said: Said) -> datetime:
    return said.starts_at + (said.ends_at - said.starts_at) / 5
