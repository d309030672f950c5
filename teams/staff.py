"""The people behind the admin: their roles, and what nobody may do to them.

An owner is an active staff user in the group ``owner``, or one whom Django calls a superuser: the
two count the same. There is always one once there was one. Nobody touches a person, or gives a
right, beyond their own rights.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import Q, QuerySet

from saas_litellm.base import audit
from saas_litellm.base.refusals import Conflict, Forbidden, Invalid
from teams import roles
from teams.models import User

_IS_OWNER = Q(is_superuser=True) | Q(groups__name=roles.OWNER)


class LastOwner(Conflict):
    code = "last_owner"
    default_message = (
        "This is the last owner, and somebody must stay one: make another owner first."
    )


class BeyondYourRights(Forbidden):
    code = "beyond_your_rights"
    default_message = "That goes beyond your own rights."


def owners() -> QuerySet[User]:
    return User.objects.filter(_IS_OWNER, is_active=True, is_staff=True).distinct()


def is_owner(user: User) -> bool:
    return User.objects.filter(_IS_OWNER, pk=user.pk, is_active=True, is_staff=True).exists()


@contextmanager
def an_owner_stays() -> Iterator[None]:
    """A transaction around any change of people: it raises LastOwner, and undoes, what leaves
    no owner. Such changes run one after another, so two owners cannot demote each other.
    """
    with transaction.atomic():
        # One row that all of them wait for; on SQLite the transaction itself is that lock.
        list(Group.objects.select_for_update().filter(name=roles.OWNER))
        is_owned = owners().exists()
        yield
        if is_owned and not owners().exists():
            raise LastOwner


def create(
    *, username: str, role: str, actor: str, email: str = "", password: str = ""
) -> tuple[User, str]:
    """Make a staff user with a role, and return the password too: a random one when none is given.

    Raises Invalid for an unknown role or a name that is taken, ValidationError for a weak password.
    """
    if role not in roles.ROLES:
        raise Invalid(f"role is one of {', '.join(roles.ROLES)}.", param="role")
    if User.objects.filter(username=username).exists():
        raise Invalid(f"There is a user {username} already.", param="username")
    if password:
        validate_password(password, User(username=username, email=email))
    password = password or secrets.token_urlsafe(12)
    user = User(username=username, email=email, is_staff=True)
    user.set_password(password)
    user.full_clean()
    with transaction.atomic():
        user.save()
        user.groups.add(Group.objects.get_or_create(name=role)[0])
        audit.record(
            actor=actor, action="user.create", target=f"user:{username}", after={"role": role}
        )
    return user, password


# Ids of permissions; None for an owner's, which are all that there will ever be.
Rights = set[int] | None


def rights_of(user: AbstractBaseUser | AnonymousUser) -> Rights:
    """What a person may do, or may again once active, looked up now."""
    if not isinstance(user, User):
        return set()
    if User.objects.filter(_IS_OWNER, pk=user.pk).exists():
        return None
    held = Permission.objects.filter(Q(user=user.pk) | Q(group__user=user.pk))
    return set(held.values_list("pk", flat=True))


def rights_in(group: Group) -> Rights:
    """What a group gives to whoever is in it."""
    if group.name == roles.OWNER:
        return None
    return set(group.permissions.values_list("pk", flat=True))


def is_within(given: Rights, mine: Rights) -> bool:
    """Whether ``mine`` cover all that is given."""
    return mine is None or (given is not None and given <= mine)


def require_within(given: Rights, mine: Rights) -> None:
    """Raise BeyondYourRights unless ``mine``, as they were before the change, cover all given."""
    if not is_within(given, mine):
        raise BeyondYourRights
