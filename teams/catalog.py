"""The catalog: which deployments stand behind a name that a team uses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from saas_litellm.base import alarms, encryption
from saas_litellm.base.refusals import Invalid
from saas_litellm.base.standing import Memory
from teams import credentials, prices
from teams.models import (
    Alias,
    Deployment,
    DeploymentHealth,
    ProviderCredential,
    Team,
    UnitPrice,
)
from teams.prices import BadPrice, UnitPrices
from teams.refusals import ModelNotAllowed, ModelUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedDeployment:
    """``credential`` is the one to use: the organization's own of that name, or the platform's."""

    deployment: Deployment
    prices: UnitPrices
    credential: ProviderCredential | None
    health: DeploymentHealth | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedAlias:
    """``after_*`` are the deployments to turn to when the alias's own refuse in that way."""

    alias: Alias
    deployments: tuple[PricedDeployment, ...]
    after_context_window: tuple[PricedDeployment, ...] = ()
    after_content_filter: tuple[PricedDeployment, ...] = ()
    # Of every deployment that was looked at, those without a price too.
    price_keys: tuple[str, ...] = ()

    @property
    def eligible(self) -> tuple[PricedDeployment, ...]:
        """Every deployment that may come to answer."""
        return self.deployments + self.after_context_window + self.after_content_filter


def resolve(*, team: Team, name: str | None, kind: str = Alias.Kind.CHAT) -> ResolvedAlias:
    """The alias a team may use under that name (None: its default), and its deployments in order.

    An organization's own alias shadows the platform's of that name. An unknown, an inactive and an
    ungranted alias get the same ModelNotAllowed; one of another kind raises Invalid. Deployments
    without a known price are left out with an alarm; none left raises ModelUnavailable.
    """
    alias = find(team=team, name=name)
    if alias.kind != kind:
        raise Invalid(f"The model {alias.name} is not for {kind}.", param="model")
    return _resolved(alias, team)


def recalled(
    memory: Memory, *, team: Team, name: str | None, kind: str = Alias.Kind.CHAT
) -> ResolvedAlias:
    """``resolve``, remembered until the next planned price of one of its deployments."""
    return memory.recall(
        ("alias", team.pk, name, kind),
        lambda: resolve(team=team, name=name, kind=kind),
        until=lambda resolved, asked_at: prices.next_change(resolved.price_keys, after=asked_at),
    )


def find(*, team: Team, name: str | None) -> Alias:
    """The alias a team may use under that name (None: its default). Raises ModelNotAllowed."""
    default = Team.objects.filter(pk=team.pk).values("default_alias__name")
    wanted = Q(name=name) if name else Q(name__in=default)
    found = _shadowed(Alias.objects.filter(_granted_to(team), wanted).distinct())
    if found:
        return found[0]
    raise ModelNotAllowed(
        f"This team may not use a model named {name!r}. GET /v1/models lists those it may."
        if name
        else "This team has no default model: name one in the field model.",
        param="model",
    )


def granted(team: Team) -> list[Alias]:
    """Every alias the team may use, by name."""
    return _shadowed(Alias.objects.filter(_granted_to(team)).distinct())


def usable_prices(row: UnitPrice | None, *, kind: str) -> UnitPrices:
    """The sheet by which an alias of this kind may be called. Raises BadPrice where there is none:
    unknown cost is never 0."""
    if row is None:
        raise BadPrice("no unit price")
    sheet = UnitPrices.from_json(row.rates)
    if kind in Alias.BY_UNIT and sheet.per_unit is None:
        raise BadPrice("no price per unit")
    return sheet


def open_secret(candidate: PricedDeployment) -> str | None:
    """The provider key of a deployment, or None when the environment supplies it.

    Raises ModelUnavailable (with an alarm) when the stored secret cannot be decrypted.
    """
    if candidate.credential is None:
        return None
    try:
        return credentials.reveal(candidate.credential)
    except encryption.Undecryptable as error:
        alarms.sound(kind="credential.undecryptable", subject=candidate.credential.name)
        raise ModelUnavailable from error


def _granted_to(team: Team) -> Q:
    """An alias is granted by an active group; an organization's own besides only to its teams."""
    return Q(is_active=True, access_groups__is_active=True, access_groups__teams=team) & (
        Q(organization=None) | Q(organization=team.organization_id)
    )


def _shadowed(aliases: QuerySet[Alias]) -> list[Alias]:
    """One alias a name, by name: the organization's own before the platform's."""
    by_name = {
        alias.name: alias
        for alias in sorted(aliases, key=lambda alias: bool(alias.organization_id))
    }
    return sorted(by_name.values(), key=lambda alias: alias.name)


def _resolved(alias: Alias, team: Team) -> ResolvedAlias:
    """Price every deployment of the alias and of its fallbacks: three queries at most."""
    fallbacks = (alias.context_window_fallback_id, alias.content_filter_fallback_id)
    alias_ids = {alias.pk, *(pk for pk in fallbacks if pk is not None)}
    deployments = list(
        Deployment.objects.filter(is_active=True, alias__in=alias_ids, alias__kind=alias.kind)
        .select_related("credential", "health")
        .order_by("priority", "id")
    )
    priced = _priced(alias, deployments, _own_credentials(team, deployments))
    if not priced[alias.pk]:
        raise ModelUnavailable
    return ResolvedAlias(
        alias=alias,
        deployments=tuple(priced[alias.pk]),
        after_context_window=tuple(priced[fallbacks[0]]),
        after_content_filter=tuple(priced[fallbacks[1]]),
        price_keys=tuple(row.effective_price_key for row in deployments),
    )


def _own_credentials(team: Team, deployments: list[Deployment]) -> dict[str, ProviderCredential]:
    """The organization's own credentials, by the names they shadow."""
    names = {row.credential.name for row in deployments if row.credential is not None}
    if not names:
        return {}
    own = ProviderCredential.objects.filter(organization=team.organization_id, name__in=names)
    return {credential.name: credential for credential in own}


def _priced(
    alias: Alias, deployments: list[Deployment], own: dict[str, ProviderCredential]
) -> dict[int | None, list[PricedDeployment]]:
    """Deployments with a known price, by alias; an alarm for each without one."""
    rows = prices.current([deployment.effective_price_key for deployment in deployments])
    priced: dict[int | None, list[PricedDeployment]] = defaultdict(list)
    for deployment in deployments:
        row = rows.get(deployment.effective_price_key)
        try:
            sheet = usable_prices(row, kind=alias.kind)
        except BadPrice as error:
            alarms.sound(
                kind="deployment.unpriced",
                subject=f"{alias.name} {deployment.pk}",
                detail=str(error),
            )
            continue
        platform = deployment.credential
        priced[deployment.alias_id].append(
            PricedDeployment(
                deployment=deployment,
                prices=sheet,
                credential=own.get(platform.name, platform) if platform else None,
                health=getattr(deployment, "health", None),
            )
        )
    return priced
