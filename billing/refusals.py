from __future__ import annotations

from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Conflict, Invalid, PaymentRequired


class InsufficientCredits(PaymentRequired):
    code = "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        """Both in nanocredits."""
        self.needed, self.available = needed, available
        shown = {"credits_needed": from_nano(needed), "credits_available": from_nano(available)}
        super().__init__(
            f"This needs {shown['credits_needed']} credits and {shown['credits_available']} are"
            " available. Top up. Where calls are priced by what they use, less output (max_tokens)"
            " needs fewer.",
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


class AssignmentTaken(Conflict):
    code = "assignment_taken"
    default_message = "A plan is assigned from that very moment already. Choose another."


class BudgetExceeded(PaymentRequired):
    code = "budget_exceeded"

    def __init__(self, *, needed: int, available: int, period: str) -> None:
        """``needed`` and ``available`` in nanocredits."""
        shown = {
            "credits_needed": from_nano(needed),
            "credits_available": from_nano(max(0, available)),
        }
        until = "" if period == "total" else f" of this {period}"
        super().__init__(
            f"This needs {shown['credits_needed']} credits and the budget{until} leaves"
            f" {shown['credits_available']}. Ask the operator, or wait for the next period.",
            figures=shown,
        )


class RefundBeyondCharge(Conflict):
    code = "refund_beyond_charge"

    def __init__(self, *, left: int) -> None:
        """``left``: nanocredits of the charge that were not refunded yet."""
        super().__init__(
            f"At most {from_nano(left)} credits of this are left to refund.",
            figures={"credits_refundable": from_nano(left)},
        )


class CreditLimitInUse(Conflict):
    code = "credit_limit_in_use"
    default_message = "The account has used more of its credit limit than that."


class LotNotLive(Conflict):
    code = "lot_not_live"
    default_message = "Nothing of this lot can expire: it is empty, or held for work in flight."
