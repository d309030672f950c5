"""What a provider's failure means: for the caller, and for the bill."""

from __future__ import annotations

from jobs.gateway import FailureKind, ProviderFailure
from jobs.refusals import (
    ContentFiltered,
    Overloaded,
    ProviderError,
    ProviderTimeout,
    RefusedByModel,
)
from saas_litellm.base.refusals import Refusal

# Turned down before any work: the provider charges nothing for these.
_FREE = frozenset(
    {
        FailureKind.INVALID_REQUEST,
        FailureKind.UNSUPPORTED_PARAMETER,
        FailureKind.CONTEXT_WINDOW,
        FailureKind.CONTENT_FILTERED,
        FailureKind.RATE_LIMITED,
        FailureKind.CREDENTIALS,
        FailureKind.NOT_FOUND,
        FailureKind.SERVER_ERROR,
    }
)


def is_free(failure: ProviderFailure | None) -> bool:
    """Whether the failed attempt cost nothing; one that may have run is booked as an estimate."""
    return failure is not None and failure.kind in _FREE


def refusal_for(failure: ProviderFailure) -> Refusal:
    """The caller's error: neutral, and a fault of ours never theirs (an upstream 401 is a 502)."""
    match failure.kind:
        case FailureKind.INVALID_REQUEST:
            return RefusedByModel()
        case FailureKind.UNSUPPORTED_PARAMETER:
            return RefusedByModel(
                "This model does not support one of the parameters sent.", param=failure.param
            )
        case FailureKind.CONTEXT_WINDOW:
            return RefusedByModel("The messages are too long for this model.", param="messages")
        case FailureKind.CONTENT_FILTERED:
            return ContentFiltered()
        case FailureKind.RATE_LIMITED:
            after = failure.retry_after_seconds
            return Overloaded(retry_after_seconds=max(1, round(after)) if after else 1)
        case FailureKind.TIMEOUT:
            return ProviderTimeout()
        case _:
            return ProviderError()
