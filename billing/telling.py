"""What wallets tell the outbox; nothing is read for it unless somebody listens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from billing.models import Account, BudgetPeriod, Entry
from saas_litellm.base import events, outbox
from saas_litellm.base.events import WalletTold
from saas_litellm.base.money import from_nano


def of_wallet(
    shape: type[WalletTold], account_id: int, *, object_id: str, key: str | None = None, **said: Any
) -> None:
    """Tell something of an account, inside the caller's transaction."""
    account = Account.objects.select_related("team__organization", "organization").get(
        pk=account_id
    )
    team = account.team
    organization = team.organization if team else account.organization
    assert organization is not None, "an account has an owner"
    outbox.emit(
        shape,
        team_id=team.pk if team else None,
        organization_id=organization.pk,
        object_id=object_id,
        key=key,
        told=lambda: shape(
            team_id=team.slug if team else None, organization_id=organization.slug, **said
        ),
    )


def is_heard(shape: type[WalletTold], account: Account) -> bool:
    return outbox.is_heard(shape, team_id=account.team_id, organization_id=account.organization_id)


def added(entry: Entry, *, kind: str, expires_at: datetime | None) -> None:
    """A grant, inside its transaction."""
    if is_heard(events.CreditsAdded, entry.account):
        of_wallet(
            events.CreditsAdded,
            entry.account_id,
            object_id=f"entry:{entry.pk}",
            credits=from_nano(entry.amount_nanocredits),
            kind=kind,
            balance=from_nano(entry.balance_after_nanocredits),
            expires_at=expires_at,
        )


def budget_reached(period: BudgetPeriod) -> None:
    """Inside the transaction that claims the period's alert."""
    budget = period.budget
    team = budget.team or (budget.api_key.team if budget.api_key else None)
    organization = team.organization if team else budget.organization
    assert organization is not None, "a budget has an owner"
    outbox.emit(
        events.BudgetReached,
        team_id=team.pk if team else None,
        organization_id=organization.pk,
        object_id=f"budget:{budget.pk}",
        told=lambda: events.BudgetReached(
            budget_id=budget.pk,
            team_id=team.slug if team else None,
            organization_id=organization.slug,
            key_prefix=budget.api_key.prefix if budget.api_key else None,
            period=budget.period,
            starts_on=period.starts_on.isoformat(),
            limit=from_nano(budget.limit_nanocredits),
            used=from_nano(period.used_nanocredits),
            is_hard=budget.is_hard,
        ),
    )
