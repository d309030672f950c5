"""Every type of event, and what each one says: read by endpoints, by the documents, by the schema.

Credits and dollars are exact decimals. What teams hear names aliases, never who serves them; types
with ``is_for_teams`` False are the operators' alone.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import BaseModel, WithJsonSchema

# A JSON number of up to nine decimal places.
Amount = Annotated[Decimal, WithJsonSchema({"type": "number"})]


class Told(BaseModel):
    """What an event of one type says."""

    type: ClassVar[str]
    about: ClassVar[str]
    is_for_teams: ClassVar[bool] = True


class JobTold(Told):
    job_id: UUID
    team_id: str
    job_type: str
    user_id: str
    external_task_id: str
    status: str
    created_at: datetime


class JobCreated(JobTold):
    type = "job.created"
    about = "A job was opened."


class JobStarted(JobTold):
    type = "job.started"
    about = "A job's first call was admitted."


class ClosedJobTold(JobTold):
    closed_at: datetime
    outcome: str
    error_message: str
    successful_calls: int
    failed_calls: int
    total_tokens: int
    credits_charged: Amount
    credits_refunded: Amount
    total_cost_usd: Amount


class JobCompleted(ClosedJobTold):
    type = "job.completed"
    about = "A job was completed, and its own price settled."


class JobFailed(ClosedJobTold):
    type = "job.failed"
    about = "A job was called failed, or was idle for too long (error_message `expired`)."


class JobCancelled(ClosedJobTold):
    type = "job.cancelled"
    about = "A job was cancelled; calls that still ran settle after it."


class CallFailed(Told):
    type = "call.failed"
    about = "A call ended with an error: error_code is that of the API's errors, or `abandoned`."

    call_id: UUID
    job_id: UUID
    team_id: str
    job_type: str
    model: str
    purpose: str
    error_code: str
    is_output_delivered: bool
    credits_charged: Amount
    finished_at: datetime


class WalletTold(Told):
    """Of one wallet: a team's own, or an organization's that its teams share (team_id null)."""

    team_id: str | None
    organization_id: str


class CreditsLow(WalletTold):
    type = "credits.low"
    about = "A balance fell below one of its thresholds; once for each crossing."

    threshold: Amount
    balance: Amount


class CreditsExhausted(WalletTold):
    type = "credits.exhausted"
    about = "A job or call was refused for want of credits: the first one since credits were added."

    credits_needed: Amount
    credits_available: Amount


class CreditsAdded(WalletTold):
    type = "credits.added"
    about = "Credits were added: bought, given, or by a subscription (kind)."

    credits: Amount
    kind: str
    balance: Amount
    expires_at: datetime | None


class CreditsExpiring(WalletTold):
    type = "credits.expiring"
    about = "Credits that are left of one lot will expire within seven days; once for each lot."

    lot_id: int
    credits: Amount
    expires_at: datetime


class BudgetReached(Told):
    type = "budget.reached"
    about = "A budget's period has used its limit; once for each period."

    budget_id: int
    team_id: str | None
    organization_id: str | None
    key_prefix: str | None
    period: str
    starts_on: str
    limit: Amount
    used: Amount
    is_hard: bool


class KeyExpiring(Told):
    type = "key.expiring"
    about = "An API key that was not replaced will end within seven days; once for each key."

    team_id: str
    key_prefix: str
    name: str
    expires_at: datetime


class DeploymentTold(Told):
    is_for_teams = False

    deployment_id: int
    alias: str
    model: str


class ProviderDown(DeploymentTold):
    type = "provider.down"
    about = "A deployment keeps failing, and is left alone until `tried_again_at`."

    reason: str
    tried_again_at: datetime


class ProviderUp(DeploymentTold):
    type = "provider.up"
    about = "A deployment that was down answers again, or an operator says that it is well."


class MarginAlarm(Told):
    type = "margin.alarm"
    about = "What a team pays for leaves less than its plan's floor: over 30 days, or on one job."
    is_for_teams = False

    team_id: str
    kind: str
    plan: str
    job_id: UUID | None
    revenue_usd: Amount
    provider_cost_usd: Amount


class EndpointTested(Told):
    type = "webhook.test"
    about = "Somebody asked for a test. No endpoint needs to list this type."

    endpoint_id: int
    message: str


# What an endpoint may list, in the documents' order.
TYPES: dict[str, type[Told]] = {
    shape.type: shape
    for shape in (
        JobCreated,
        JobStarted,
        JobCompleted,
        JobFailed,
        JobCancelled,
        CallFailed,
        CreditsLow,
        CreditsExhausted,
        CreditsAdded,
        CreditsExpiring,
        BudgetReached,
        KeyExpiring,
        ProviderDown,
        ProviderUp,
        MarginAlarm,
    )
}
SHAPES: dict[str, type[Told]] = {**TYPES, EndpointTested.type: EndpointTested}


class Envelope(BaseModel):
    """What is sent of every event."""

    id: str
    type: str
    timestamp: datetime
