"""Refusals of jobs and calls, and what a provider's failure becomes for a caller."""

from __future__ import annotations

from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Conflict, Invalid, PaymentRequired, Refusal, Unavailable
from teams.refusals import ModelUnavailable


class JobClosed(Conflict):
    code = "job_closed"
    default_message = "This job is closed. Create a new one."


class CallsInFlight(Conflict):
    code = "calls_in_flight"
    default_message = "Calls of this job are still running. Wait for them, or cancel the job."


class JobCapExceeded(PaymentRequired):
    code = "job_cap_exceeded"

    def __init__(self, *, needed: int, available: int) -> None:
        """``needed`` and ``available`` in nanocredits."""
        figures = {"credits_needed": from_nano(needed), "credits_available": from_nano(available)}
        super().__init__(
            "This call could exceed the job's cap. Complete the job, or ask for less output.",
            figures=figures,
        )


class AnswerNotKept(Conflict):
    code = "answer_not_kept"
    default_message = "This request was answered and charged; its answer was not kept."


class StreamInterrupted(Unavailable):
    status = 502
    code = "stream_interrupted"
    default_message = "The first stream ended here. What it delivered was charged once."


class UnitUnpriced(ModelUnavailable):
    """The plan has no price for what the alias is paid by; told to the operator, not the team."""


class QuoteUsed(Conflict):
    code = "quote_used"
    default_message = "This quote was used already or is no longer valid. Ask for a new one."


class ContentFiltered(Refusal):
    status = 400
    code = "content_filtered"
    default_message = "The model's content filter refused this request."


class RefusedByModel(Invalid):
    default_message = "The model cannot take this request as it is. Check messages and tools."


class ProviderError(Unavailable):
    status = 502
    code = "provider_error"
    default_message = "The model failed to answer. Nothing undelivered was charged; try again."


class ProviderTimeout(Unavailable):
    status = 504
    code = "provider_timeout"
    default_message = "The model did not answer in time. Nothing undelivered was charged."


class Overloaded(Unavailable):
    code = "overloaded"
    default_message = "The model is overloaded. Try again shortly."


class Restarting(Unavailable):
    """This process stops. Another one, or its next life, takes the request."""

    default_message = "The platform restarts. Send it again; nothing undelivered was charged."
