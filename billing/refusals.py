from __future__ import annotations

from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Conflict, Invalid, PaymentRequired


class InsufficientCredits(PaymentRequired):
    code = "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        shown = {"credits_needed": from_nano(needed), "credits_available": from_nano(available)}
        super().__init__(
            f"This needs {shown['credits_needed']} credits and {shown['credits_available']} are"
            " available. Top up, or ask for less output (max_tokens).",
            figures=shown,
        )


class BadAmount(Invalid):
    default_message = "The amount must be a positive number of credits within range."


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"
    default_message = "This idempotency key was used for something else."


class PlanNotReady(Conflict):
    code = "plan_not_ready"
    default_message = "This plan version cannot be activated."
