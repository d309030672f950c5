"""The wallet behind a page: what is in it, how long it lasts, its lots and its last lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing import ledger, lots, runway
from billing.models import Account, Lot
from billing.runway import Runway
from saas_litellm.base import clock, shown
from saas_litellm.base.money import from_nano
from teams.models import Organization, Team

Owner = Team | Organization
LOTS = 12
SOON = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class LotRow:
    """Credits of one lot that are left; ``is_soon``: they expire within days."""

    kind: str
    remaining: str
    amount: str
    paid: str
    expires_at: datetime | None
    is_soon: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """One account's figures of now; ``account`` is None before its first use."""

    account: Account | None
    runway: Runway | None = None
    lots: Sequence[LotRow] = field(default=())
    lots_left_out: int = 0

    @property
    def balance(self) -> int:
        return self.account.balance_nanocredits if self.account else 0

    @property
    def held(self) -> int:
        return self.account.held_nanocredits if self.account else 0

    @property
    def credit_limit(self) -> int:
        return self.account.credit_limit_nanocredits if self.account else 0

    @property
    def available(self) -> int:
        return self.balance + self.credit_limit - self.held


def payer_of(owner: Owner) -> Owner:
    """Whose wallet pays for the owner's work: a team may draw on its organization's."""
    if isinstance(owner, Team) and owner.draws_on == Team.Wallet.ORGANIZATION:
        return owner.organization
    return owner


def account_of(owner: Owner) -> Account:
    """The account that pays, made on first use."""
    if isinstance(owner, Team):
        return ledger.account_of(owner)
    return ledger.account_of_organization(owner)


def find(owner: Owner) -> Account | None:
    """The account that pays, if there is one; whoever only looks makes none."""
    payer = payer_of(owner)
    column = "team" if isinstance(payer, Team) else "organization"
    accounts = Account.objects.select_related("team", "organization", "pace")
    return accounts.filter(**{column: payer.pk}).first()


def of(owner: Owner) -> Wallet:
    """Everything about the wallet that pays. Folds what lots do not reflect yet."""
    account = find(owner)
    if account is None:
        return Wallet(account=None)
    live = lots.live_lots(account)
    return Wallet(
        account=account,
        runway=runway.current(account),
        lots=[_row(lot) for lot in live[:LOTS]],
        lots_left_out=max(0, len(live) - LOTS),
    )


def lasting(found: Runway | None) -> tuple[str, str]:
    """How long credits last, and between what."""
    if found is None or found.days is None:
        return "–", "nothing was spent lately"
    slowest = "for ever" if found.days_at_slowest is None else f"{found.days_at_slowest}"
    note = f"{found.days_at_fastest} to {slowest}, at the pace of {found.basis_days} days"
    return f"{found.days} days", note


def in_list(team: Team) -> tuple[str, str]:
    """Available, and how long it lasts, for a list: no query if the accounts and paces are loaded."""
    account = getattr(payer_of(team), "account", None)
    if account is None:
        return "0.00", "–"
    pace = getattr(account, "pace", None)
    available = shown.credit_amount(account.available_nanocredits)
    return available, lasting(runway.at_pace(account, pace) if pace else None)[0]


def _row(lot: Lot) -> LotRow:
    return LotRow(
        kind=lot.grant.kind,
        remaining=shown.credit_amount(lot.remaining_nanocredits),
        amount=str(from_nano(lot.amount_nanocredits)),
        paid=shown.usd(lot.paid_nano_usd),
        expires_at=lot.expires_at,
        is_soon=lot.expires_at is not None and lot.expires_at < clock.now() + SOON,
    )
