"""Credits that were not there: the first refusal since some were added is told, and no other."""

from __future__ import annotations

from django.db import transaction

from billing import ledger, telling
from billing.models import Entry
from billing.refusals import InsufficientCredits
from saas_litellm.base import events, outbox
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Refusal
from teams.models import Team


def tell(team: Team, refusal: Refusal) -> None:
    """Of a refused job or call: if it was for want of credits, tell so.

    In a transaction of its own, for the refused one has been rolled back.
    """
    if not isinstance(refusal, InsufficientCredits):
        return
    team_id = team.pk if team.draws_on == team.Wallet.TEAM else None
    if not outbox.is_heard(
        events.CreditsExhausted, team_id=team_id, organization_id=team.organization_id
    ):
        return
    with transaction.atomic():
        account = ledger.account_of(team)
        added = Entry.objects.filter(account=account, amount_nanocredits__gt=0)
        newest = added.order_by("-id").values_list("pk", flat=True).first()
        telling.of_wallet(
            events.CreditsExhausted,
            account.pk,
            object_id=f"account:{account.pk}",
            key=f"exhausted:{account.pk}:{newest or 0}",
            credits_needed=from_nano(refusal.needed),
            credits_available=from_nano(refusal.available),
        )
