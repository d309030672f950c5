"""The catalog: which deployments stand behind a name that a team uses."""

from __future__ import annotations

from dataclasses import dataclass

from saas_litellm.base import alarms, encryption
from teams import credentials, prices
from teams.models import Alias, Deployment, Team
from teams.prices import BadPrice, UnitPrices
from teams.refusals import ModelNotAllowed, ModelUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedDeployment:
    deployment: Deployment
    prices: UnitPrices


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedAlias:
    alias: Alias
    deployments: tuple[PricedDeployment, ...]


def resolve(*, team: Team, name: str | None) -> ResolvedAlias:
    """The alias a team may use under that name (None: its default), and its deployments in order.

    An unknown, an inactive and an ungranted alias get the same ModelNotAllowed. Deployments
    without a known price are left out with an alarm; none left raises ModelUnavailable.
    """
    wanted: dict[str, object] = {"name": name} if name else {"pk": team.default_alias_id}
    alias = (
        Alias.objects.filter(
            is_active=True, access_groups__is_active=True, access_groups__teams=team, **wanted
        )
        .distinct()
        .first()
    )
    if alias is None:
        raise ModelNotAllowed(
            f"This team may not use a model named {name!r}."
            if name
            else "This team has no default model: name one in the field model.",
            param="model",
        )
    priced = _priced(alias)
    if not priced:
        raise ModelUnavailable
    return ResolvedAlias(alias=alias, deployments=priced)


def granted(team: Team) -> list[Alias]:
    """Every alias the team may use, by name."""
    return list(
        Alias.objects.filter(
            is_active=True, access_groups__is_active=True, access_groups__teams=team
        )
        .distinct()
        .order_by("name")
    )


def open_secret(deployment: Deployment) -> str | None:
    """The provider key of a deployment, or None when the environment supplies it.

    Raises ModelUnavailable (with an alarm) when the stored secret cannot be decrypted.
    """
    if deployment.credential is None:
        return None
    try:
        return credentials.reveal(deployment.credential)
    except encryption.Undecryptable as error:
        alarms.sound(kind="credential.undecryptable", subject=deployment.credential.name)
        raise ModelUnavailable from error


def _priced(alias: Alias) -> tuple[PricedDeployment, ...]:
    deployments = list(
        alias.deployments.filter(is_active=True)
        .select_related("credential")
        .order_by("priority", "id")
    )
    rows = prices.current([deployment.effective_price_key for deployment in deployments])
    priced = []
    for deployment in deployments:
        row = rows.get(deployment.effective_price_key)
        try:
            if row is None:
                raise BadPrice("no unit price")
            sheet = UnitPrices.from_json(row.rates)
        except BadPrice as error:
            alarms.sound(
                kind="deployment.unpriced",
                subject=f"{alias.name} {deployment.pk}",
                detail=str(error),
            )
            continue
        priced.append(PricedDeployment(deployment=deployment, prices=sheet))
    return tuple(priced)
