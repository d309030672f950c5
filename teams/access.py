"""Access groups: which aliases they hold, and which teams they are granted to.

Each change is audited with its counts before and after, and with what came and went: a group may
hold thousands of teams, and a list of them all would say less.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet

from saas_litellm.base import audit
from teams.models import AccessGroup, Alias, Team

# An audit row names so many, and counts the rest.
MAX_NAMED = 200


def grant(*, group: AccessGroup, teams: Iterable[Team], actor: str) -> int:
    """Let teams use the group's aliases; returns how many could not before."""
    return _change_teams(group=group, teams=teams, actor=actor, is_granted=True)


def withdraw(*, group: AccessGroup, teams: Iterable[Team], actor: str) -> int:
    """Take the group away from teams; returns how many had it."""
    return _change_teams(group=group, teams=teams, actor=actor, is_granted=False)


def put_in_groups(*, alias: Alias, groups: Iterable[AccessGroup], actor: str) -> None:
    """The alias is in these groups from now on, and in no others."""
    with transaction.atomic():
        before = _names(alias)
        alias.access_groups.set(groups)
        after = _names(alias)
        if before != after:
            audit.record(
                actor=actor,
                action="alias.access_groups",
                target=f"alias:{alias}",
                before={"access_groups": before},
                after={"access_groups": after},
            )


def teams_reaching(alias: Alias) -> QuerySet[Team]:
    """Teams that an active group grants the alias to; an organization's own only to its teams."""
    groups = AccessGroup.objects.filter(is_active=True, aliases=alias)
    links = Team.access_groups.through._default_manager.filter(accessgroup__in=groups)
    found = Team.objects.filter(pk__in=links.values("team"))
    return found.filter(organization=alias.organization_id) if alias.organization_id else found


def _change_teams(
    *, group: AccessGroup, teams: Iterable[Team], actor: str, is_granted: bool
) -> int:
    links = Team.access_groups.through._default_manager
    with transaction.atomic():
        # Locked, so that the counts of two changes at once follow one another.
        group = AccessGroup.objects.select_for_update().get(pk=group.pk)
        before = links.filter(accessgroup=group).count()
        named = {team.pk: team.slug for team in teams}
        have = set(
            links.filter(accessgroup=group, team__in=named).values_list("team_id", flat=True)
        )
        moved = {pk: slug for pk, slug in named.items() if (pk in have) != is_granted}
        if not moved:
            return 0
        if is_granted:
            group.teams.add(*moved)
        else:
            group.teams.remove(*moved)
        audit.record(
            actor=actor,
            action="accessgroup.grant" if is_granted else "accessgroup.withdraw",
            target=f"accessgroup:{group}",
            before={"teams": before},
            after={"teams": before + (len(moved) if is_granted else -len(moved))},
            teams=sorted(moved.values())[:MAX_NAMED],
        )
    return len(moved)


def _names(alias: Alias) -> list[str]:
    return list(alias.access_groups.order_by("name").values_list("name", flat=True))
