"""Members of teams: invited by a link, used once, and let go again.

A link goes to an e-mail address, which is who is meant. An account with that address joins by its
own signed-in session, never by the link alone; where there is none, the link makes one. Members are
users who are not staff: what they may is their membership's.
"""

from __future__ import annotations

import re
import secrets
import smtplib
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse

from saas_litellm.base import alarms, audit, clock, encryption
from saas_litellm.base.refusals import Conflict, Forbidden, Invalid, NotFound
from teams import directory, keys
from teams.models import Invitation, MemberRole, Membership, Team, User

LASTS = timedelta(days=7)
# What the managers of one team may send in a day: the platform's mail is not theirs to spend.
INVITATIONS_A_DAY = 50
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
# The address becomes the user name.
_LONGEST_EMAIL = User._meta.get_field("username").max_length or 150
_OPEN = Q(accepted_at=None, revoked_at=None)


class AlreadyMember(Conflict):
    code = "already_member"
    default_message = "This person is a member already: change the role instead."


class InvitationOver(NotFound):
    code = "invitation_over"
    default_message = (
        "This invitation was used, replaced or withdrawn, or is older than seven days. Ask whoever"
        " invited you for a new one."
    )


class AnotherAccount(Forbidden):
    code = "another_account"
    default_message = "This invitation is for somebody else than who is signed in here."


class AccountExists(Conflict):
    code = "account_exists"
    default_message = "There is an account with this address: sign in to it, and then accept."


class LastManager(Conflict):
    code = "last_manager"
    default_message = (
        "This is the team's last manager: make somebody else one first, or ask the operator."
    )


class NoMail(Conflict):
    code = "no_mail"
    default_message = (
        "No e-mail leaves this platform, so nobody is invited: a link goes to the address itself"
        " and to nobody else. Ask the operator to set EMAIL_URL up, or to invite this person."
    )


class MailNotSent(Conflict):
    code = "mail_not_sent"
    default_message = (
        "The e-mail could not be sent, so the invitation is withdrawn. Try again later; if it"
        " fails again, the operator has to look at EMAIL_URL and at the alarms."
    )


class TooManyInvitations(Conflict):
    code = "too_many_invitations"
    default_message = f"A team sends {INVITATIONS_A_DAY} invitations a day at most. Try tomorrow."


def normal_email(text: str) -> str:
    """In lower case, so that one person has one account. Raises Invalid."""
    email = text.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid("That is not an e-mail address.", param="email") from error
    if len(email) > _LONGEST_EMAIL:
        raise Invalid(f"An address has {_LONGEST_EMAIL} characters at most.", param="email")
    return email


def accounts_of(email: str) -> QuerySet[User]:
    """Whoever goes by this address, operators too."""
    return User.objects.filter(Q(email__iexact=email) | Q(username__iexact=email))


def invite(
    *, team: Team, email: str, role: str, actor: str, is_by_operator: bool = False
) -> tuple[Invitation, str]:
    """Make an invitation in place of any open one, and return it with its link.

    The link exists nowhere else from now on; ``send`` mails it. Raises Invalid, AlreadyMember,
    TooManyInvitations (not for operators), or what a closed team raises.
    """
    email = normal_email(email)
    _check_role(role)
    now, token = clock.now(), secrets.token_urlsafe(32)
    with transaction.atomic():
        directory.lock(team)
        keys.require_open(team)
        if Membership.objects.filter(team=team, user__in=accounts_of(email)).exists():
            raise AlreadyMember(param="email")
        sent = Invitation.objects.filter(team=team, created_at__gt=now - timedelta(days=1))
        if not is_by_operator and sent.count() >= INVITATIONS_A_DAY:
            raise TooManyInvitations
        replaced = Invitation.objects.filter(_OPEN, team=team, email=email).update(revoked_at=now)
        invitation = Invitation.objects.create(
            team=team,
            email=email,
            role=role,
            digest=encryption.keyed_hash(token),
            invited_by=actor[:200],
            created_at=now,
            expires_at=now + LASTS,
        )
        audit.record(
            actor=actor,
            action="member.invite",
            target=f"team:{team.slug}",
            after={"email": email, "role": role},
            replaced=replaced,
        )
    return invitation, settings.PUBLIC_URL + reverse("portal:invitation", args=[token])


def require_mail() -> None:
    """Raise NoMail unless e-mail is set up: whoever has a link could join as somebody else."""
    if not is_mail_set_up():
        raise NoMail


def send_or_withdraw(invitation: Invitation, link: str, *, actor: str) -> None:
    """Mail the link, or end the invitation and raise MailNotSent. Call it outside of transactions."""
    if not send(invitation, link):
        revoke(invitation=invitation, actor=actor)
        raise MailNotSent


def send(invitation: Invitation, link: str) -> bool:
    """Mail the link; whether it went out. Call it outside of transactions."""
    if not is_mail_set_up():
        return False
    written = {"invitation": invitation, "link": link, "days": LASTS.days}
    try:
        send_mail(
            f"An invitation to {invitation.team.name}",
            render_to_string("portal/mail/invitation.txt", written),
            None,
            [invitation.email],
        )
    except (OSError, smtplib.SMTPException) as error:
        alarms.sound(kind="mail.failed", subject="invitation", detail=f"{type(error).__name__}")
        return False
    return True


def is_mail_set_up() -> bool:
    return not settings.EMAIL_BACKEND.endswith("dummy.EmailBackend")


def invitation_of(token: str) -> Invitation:
    """The open invitation behind a link. Raises InvitationOver."""
    found = (
        Invitation.objects.select_related("team__organization")
        .filter(digest=encryption.keyed_hash(token))
        .first()
        if _TOKEN.fullmatch(token)
        else None
    )
    if found is None or not found.is_open_at(clock.now()):
        raise InvitationOver
    return found


def joined_by(token: str, user: User) -> Membership | None:
    """What this link gave to this person already: a second click is not a mistake."""
    used = Invitation.objects.filter(
        digest=encryption.keyed_hash(token), accepted_at__isnull=False, email__iexact=user.email
    )
    return Membership.objects.filter(user=user, team__in=used.values("team")).first()


def accept(*, token: str, user: User) -> Membership:
    """Join with the account that is signed in, which must be the one invited.

    Raises InvitationOver, AnotherAccount, or what a closed team raises.
    """
    invitation = invitation_of(token)
    if not accounts_of(invitation.email).filter(pk=user.pk, is_active=True).exists():
        raise AnotherAccount
    with transaction.atomic():
        return _join(invitation, user)


def accept_anew(*, token: str, password: str) -> Membership:
    """Join with an account made here, of the invited address and this password.

    Raises InvitationOver, AccountExists, what a closed team raises, or ValidationError for a weak
    password.
    """
    invitation = invitation_of(token)
    email = invitation.email
    if accounts_of(email).exists():
        raise AccountExists
    user = User(username=email, email=email)
    validate_password(password, user)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save()
            audit.record(
                actor=f"user:{email}",
                action="user.create",
                target=f"user:{email}",
                after={"is_staff": False},
            )
            return _join(invitation, user)
    except IntegrityError as error:
        raise AccountExists from error


def revoke(*, invitation: Invitation, actor: str) -> None:
    """Withdraw an invitation; one that is over stays as it is."""
    with transaction.atomic():
        revoked = Invitation.objects.filter(_OPEN, pk=invitation.pk).update(revoked_at=clock.now())
        if revoked:
            audit.record(
                actor=actor,
                action="member.uninvite",
                target=f"team:{invitation.team.slug}",
                before={"email": invitation.email, "role": invitation.role},
            )


def change_role(
    *, membership: Membership, role: str, actor: str, is_by_operator: bool = False
) -> None:
    """Raises Invalid, LastManager (not for operators)."""
    _check_role(role)
    with transaction.atomic():
        directory.lock(membership.team)
        before = Membership.objects.filter(pk=membership.pk).exclude(role=role).first()
        if before is None:
            return
        if not is_by_operator:
            _require_another_manager(before)
        Membership.objects.filter(pk=membership.pk).update(role=role)
        withdrawn = _withdraw_made_by(before) if role != MemberRole.MANAGER else 0
        audit.record(
            actor=actor,
            action="member.role",
            target=f"team:{membership.team.slug}",
            before={"role": before.role},
            after={"role": role},
            member=str(membership.user),
            withdrawn=withdrawn,
        )
    membership.role = role


def remove(*, membership: Membership, actor: str, is_by_operator: bool = False) -> None:
    """End a membership now; twice changes nothing. Raises LastManager (not for operators)."""
    with transaction.atomic():
        directory.lock(membership.team)
        found = Membership.objects.filter(pk=membership.pk).first()
        if found is None:
            return
        if not is_by_operator:
            _require_another_manager(found)
        withdrawn = _withdraw_made_by(found)
        found.delete()
        audit.record(
            actor=actor,
            action="member.remove",
            target=f"team:{membership.team.slug}",
            before={"role": found.role},
            member=str(membership.user),
            withdrawn=withdrawn,
        )


def _join(invitation: Invitation, user: User) -> Membership:
    """Use the invitation up and make the member of it, in the caller's transaction."""
    keys.require_open(invitation.team)
    now = clock.now()
    used = Invitation.objects.filter(_OPEN, pk=invitation.pk, expires_at__gt=now).update(
        accepted_at=now
    )
    if used != 1:
        raise InvitationOver
    membership, is_new = Membership.objects.get_or_create(
        user=user,
        team=invitation.team,
        defaults={
            "role": invitation.role,
            "invited_by": invitation.invited_by,
            "created_at": now,
        },
    )
    if is_new:
        audit.record(
            actor=f"user:{user.get_username()}",
            action="member.join",
            target=f"team:{invitation.team.slug}",
            after={"role": membership.role},
            invited_by=invitation.invited_by,
        )
    return membership


def _require_another_manager(membership: Membership) -> None:
    others = Membership.objects.filter(team=membership.team_id, role=MemberRole.MANAGER)
    if membership.role == MemberRole.MANAGER and not others.exclude(pk=membership.pk).exists():
        raise LastManager


def _withdraw_made_by(membership: Membership) -> int:
    """End the open invitations of whoever manages no longer: none leads back in. How many."""
    return Invitation.objects.filter(
        _OPEN, team=membership.team_id, invited_by=f"user:{membership.user.get_username()}"[:200]
    ).update(revoked_at=clock.now())


def _check_role(role: str) -> None:
    if role not in MemberRole.values:
        raise Invalid(f"role is one of {', '.join(MemberRole.values)}.", param="role")
