"""How a job ends: by its own, by an exception, or by an interrupt. Pure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from saas_litellm_client import _requests, errors
from saas_litellm_client._requests import Request
from saas_litellm_client.answers import ClosedJob

logger = logging.getLogger("saas_litellm_client")
# How long an exception on its way out may be held up, in seconds.
FAILING_SECONDS = 5.0
CANCELLING_SECONDS = 5.0


def completion(
    job_id: UUID, *, result: Any, metadata: Mapping[str, Any] | None, outcome: str | None
) -> Request[ClosedJob]:
    kept = {**(metadata or {}), **({} if result is None else {"result": result})}
    return _requests.complete(job_id=job_id, status="completed", metadata=kept, outcome=outcome)


def failure(
    job_id: UUID, error: BaseException | str, *, metadata: Mapping[str, Any] | None = None
) -> Request[ClosedJob]:
    """Of an exception only its type: its words may hold a secret or a customer's text."""
    said = error if isinstance(error, str) else type(error).__name__
    return _requests.complete(job_id=job_id, status="failed", metadata=metadata, error_message=said)


def interruption(job_id: UUID, error: BaseException) -> Request[ClosedJob]:
    return _requests.cancel(job_id=job_id, reason=type(error).__name__)


def is_failure(error: BaseException) -> bool:
    """KeyboardInterrupt, CancelledError, SystemExit and a closed generator are none."""
    return isinstance(error, Exception)


def log(job_id: UUID, trouble: Exception) -> None:
    if isinstance(trouble, errors.JobClosed):
        return
    logger.warning(
        "job %s could not be closed (%s); the server will, when it was idle for long enough",
        job_id,
        type(trouble).__name__,
    )
