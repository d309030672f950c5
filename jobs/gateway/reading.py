"""Reading litellm's objects: usage from its figures, failures from its exceptions."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

from jobs.gateway.boot import litellm
from jobs.gateway.types import FailureKind, ProviderFailure
from jobs.usage import Usage

MAX_DETAIL = 500
_PARAMETER = re.compile(r"parameters?: \[?'?([a-z_]+)")
_BY_STATUS = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.CREDENTIALS,
    402: FailureKind.CREDENTIALS,
    403: FailureKind.CREDENTIALS,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    413: FailureKind.INVALID_REQUEST,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMITED,
    504: FailureKind.TIMEOUT,
}


def usage(given: Any) -> Usage:
    """A provider's usage; litellm's prompt_tokens include cache reads and writes."""
    prompt, completion = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    prompt_parts = getattr(given, "prompt_tokens_details", None)
    completion_parts = getattr(given, "completion_tokens_details", None)
    writes = _count(given, "cache_creation_input_tokens") or _count(
        prompt_parts, "cache_creation_tokens"
    )
    lifetimes = getattr(prompt_parts, "cache_creation_token_details", None)
    reasoning = _count(completion_parts, "reasoning_tokens")
    # xAI leaves reasoning out of completion_tokens but not out of total_tokens.
    if reasoning and _count(given, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return Usage.checked(
        prompt_tokens=prompt,
        cached_tokens=_count(prompt_parts, "cached_tokens")
        or _count(given, "cache_read_input_tokens"),
        cache_write_tokens=writes,
        cache_write_1h_tokens=_count(lifetimes, "ephemeral_1h_input_tokens"),
        audio_input_tokens=_count(prompt_parts, "audio_tokens"),
        completion_tokens=completion,
        reasoning_tokens=reasoning,
        audio_output_tokens=_count(completion_parts, "audio_tokens"),
    )


_FIGURES = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_PARTS = {
    "prompt_tokens_details": frozenset({"cached_tokens", "audio_tokens"}),
    "completion_tokens_details": frozenset(
        {
            "reasoning_tokens",
            "audio_tokens",
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
        }
    ),
}


def plain_usage(given: dict[str, Any]) -> Usage | None:
    """``usage`` of figures as OpenAI itself sends them, without litellm's object of them, which takes
    a tenth of a call's time; None for any others."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        known = _PARTS.get(name)
        if known is not None:
            found = value or {}
            if type(found) is not dict or not known.issuperset(found):
                return None
            if not all(type(count) is int for count in found.values()):
                return None
            parts[name] = found
        elif name not in _FIGURES or type(value) is not int:
            return None
    prompt = parts.get("prompt_tokens_details", {})
    completion = parts.get("completion_tokens_details", {})
    told = SimpleNamespace(
        **{name: given.get(name, 0) for name in _FIGURES},
        prompt_tokens_details=SimpleNamespace(**prompt),
        completion_tokens_details=SimpleNamespace(**completion),
    )
    return usage(told)


def failure(error: Exception, *, secret: str | None) -> ProviderFailure:
    """The ProviderFailure for an exception out of litellm; ``secret`` is scrubbed from its text."""
    if isinstance(error, ProviderFailure):
        return error
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else None
    text = str(error)
    kind = _kind(error, status)
    parameter = _PARAMETER.search(text) if kind is FailureKind.UNSUPPORTED_PARAMETER else None
    return ProviderFailure(
        kind,
        status=status,
        retry_after_seconds=_retry_after(error),
        param=parameter[1] if parameter else None,
        detail=told(error, secret=secret),
    )


def told(error: Exception, *, secret: str | None) -> str:
    """An error in words for operators, with no key in them."""
    return _scrubbed(f"{type(error).__name__}: {error}", secret)


def _kind(error: Exception, status: int | None) -> FailureKind:
    known = litellm().exceptions
    by_class = (
        (known.ContextWindowExceededError, FailureKind.CONTEXT_WINDOW),
        (known.ContentPolicyViolationError, FailureKind.CONTENT_FILTERED),
        (known.UnsupportedParamsError, FailureKind.UNSUPPORTED_PARAMETER),
        (known.RateLimitError, FailureKind.RATE_LIMITED),
        (known.Timeout, FailureKind.TIMEOUT),
        (known.APIResponseValidationError, FailureKind.GARBLED),
    )
    for family, kind in by_class:
        if isinstance(error, family):
            return kind
    if _is_connection(error):
        return FailureKind.CONNECTION
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if isinstance(error, (ValueError, KeyError, TypeError, AttributeError)):
        return FailureKind.GARBLED
    return FailureKind.SERVER_ERROR if status else FailureKind.CONNECTION


def _is_connection(error: Exception) -> bool:
    """litellm reports a cut or refused connection as a 500 of its own; the cause tells."""
    names = {type(cause).__name__ for cause in _causes(error)}
    if names & {"JSONDecodeError"}:
        return False
    text = str(error)
    return (
        bool(
            names
            & {
                "APIConnectionError",
                "ConnectError",
                "ReadError",
                "RemoteProtocolError",
                "ClientConnectorError",
                "ClientPayloadError",
                "ServerDisconnectedError",
                "ConnectionResetError",
            }
        )
        and "JSON" not in text
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _retry_after(error: Exception) -> float | None:
    """The pause that the provider asked for, in seconds: litellm's own exception has lost the
    header, but one of those that caused it still carries the provider's answer."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        for headers in (
            getattr(cause, "litellm_response_headers", None),
            getattr(response, "headers", None),
        ):
            text = headers.get("retry-after") if headers else None
            if text:
                return _seconds(str(text))
    return None


def _seconds(retry_after: str) -> float | None:
    """Retry-After as RFC 9110 has it: seconds, or the date when to come back."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _scrubbed(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    text = re.sub(r"\b(sk|pk|key|Bearer)[-_ ][A-Za-z0-9_\-]{8,}", r"\1-***", text)
    return text[:MAX_DETAIL]


def _count(given: Any, name: str) -> int:
    value = getattr(given, name, None)
    return int(value) if isinstance(value, (int, float)) else 0
