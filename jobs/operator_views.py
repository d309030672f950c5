"""Management of work: refunds, profit, repricing, shadow plans, cost drift."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.http import HttpResponse
from pydantic import BaseModel, Field

from billing import plans
from billing.models import Entry
from billing.plan_views import find_version
from jobs import closing, drift, profit, refunds, repricing, shadows
from jobs.models import Call, Job, Shadow
from jobs.repricing import Repriced
from saas_litellm.base import clock
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid, NotFound
from teams import directory
from teams.api import Body, Query
from teams.operator_api import Amount, Key, Moment, management, maybe_exact
from teams.operators import Operator

REPRICE_DAYS = 366


class Refund(Body):
    job_id: UUID | None = Field(None, strict=False)
    call_id: UUID | None = Field(None, strict=False)
    credits: Amount | None = Field(None, description="Default: all that is left.")
    reason: str = Field(min_length=1, max_length=500)
    idempotency_key: Key


class WaiveJob(Body):
    status: Literal["failed", "cancelled"] = "failed"
    reason: str = Field(min_length=1, max_length=500)


class ProfitQuery(Query):
    start: date | None = Field(None, description="First day (UTC); default: 30 days ago.")
    end: date | None = Field(None, description="Day after the last; default: tomorrow.")
    group_by: str | None = Field(None, description=", ".join(profit.GROUPS))
    team_id: str | None = None
    organization_id: str | None = None
    job_type: str | None = None
    alias: str | None = None
    deployment: int | None = None
    job_id: UUID | None = None
    format: Literal["json", "csv"] = "json"


class Reprice(Body):
    plan: str = Field(min_length=1, max_length=63)
    version: int = Field(ge=1)
    since: Moment
    until: Moment | None = None
    team_id: str | None = Field(None, max_length=63)
    job_type: str | None = Field(None, max_length=100)
    format: Literal["json", "csv"] = "json"


class StartShadow(Body):
    plan: str = Field(min_length=1, max_length=63)
    version: int = Field(ge=1)
    team_id: str | None = Field(None, max_length=63)


class DriftQuery(Query):
    least_jobs: int = Field(20, ge=1)
    percent: int = Field(20, ge=1)


class RefundView(BaseModel):
    entries: list[dict[str, Any]]
    balance: Any


class WaivedView(BaseModel):
    job_id: UUID
    status: str
    credits_refunded: Any


class ProfitView(BaseModel):
    start: date
    end: date
    group_by: str | None
    total: dict[str, Any]
    rows: list[dict[str, Any]]


class RepriceView(BaseModel):
    total: dict[str, Any]
    teams: list[dict[str, Any]]
    jobs_turning_to_loss: list[dict[str, Any]]


class ShadowView(BaseModel):
    id: int
    plan: str
    version: int
    team_id: str | None
    started_at: datetime
    ended_at: datetime | None
    days: list[dict[str, Any]]


class ShadowList(BaseModel):
    shadows: list[ShadowView]


class DriftView(BaseModel):
    drifts: list[dict[str, Any]]


@management(
    "POST",
    permission="jobs.refund_job",
    body=Refund,
    answer=RefundView,
    summary="Refund a job or a call",
)
def refund(operator: Operator, body: Refund, team_id: str) -> dict[str, Any]:
    """Whole or in part, at most what was charged and not given back yet; lots are restored."""
    team = directory.find_team(team_id)
    named: dict[str, Any] = {
        "nanocredits": maybe_exact(body.credits, param="credits"),
        "reason": body.reason,
        "actor": operator.actor,
        "operator": operator,
        "idempotency_key": f"api:{body.idempotency_key}",
    }
    if (body.job_id is None) == (body.call_id is None):
        raise Invalid("Send job_id or call_id, one of them.", param="job_id")
    entries: list[Entry] = []
    if body.job_id is not None:
        job = Job.objects.filter(pk=body.job_id, team=team).first()
        entries = refunds.refund_job(job=_found(job), **named)
    if body.call_id is not None:
        call = Call.objects.select_related("job").filter(pk=body.call_id, team=team).first()
        entries = [refunds.refund_call(call=_found(call), **named)]
    account = entries[0].account
    account.refresh_from_db()
    return {
        "entries": [_entry(entry) for entry in entries],
        "balance": from_nano(account.balance_nanocredits),
    }


@management(
    "POST",
    permission="jobs.change_job",
    body=WaiveJob,
    answer=WaivedView,
    summary="Fail or cancel a job and charge nothing for it",
)
def waive_job(operator: Operator, body: WaiveJob, job_id: UUID) -> dict[str, Any]:
    """An operator's decision: what its calls were charged is given back."""
    job = _found(Job.objects.select_related("team__organization").filter(pk=job_id).first())
    closed = closing.close(
        job=job,
        status=body.status,
        actor=operator.actor,
        error_message=body.reason,
        is_waived=True,
    )
    return {
        "job_id": closed.pk,
        "status": closed.status,
        "credits_refunded": from_nano(closed.refunded_nanocredits),
    }


@management(
    "GET",
    permission="jobs.view_profitday",
    query=ProfitQuery,
    answer=ProfitView,
    summary="Report profit",
)
def profit_report(operator: Operator, query: ProfitQuery) -> dict[str, Any] | HttpResponse:
    """Revenue, provider cost, refunds, overrun and margin, by whatever is asked; JSON or CSV."""
    today = clock.now().date()
    reported = profit.report(
        start=query.start or today - timedelta(days=30),
        end=query.end or today + timedelta(days=1),
        group_by=query.group_by,
        filters=profit.Filters(
            team=query.team_id,
            organization=query.organization_id,
            job_type=query.job_type,
            alias=query.alias,
            deployment=query.deployment,
            job_id=query.job_id,
        ),
    )
    if query.format == "json":
        return reported.as_json()
    rows = [{"key": key, **sums.as_json()} for key, sums in reported.rows]
    rows.append({"key": "total", **reported.total.as_json()})
    return csv_answer(rows, filename="profit.csv")


@management(
    "POST",
    permission="billing.view_priceplan",
    body=Reprice,
    answer=RepriceView,
    summary="Price past jobs under another plan",
)
def reprice(operator: Operator, body: Reprice) -> dict[str, Any] | HttpResponse:
    """What real closed jobs would have paid under a version, a draft too. Changes nothing."""
    if body.since < clock.now() - timedelta(days=REPRICE_DAYS):
        raise Invalid(f"since may be {REPRICE_DAYS} days ago at most.", param="since")
    repriced = repricing.reprice(
        plan=plans.read(find_version(body.plan, body.version)),
        since=body.since,
        until=body.until,
        team=directory.find_team(body.team_id) if body.team_id else None,
        job_type=body.job_type,
    )
    if body.format == "csv":
        return csv_answer((_repriced(job) for job in repriced), filename="repriced.csv")
    total, teams, losing = repricing.summarize(repriced)
    return {
        "total": total.as_json(),
        "teams": [{"team_id": slug, **summed.as_json()} for slug, summed in teams.items()],
        "jobs_turning_to_loss": [_repriced(job) for job in losing],
    }


@management(
    "POST",
    permission="jobs.add_shadow",
    body=StartShadow,
    answer=ShadowView,
    status=201,
    summary="Start a shadow plan",
)
def start_shadow(operator: Operator, body: StartShadow) -> dict[str, Any]:
    """Price every job that closes from now on by a candidate too, charging nothing."""
    shadow = shadows.start(
        version=find_version(body.plan, body.version),
        team=directory.find_team(body.team_id) if body.team_id else None,
        actor=operator.actor,
    )
    return _shadow(shadow)


@management("GET", permission="jobs.view_shadow", answer=ShadowList, summary="List shadow plans")
def list_shadows(operator: Operator) -> dict[str, Any]:
    """With the daily difference of each team."""
    shadows.price_due()
    found = Shadow.objects.select_related("version__plan", "team")[:100]
    return {"shadows": [_shadow(shadow) for shadow in found]}


@management(
    "DELETE", permission="jobs.change_shadow", answer=ShadowView, summary="Stop a shadow plan"
)
def stop_shadow(operator: Operator, shadow_id: int) -> dict[str, Any]:
    """Its days stay."""
    shadow = _found(Shadow.objects.select_related("version__plan").filter(pk=shadow_id).first())
    shadows.stop(shadow=shadow, actor=operator.actor)
    return _shadow(shadow)


@management(
    "GET",
    permission="jobs.view_profitday",
    query=DriftQuery,
    answer=DriftView,
    summary="Report cost drift",
)
def cost_drift(operator: Operator, query: DriftQuery) -> dict[str, Any]:
    """Where the cost per job moved against the four weeks before, and why."""
    found = drift.find(least_jobs=query.least_jobs, percent=query.percent)
    return {"drifts": [row.as_json() for row in found]}


Row = TypeVar("Row")


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound
    return row


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "entry_id": entry.pk,
        "reference": entry.reference,
        "credits": from_nano(entry.amount_nanocredits),
    }


def _repriced(job: Repriced) -> dict[str, Any]:
    return {
        "job_id": str(job.job_id),
        "team_id": job.team,
        "job_type": job.job_type,
        "closed_at": job.closed_at.astimezone(UTC).isoformat(),
        "provider_cost_usd": from_nano(job.provider_cost_nano_usd),
        "current_usd": from_nano(job.current_nano_usd),
        "candidate_usd": from_nano(job.candidate_nano_usd),
        "difference_usd": from_nano(job.difference_nano_usd),
        "turns_to_loss": job.turns_to_loss,
    }


def _shadow(shadow: Shadow) -> dict[str, Any]:
    return {
        "id": shadow.pk,
        "plan": shadow.version.plan.slug,
        "version": shadow.version.number,
        "team_id": shadow.team.slug if shadow.team else None,
        "started_at": shadow.started_at,
        "ended_at": shadow.ended_at,
        "days": [
            {
                "day": day.day,
                "team_id": day.team.slug,
                "jobs": day.jobs,
                "provider_cost_usd": from_nano(day.provider_cost_nano_usd),
                "real_usd": from_nano(day.real_nano_usd),
                "shadow_usd": from_nano(day.shadow_nano_usd),
                "difference_usd": from_nano(day.difference_nano_usd),
            }
            for day in shadow.days.select_related("team")[:1000]
        ],
    }
