"""What an operator may give back: any refund, or so much a day.

One place for the admin, the management API and the `refund` command, whoever asks there.
"""

from __future__ import annotations

from datetime import datetime, time

from django.conf import settings
from django.db.models import Sum

from billing.models import Entry
from saas_litellm.base import clock
from saas_litellm.base.money import NANO, from_nano
from saas_litellm.base.refusals import Forbidden
from teams.models import User
from teams.operators import Operator, actors_of


class RefundBeyondAllowance(Forbidden):
    code = "refund_limit_exceeded"

    def __init__(self, *, left: int) -> None:
        super().__init__(
            f"You may give back {from_nano(max(0, left))} more credits today (UTC):"
            " ask somebody in finance.",
            figures={"credits_left_today": from_nano(max(0, left))},
        )


def take_turn(operator: Operator | None) -> None:
    """Refunds of one person run one after another, so that a day's limit holds for two at once.

    First in the transaction, before any row of work or money. None: nobody is named. Raises
    Forbidden without the permission to refund.
    """
    if operator is None:
        return
    operator.require("jobs.refund_job")
    list(User.objects.select_for_update(no_key=True).filter(pk=operator.user.pk))


def require(operator: Operator | None, *, nanocredits: int) -> None:
    """Raise RefundBeyondAllowance unless this refund still fits into the operator's day."""
    if operator is None or operator.may("jobs.refund_beyond_limit"):
        return
    midnight = datetime.combine(clock.now().date(), time.min, tzinfo=clock.now().tzinfo)
    given = Entry.objects.filter(
        kind=Entry.Kind.REFUND, actor__in=actors_of(operator.user), created_at__gte=midnight
    ).aggregate(total=Sum("amount_nanocredits"))["total"]
    left = settings.SUPPORT_REFUND_LIMIT_CREDITS * NANO - (given or 0)
    if nanocredits > left:
        raise RefundBeyondAllowance(left=left)
