"""What the webhooks API takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from teams.api import Body, Query
from teams.operator_api import Moment

_Types = Annotated[list[str], Field(min_length=1, max_length=50)]
_Url = Annotated[str, Field(max_length=2000)]
_About = Annotated[str, Field(max_length=200)]
# Event ids as they are sent (evt_17), or the number alone.
_EventId = Annotated[
    int,
    BeforeValidator(
        lambda given: (
            int(given[4:]) if str(given).startswith("evt_") and given[4:].isdigit() else given
        )
    ),
    Field(ge=1, le=2**63 - 1),
]


class CreateEndpoint(Body):
    url: _Url
    types: _Types
    description: _About = ""
    team_id: str | None = Field(
        None, max_length=63, description="An operator's: whose it is. Without it, the platform's."
    )


class ChangeEndpoint(Body):
    url: _Url | None = None
    types: _Types | None = None
    description: _About | None = None
    is_active: bool | None = None


class Nothing(Body):
    pass


class Replay(Body):
    from_id: _EventId | None = Field(None, description="An event's id; it is included.")
    to_id: _EventId | None = Field(None, description="An event's id; it is included.")
    since: Moment | None = None
    until: Moment | None = None
    types: list[str] = Field([], max_length=50)


class ListEndpoints(Query):
    team_id: str | None = Field(None, max_length=63)


class ListDeliveries(Query):
    status: Literal["pending", "delivered", "failed"] | None = None
    cursor: int | None = Field(None, ge=1, le=2**63 - 1)


class EndpointView(BaseModel):
    id: int
    team_id: str | None
    url: str
    types: list[str]
    description: str
    is_active: bool
    disabled_reason: str
    created_at: datetime
    failures: int
    failing_since: datetime | None
    resting_until: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None


class CreatedEndpoint(EndpointView):
    secret: str | None


class EndpointList(BaseModel):
    endpoints: list[EndpointView]


class RotatedSecret(BaseModel):
    secret: str | None
    older_end_at: datetime


class TypeView(BaseModel):
    type: str
    about: str
    is_for_teams: bool
    data: dict[str, Any]


class TypeList(BaseModel):
    types: list[TypeView]


class AttemptView(BaseModel):
    number: int
    started_at: datetime
    latency_ms: int | None
    status: int | None
    failure: str
    excerpt: str


class DeliveryView(BaseModel):
    id: int
    event_id: str
    type: str
    cause: str
    status: str
    tries: int
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class WholeDelivery(DeliveryView):
    event: dict[str, Any]
    attempts: list[AttemptView]


class DeliveryList(BaseModel):
    deliveries: list[DeliveryView]
    next_cursor: int | None


class Replayed(BaseModel):
    messages: int


class Deleted(BaseModel):
    id: int
    is_deleted: bool
