"""Management of payments: auto top-ups over HTTP, as the admin has them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.urls import reverse
from pydantic import BaseModel, Field

from billing import ledger
from payments import auto, checkout, stripe_api
from payments.models import AutoTopUp
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import NotFound
from teams import directory
from teams.api import Body
from teams.operator_api import Amount, exact, management
from teams.operators import Operator


class SetAutoTopUp(Body):
    package_id: int = Field(ge=1)
    threshold: Amount = Field(description="Credits; below this balance the package is bought.")
    monthly_ceiling_minor: int = Field(
        ge=1, description="The most it spends in a month (UTC), in the currency's smallest unit."
    )
    is_on: bool = True


class SaveCard(Body):
    """Nothing is to be said."""


class AutoTopUpView(BaseModel):
    team_id: str
    state: str
    is_on: bool
    package_id: int | None
    threshold: Decimal
    monthly_ceiling_minor: int
    card: str
    last_error: str


class CardView(BaseModel):
    url: str


@management(
    "GET",
    permission="payments.view_autotopup",
    answer=AutoTopUpView,
    summary="Show a team's auto top-up",
)
def show_auto_top_up(operator: Operator, team_id: str) -> dict[str, Any]:
    """Of the wallet that the team draws on."""
    stripe_api.require_on()
    account = ledger.account_of(directory.find_team(team_id))
    top_up = AutoTopUp.objects.filter(account=account).first()
    if top_up is None:
        raise NotFound("This team's wallet has no auto top-up.")
    return _shown(top_up, team_id)


@management(
    "PUT",
    permission="payments.change_autotopup",
    body=SetAutoTopUp,
    answer=AutoTopUpView,
    summary="Set a team's auto top-up",
)
def set_auto_top_up(operator: Operator, body: SetAutoTopUp, team_id: str) -> dict[str, Any]:
    """A card has to be saved before it can be on."""
    stripe_api.require_on()
    team = directory.find_team(team_id)
    top_up = auto.configure(
        team=team,
        account=ledger.account_of(team),
        package=checkout.find_package(body.package_id),
        threshold_nanocredits=exact(body.threshold, param="threshold"),
        monthly_ceiling_minor=body.monthly_ceiling_minor,
        is_on=body.is_on,
        actor=operator.actor,
    )
    return _shown(top_up, team_id)


@management(
    "POST",
    permission="payments.change_autotopup",
    body=SaveCard,
    answer=CardView,
    status=201,
    asks_outside=True,
    summary="Save a card for a team's auto top-up",
)
def save_card(operator: Operator, body: SaveCard, team_id: str) -> dict[str, Any]:
    """The address of a page where the owner of the card enters it; nothing is charged there."""
    stripe_api.require_on()
    team = directory.find_team(team_id)
    page = settings.PUBLIC_URL + reverse("portal:auto_top_up", args=[team.slug])
    return {"url": checkout.card_url(team=team, account=ledger.account_of(team), page=page)}


def _shown(top_up: AutoTopUp, team_id: str) -> dict[str, Any]:
    return {
        "team_id": team_id,
        "state": top_up.state,
        "is_on": top_up.is_on,
        "package_id": top_up.package_id,
        "threshold": from_nano(top_up.threshold_nanocredits),
        "monthly_ceiling_minor": top_up.monthly_ceiling_minor,
        "card": top_up.card,
        "last_error": top_up.last_error,
    }
