"""Everything that can go wrong, one class for each code of the server.

ClientError
├── ApiError                      the server said no; ``code`` says why
│   ├── InvalidRequest            400 405 413 415 422  ValidationFailed, ContentFiltered, ...
│   ├── Unauthenticated           401  InvalidApiKey, KeyExpired
│   ├── PaymentRequired           402  InsufficientCredits, BudgetExceeded, JobCapExceeded
│   ├── Forbidden                 403  TeamPaused, ModelNotAllowed, ...
│   ├── NotFound                  404
│   ├── Conflict                  409  JobClosed, CallsInFlight, IdempotencyKeyReused, ...
│   ├── RateLimited               429
│   └── ServerError               5xx  InternalError, StreamInterrupted
│       └── Unavailable           502 503 504  ProviderError, Overloaded, ProviderTimeout, ...
├── ConnectionFailed              no answer came, whatever was tried
│   └── TimedOut
├── StreamCut                     the connection ended before the stream did
├── UnexpectedAnswer              an answer that is not the server's
└── NotStructured                 no valid object, repairs included

A code that a newer server brings is an error of its status' family. No message holds a key, a
prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar


class ClientError(Exception):
    """Anything this package raises."""

    # Whether the same request may be sent again, with the same idempotency key.
    is_retryable: ClassVar[bool] = False


class ConnectionFailed(ClientError):
    """No answer came. What was asked may have been done: send it again with the same key."""

    is_retryable = True


class TimedOut(ConnectionFailed):
    """No answer came in time."""


class StreamCut(ClientError):
    """The connection ended before the stream did. What was delivered is charged, once."""


class UnexpectedAnswer(ClientError):
    """An answer that is not the server's; look whether ``base_url`` is right."""


class NotStructured(ClientError):
    """No valid object, repairs included. ``text`` is the last answer, ``problems`` what is wrong."""

    def __init__(self, message: str, *, text: str = "", problems: Sequence[str] = ()) -> None:
        self.text, self.problems = text, list(problems)
        super().__init__(message)


class ApiError(ClientError):
    """The server's no.

    ``code`` is stable and ``message`` is for people; ``param`` names the field at fault,
    ``request_id`` is what to quote to the operator, ``retry_after`` is in seconds, and ``details``
    holds the figures of this code, such as ``credits_needed``.
    """

    status: int = 400
    # The code whose class this is; families that are nobody's have none.
    of_code: ClassVar[str] = ""
    # What is asked for is under way: waiting for it is no failed try.
    is_waiting: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        type: str = "",  # noqa: A002 - the contract's word
        param: str | None = None,
        request_id: str = "",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message, self.type, self.param = message, type, param
        self.code = code or self.of_code
        self.status = self.status if status is None else status
        self.request_id, self.retry_after = request_id, retry_after
        self.details = dict(details or {})
        known = [self.code or str(self.status), *([request_id] if request_id else [])]
        super().__init__(f"{message} ({', '.join(known)})")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.message, {**self.__dict__})


class InvalidRequest(ApiError):
    of_code = "invalid_request"


class InvalidJson(InvalidRequest):
    of_code = "invalid_json"


class ContentFiltered(InvalidRequest):
    """The model's content filter refused the request."""

    of_code = "content_filtered"


class MethodNotAllowed(InvalidRequest):
    status, of_code = 405, "method_not_allowed"


class PayloadTooLarge(InvalidRequest):
    status, of_code = 413, "payload_too_large"


class UnsupportedMediaType(InvalidRequest):
    status, of_code = 415, "unsupported_media_type"


class ValidationFailed(InvalidRequest):
    """``param`` names the field."""

    status, of_code = 422, "validation_failed"


class Unauthenticated(ApiError):
    status = 401


class InvalidApiKey(Unauthenticated):
    of_code = "invalid_api_key"


class KeyExpired(Unauthenticated):
    of_code = "key_expired"


class PaymentRequired(ApiError):
    status = 402

    @property
    def credits_needed(self) -> Decimal | None:
        return self._figure("credits_needed")

    @property
    def credits_available(self) -> Decimal | None:
        return self._figure("credits_available")

    def _figure(self, name: str) -> Decimal | None:
        found = self.details.get(name)
        return None if found is None else Decimal(str(found))


class InsufficientCredits(PaymentRequired):
    of_code = "insufficient_credits"


class BudgetExceeded(PaymentRequired):
    of_code = "budget_exceeded"


class JobCapExceeded(PaymentRequired):
    """The call could exceed the job's ``max_credits``; the job is still open."""

    of_code = "job_cap_exceeded"


class Forbidden(ApiError):
    status = 403


class InsufficientScope(Forbidden):
    of_code = "insufficient_scope"


class TeamMismatch(Forbidden):
    of_code = "team_mismatch"


class TeamPaused(Forbidden):
    of_code = "team_paused"


class TeamSuspended(Forbidden):
    of_code = "team_suspended"


class OrganizationSuspended(Forbidden):
    of_code = "organization_suspended"


class ModelNotAllowed(Forbidden):
    of_code = "model_not_allowed"


class NotFound(ApiError):
    status, of_code = 404, "not_found"


class Conflict(ApiError):
    status, of_code = 409, "conflict"


class JobClosed(Conflict):
    of_code = "job_closed"


class CallsInFlight(Conflict):
    """The job cannot be completed while its calls run."""

    of_code = "calls_in_flight"
    is_retryable = is_waiting = True


class RequestInProgress(Conflict):
    """The first request with this idempotency key is still running."""

    of_code = "request_in_progress"
    is_retryable = is_waiting = True


class IdempotencyKeyReused(Conflict):
    of_code = "idempotency_key_reused"


class AnswerNotKept(Conflict):
    """This request was answered and charged before, and its answer was not kept."""

    of_code = "answer_not_kept"


class QuoteUsed(Conflict):
    of_code = "quote_used"


class RateLimited(ApiError):
    status, of_code = 429, "rate_limited"
    is_retryable = True


class ServerError(ApiError):
    status = 500


class InternalError(ServerError):
    of_code = "internal_error"


class StreamInterrupted(ServerError):
    """The stream was cut before; what it delivered then came again, and was charged once."""

    status, of_code = 502, "stream_interrupted"


class Unavailable(ServerError):
    status = 503
    is_retryable = True


class ProviderError(Unavailable):
    status, of_code = 502, "provider_error"


class ModelUnavailable(Unavailable):
    of_code = "model_unavailable"


class Overloaded(Unavailable):
    of_code = "overloaded"


class ProviderTimeout(Unavailable):
    status, of_code = 504, "provider_timeout"


def _again(kind: type[ApiError], message: str, state: dict[str, Any]) -> ApiError:
    """Unpickle: workers hand errors from process to process."""
    error = kind(message)
    error.__dict__.update(state)
    error.args = ApiError(message, code=state["code"], request_id=state["request_id"]).args
    return error
