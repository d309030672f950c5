"""Refusals: every "no" that a caller can be told, with its HTTP status and machine-readable code.

Refusal
├── Invalid                400 invalid_json · 422 validation_failed
├── Unauthenticated        401 invalid_api_key, key_expired
├── Forbidden              403 team_mismatch, team_paused, model_not_allowed, ...
├── PaymentRequired        402 insufficient_credits, job_cap_exceeded
├── NotFound               404 not_found
├── Conflict               409 job_closed, calls_in_flight, ...
├── RateLimited            429 rate_limited
└── Unavailable            5xx provider_error, model_unavailable, ...

Apps define their own under these; ``code`` is part of the API contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Refusal(Exception):
    """A request that is understood and turned down; its message is safe to show to anyone."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "invalid_request"
    default_message: ClassVar[str] = "The request was refused."

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        retry_after_seconds: int | None = None,
        figures: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.figures = dict(figures or {})
        self.headers = dict(headers or {})
        super().__init__(self.message)


class Invalid(Refusal):
    status = 422
    code = "validation_failed"
    default_message = "The request is not valid."


class InvalidJson(Invalid):
    status = 400
    code = "invalid_json"
    default_message = "The body is not valid JSON. Send one JSON object, encoded as UTF-8."


class UnsupportedMediaType(Invalid):
    status = 415
    code = "unsupported_media_type"
    default_message = "Send the body with the header Content-Type: application/json."


class PayloadTooLarge(Invalid):
    status = 413
    code = "payload_too_large"
    default_message = "The body is too large."


class MethodNotAllowed(Refusal):
    status = 405
    code = "method_not_allowed"
    default_message = "This path does not answer that method."


class Unauthenticated(Refusal):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    default_message = "No valid API key. Send the header Authorization: Bearer <team key>."


class Forbidden(Refusal):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"
    default_message = "This key may not do that."


class PaymentRequired(Refusal):
    status = 402
    type = "billing_error"
    code = "insufficient_credits"
    default_message = "Not enough credits."


class NotFound(Refusal):
    status = 404
    type = "not_found_error"
    code = "not_found"
    default_message = "There is nothing at this address for this key."


class Conflict(Refusal):
    status = 409
    type = "conflict_error"
    code = "conflict"
    default_message = "The state of this object does not allow that."


class RateLimited(Refusal):
    status = 429
    type = "rate_limit_error"
    code = "rate_limited"
    default_message = "Too many requests. Wait as long as Retry-After says."


class Unavailable(Refusal):
    status = 503
    type = "api_error"
    code = "overloaded"
    default_message = "Busy right now. Try again shortly."


class InternalError(Refusal):
    status = 500
    type = "api_error"
    code = "internal_error"
    default_message = (
        "Something went wrong on our side. Quote the request id when you ask about it."
    )
