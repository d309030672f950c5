"""Organizations and teams: who exists, and in what state."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F

from saas_litellm.base import audit
from saas_litellm.base.refusals import Invalid, NotFound
from teams import catalog
from teams.models import AccessGroup, Alias, Organization, Team, slug_validator
from teams.refusals import BadSlug, SlugTaken


def create_organization(*, slug: str, name: str = "", actor: str) -> Organization:
    """Raises BadSlug, SlugTaken."""
    _check_slug(slug)
    try:
        with transaction.atomic():
            organization = Organization.objects.create(slug=slug, name=name or slug)
            audit.record(
                actor=actor,
                action="organization.create",
                target=f"organization:{slug}",
                after={"name": organization.name},
            )
    except IntegrityError as error:
        raise SlugTaken(f"There is an organization {slug} already.", param="slug") from error
    return organization


def create_team(
    *,
    slug: str,
    organization: Organization,
    actor: str,
    name: str = "",
    draws_on: str = Team.Wallet.TEAM,
    access_groups: list[AccessGroup] | None = None,
    default_alias: Alias | None = None,
) -> Team:
    """Raises BadSlug, SlugTaken. The wallet appears on first use; the plan is the default one."""
    _check_slug(slug)
    try:
        with transaction.atomic():
            team = Team.objects.create(
                slug=slug,
                name=name or slug,
                organization=organization,
                draws_on=draws_on,
                default_alias=default_alias,
            )
            team.access_groups.set(access_groups or [])
            audit.record(
                actor=actor,
                action="team.create",
                target=f"team:{slug}",
                after={
                    "name": team.name,
                    "organization": organization.slug,
                    "draws_on": draws_on,
                    "default_alias": str(default_alias) if default_alias else None,
                    "access_groups": [group.name for group in access_groups or []],
                },
            )
    except IntegrityError as error:
        raise SlugTaken(f"There is a team {slug} already.", param="slug") from error
    return team


def find_team(slug: str) -> Team:
    """Raises NotFound."""
    team = Team.objects.select_related("organization", "default_alias").filter(slug=slug).first()
    if team is None:
        raise NotFound(f"There is no team {slug}.")
    return team


def find_organization(slug: str) -> Organization:
    """Raises NotFound."""
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        raise NotFound(f"There is no organization {slug}.")
    return organization


def set_team_status(*, team: Team, status: Team.Status, actor: str, reason: str = "") -> None:
    """Pause, suspend or resume a team, at once and everywhere."""
    with transaction.atomic():
        changed = Team.objects.filter(pk=team.pk).exclude(status=status).update(status=status)
        if changed:
            audit.record(
                actor=actor,
                action=f"team.{status}",
                target=f"team:{team.slug}",
                reason=reason,
                before={"status": team.status},
                after={"status": status},
            )
    team.status = status


def lock(team: Team) -> None:
    """Wait for whoever else counts what a team has, to the end of the caller's transaction.

    An UPDATE that changes nothing takes the row's lock on PostgreSQL and SQLite alike. Two managers
    cannot leave none, and a team has no more keys and budgets of its own than it may.
    """
    Team.objects.filter(pk=team.pk).update(name=F("name"))


def set_wallet(*, team: Team, draws_on: str, actor: str, reason: str = "") -> None:
    """Which account the team's new jobs draw on: its own, or its organization's.

    Jobs that are open keep the one they began with, and so does what was granted. Raises Invalid.
    """
    if draws_on not in Team.Wallet.values:
        raise Invalid("draws_on must be team or organization.", param="draws_on")
    with transaction.atomic():
        changed = (
            Team.objects.filter(pk=team.pk).exclude(draws_on=draws_on).update(draws_on=draws_on)
        )
        if changed:
            audit.record(
                actor=actor,
                action="team.wallet",
                target=f"team:{team.slug}",
                reason=reason,
                before={"draws_on": team.draws_on},
                after={"draws_on": draws_on},
            )
    team.draws_on = draws_on


def set_default_alias(*, team: Team, alias: Alias | None, actor: str, reason: str = "") -> None:
    """The model of calls that name none; None: they must. Raises Invalid for one not granted."""
    if alias is not None and alias not in catalog.granted(team):
        raise Invalid(f"The team may not use {alias}: grant it first.", param="default_alias")
    before = str(team.default_alias) if team.default_alias else None
    after = str(alias) if alias else None
    with transaction.atomic():
        Team.objects.filter(pk=team.pk).update(default_alias=alias)
        if before != after:
            audit.record(
                actor=actor,
                action="team.default_alias",
                target=f"team:{team.slug}",
                reason=reason,
                before={"default_alias": before},
                after={"default_alias": after},
            )
    team.default_alias = alias


def set_organization_status(
    *, organization: Organization, status: Organization.Status, actor: str, reason: str = ""
) -> None:
    """Suspend, close or resume an organization; closing is final (raises Invalid)."""
    with transaction.atomic():
        changed = (
            Organization.objects.filter(pk=organization.pk)
            .exclude(status__in=[status, Organization.Status.CLOSED])
            .update(status=status)
        )
        if changed:
            audit.record(
                actor=actor,
                action=f"organization.{status}",
                target=f"organization:{organization.slug}",
                reason=reason,
                before={"status": organization.status},
                after={"status": status},
            )
        organization.refresh_from_db(fields=["status"])
    if organization.status != status:
        raise Invalid("A closed organization stays closed.", param="status")


def _check_slug(slug: str) -> None:
    try:
        slug_validator(slug)
    except ValidationError as error:
        raise BadSlug(f"{slug!r} is not an id. {BadSlug.default_message}", param="slug") from error
