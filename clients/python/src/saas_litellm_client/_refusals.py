"""The server's errors as exceptions: by their code, else by their status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from saas_litellm_client import errors

_FAMILIES: Mapping[int, type[errors.ApiError]] = {
    401: errors.Unauthenticated,
    402: errors.PaymentRequired,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    429: errors.RateLimited,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def by_code() -> dict[str, type[errors.ApiError]]:
    """The class of each code."""
    return {found.of_code: found for found in _below(errors.ApiError) if found.of_code}


def of_envelope(
    error: Mapping[str, Any], *, status: int | None = None, retry_after: float | None = None
) -> errors.ApiError:
    """The exception of an ``error`` object; ``status`` is None within a stream."""
    left = dict(error)
    code = str(left.pop("code", "") or "")
    kind = _BY_CODE.get(code) or _family(status or 500)
    return kind(
        str(left.pop("message", "") or "The request was refused."),
        code=code,
        status=status,
        type=str(left.pop("type", "") or ""),
        param=left.pop("param", None),
        request_id=str(left.pop("request_id", "") or ""),
        retry_after=retry_after,
        details=left,
    )


def of_answer(status: int, headers: Mapping[str, str], body: Any) -> errors.ApiError:
    """The exception of an HTTP answer of 400 and above; ``body`` is its JSON, None if it has none."""
    retry_after = _seconds(headers.get("Retry-After"))
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        return of_envelope(body["error"], status=status, retry_after=retry_after)
    kind = _family(status)
    return kind(
        f"HTTP {status}, and not in the server's words. Is base_url right, and is the server up?",
        # A proxy said it: none of the server's codes stands for that.
        code=f"http_{status}",
        status=status,
        request_id=headers.get("X-Request-Id", ""),
        retry_after=retry_after,
    )


def _seconds(text: str | None) -> float | None:
    """A Retry-After header: seconds, or a date."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _family(status: int) -> type[errors.ApiError]:
    return _FAMILIES.get(status) or (errors.ServerError if status >= 500 else errors.InvalidRequest)


def _below(kind: type[errors.ApiError]) -> list[type[errors.ApiError]]:
    return [found for child in kind.__subclasses__() for found in (child, *_below(child))]


_BY_CODE = by_code()
