"""Each request as a value: where it goes, what it says, what answers it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from saas_litellm_client import answers
from saas_litellm_client.answers import Answer
from saas_litellm_client.options import Messages

Answered_co = TypeVar("Answered_co", bound=Answer, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[Answered_co]):
    """``content`` and ``key`` are made once, so that every try of a request is the same one.

    ``is_silent``: nothing arrives until all of it is done.
    """

    method: str
    path: str
    answer: type[Answered_co]
    content: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    is_silent: bool = False

    @property
    def headers(self) -> dict[str, str]:
        said = {"Content-Type": "application/json"} if self.content is not None else {}
        return said | ({"Idempotency-Key": self.key} if self.key else {})


def create_job(
    *, team_id: str, job_type: str, options: Mapping[str, Any], key: str | None = None
) -> Request[answers.CreatedJob]:
    body = {"team_id": team_id, "job_type": job_type, **_job(options)}
    return _post("/api/jobs/create", answers.CreatedJob, body, key=key)


def call(
    *, job_id: UUID, messages: Messages, options: Mapping[str, Any], key: str | None = None
) -> Request[answers.Call]:
    body = {"messages": listed(messages), **options}
    return _post(f"/api/jobs/{job_id}/llm-call", answers.Call, body, key=key, is_silent=True)


def stream(
    *, job_id: UUID, messages: Messages, options: Mapping[str, Any], key: str | None = None
) -> Request[answers.Call]:
    body = {"messages": listed(messages), **options}
    return _post(f"/api/jobs/{job_id}/llm-call-stream", answers.Call, body, key=key)


def one_call(
    *,
    team_id: str,
    job_type: str,
    messages: Messages,
    options: Mapping[str, Any],
    key: str | None = None,
) -> Request[answers.OneCall]:
    body = _one_call(team_id, job_type, messages, options)
    path = "/api/jobs/create-and-call"
    return _post(path, answers.OneCall, body, key=key, is_silent=True)


def one_stream(
    *,
    team_id: str,
    job_type: str,
    messages: Messages,
    options: Mapping[str, Any],
    key: str | None = None,
) -> Request[answers.OneCall]:
    body = _one_call(team_id, job_type, messages, options)
    return _post("/api/jobs/create-and-call-stream", answers.OneCall, body, key=key)


def complete(
    *,
    job_id: UUID,
    status: str,
    metadata: Mapping[str, Any] | None = None,
    outcome: str | None = None,
    error_message: str = "",
) -> Request[answers.ClosedJob]:
    body = {
        "status": status,
        "metadata": metadata or None,
        "outcome": outcome,
        "error_message": error_message[:2000] or None,
    }
    return _post(f"/api/jobs/{job_id}/complete", answers.ClosedJob, body)


def cancel(*, job_id: UUID, reason: str) -> Request[answers.ClosedJob]:
    body = {"reason": reason[:500] or None}
    return _post(f"/api/jobs/{job_id}/cancel", answers.ClosedJob, body)


def set_metadata(*, job_id: UUID, metadata: Mapping[str, Any]) -> Request[answers.JobMetadata]:
    # To merge the same twice is to merge it once: no key is needed.
    return Request(
        method="PATCH",
        path=f"/api/jobs/{job_id}/metadata",
        answer=answers.JobMetadata,
        content=_encoded({"metadata": metadata}),
    )


def quote(
    *,
    team_id: str,
    job_type: str,
    model: str | None,
    messages: Messages | None,
    expected_calls: int | None,
) -> Request[answers.Quote]:
    body = {
        "team_id": team_id,
        "job_type": job_type,
        "model": model,
        "messages": None if messages is None else listed(messages),
        "expected_calls": expected_calls,
    }
    return _post("/api/jobs/quote", answers.Quote, body)


def show_job(*, job_id: UUID | str) -> Request[answers.JobDetails]:
    return _get(f"/api/jobs/{_id(job_id)}", answers.JobDetails)


def show_costs(*, job_id: UUID | str) -> Request[answers.JobBill]:
    return _get(f"/api/jobs/{_id(job_id)}/costs", answers.JobBill)


def list_jobs(
    *, team_id: str, options: Mapping[str, Any], cursor: str | None = None
) -> Request[answers.JobPage]:
    plain = {name: value for name, value in options.items() if name != "metadata"}
    wanted = {f"metadata.{key}": value for key, value in options.get("metadata", {}).items()}
    query = {**plain, **wanted, "cursor": cursor}
    return _get(f"/api/teams/{team_id}/jobs", answers.JobPage, query)


def usage(*, team_id: str, query: Mapping[str, Any]) -> Request[answers.TeamUsage]:
    return _get(f"/api/teams/{team_id}/usage", answers.TeamUsage, query)


def balance(*, team_id: str) -> Request[answers.Balance]:
    return _get(f"/api/credits/teams/{team_id}/balance", answers.Balance)


def listed(messages: Messages) -> list[Mapping[str, Any]]:
    """A message list; plain words are one user's."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return list(messages)


def _one_call(
    team_id: str, job_type: str, messages: Messages, options: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "team_id": team_id,
        "job_type": job_type,
        "messages": listed(messages),
        "complete": True,
        **_job(options),
    }


def _job(options: Mapping[str, Any]) -> dict[str, Any]:
    """Amounts and ids as text, which loses nothing."""
    exact = {"max_credits", "quote_id"}
    return {
        name: str(value) if name in exact and value is not None else value
        for name, value in options.items()
    }


def _post(
    path: str,
    answer: type[Answered_co],
    body: Mapping[str, Any],
    *,
    key: str | None = None,
    is_silent: bool = False,
) -> Request[Answered_co]:
    """What is None is left to the server. Raises ValueError and TypeError for what has no JSON."""
    given = {name: value for name, value in body.items() if value is not None}
    return Request(
        method="POST",
        path=path,
        answer=answer,
        content=_encoded(given),
        key=key or str(uuid4()),
        is_silent=is_silent,
    )


def _get(
    path: str, answer: type[Answered_co], query: Mapping[str, Any] | None = None
) -> Request[Answered_co]:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return Request(
        method="GET",
        path=path,
        answer=answer,
        query={name: _text(value) for name, value in given.items()},
    )


def _id(job_id: UUID | str) -> UUID:
    """A job's id, checked, for it becomes part of a path. Raises ValueError."""
    return job_id if isinstance(job_id, UUID) else UUID(job_id)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    """JSON of what callers put into metadata."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
