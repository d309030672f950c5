"""Members: invited by a link that works once, never taking an account over, never leaving none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection

from saas_litellm.base.models import Alarm, AuditEntry
from saas_litellm.base.refusals import Invalid, Refusal, Unauthenticated
from teams import directory, members, operators, roles
from teams.models import Invitation, Membership, Team, User
from teams.refusals import TeamSuspended
from tests import factories
from tests.teams.test_roles import PASSWORD, person

MIA = "mia@example.com"


@pytest.fixture
def alice(db: None) -> Team:
    return factories.team()


def invite(team: Team, email: str = MIA, role: str = "manager", **more: Any) -> str:
    """The token of a new invitation."""
    link = members.invite(team=team, email=email, role=role, actor="user:olga", **more)[1]
    return link.rstrip("/").rpartition("/")[2]


def member(team: Team, email: str = MIA, role: str = "manager") -> Membership:
    return members.accept_anew(token=invite(team, email, role), password=PASSWORD)


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each act returned or was refused with, all of them begun together."""
    barrier, found = threading.Barrier(len(acts)), list[Any]()

    def run(act: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            found.append(act())
        except Refusal as refusal:
            found.append(refusal)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_link_makes_an_account_and_a_member_once(alice: Team) -> None:
    token = invite(alice, "  Mia@Example.COM ")
    joined = members.accept_anew(token=token, password=PASSWORD)
    mia = User.objects.get()
    assert (mia.username, mia.email, mia.is_staff) == (MIA, MIA, False)
    assert mia.check_password(PASSWORD)
    assert (joined.team, joined.role, joined.invited_by) == (alice, "manager", "user:olga")
    for again in (members.accept_anew, members.accept):
        given: dict[str, Any] = {members.accept: {"user": mia}}.get(again, {"password": PASSWORD})
        with pytest.raises(members.InvitationOver):
            again(token=token, **given)
    assert members.joined_by(token, mia) == joined


def test_only_the_hash_of_the_token_is_kept(alice: Team) -> None:
    token = invite(alice)
    kept = str(list(Invitation.objects.values())) + str(list(AuditEntry.objects.values()))
    assert token not in kept


def test_an_existing_account_joins_by_its_own_session_alone(alice: Team) -> None:
    mia = member(alice).user
    bob = factories.team(name="bob")
    token = invite(bob)
    with pytest.raises(members.AccountExists):
        members.accept_anew(token=token, password="another long password")
    stranger = User.objects.create_user("charlie", email="charlie@example.com")
    with pytest.raises(members.AnotherAccount):
        members.accept(token=token, user=stranger)
    assert members.accept(token=token, user=mia).team == bob
    assert mia.check_password(PASSWORD)


@pytest.mark.parametrize("email", ["olga@example.com", "OLGA@example.com", "olga"])
def test_an_operators_account_is_never_taken_over(alice: Team, email: str) -> None:
    """By the address they have, or by one that reads as their name."""
    olga = person("olga", roles.OWNER)
    User.objects.update(email=email)
    User.objects.filter(email="olga").update(username="olga@example.com")
    token = invite(alice, "olga@example.com")
    with pytest.raises(members.AccountExists):
        members.accept_anew(token=token, password="another long password")
    olga.refresh_from_db()
    assert olga.check_password(PASSWORD)
    assert members.accept(token=token, user=olga).user == olga
    olga.refresh_from_db()
    assert (olga.is_staff, olga.is_superuser) == (True, False)


def test_a_member_is_no_operator(alice: Team) -> None:
    mia = member(alice).user
    with pytest.raises(Unauthenticated):
        operators.signed_in(mia)
    with pytest.raises(Invalid):
        operators.issue(user=mia, actor="test")
    assert mia.get_all_permissions() == set()


def test_inviting_again_replaces_the_open_invitation(alice: Team) -> None:
    first, second = invite(alice), invite(alice, role="member")
    with pytest.raises(members.InvitationOver):
        members.invitation_of(first)
    assert members.invitation_of(second).role == "member"
    # Another team's is untouched.
    third = invite(factories.team(name="bob"))
    assert members.invitation_of(second)
    assert members.invitation_of(third)


def test_an_invitation_ends_after_a_week_or_when_it_is_withdrawn(alice: Team, forward: Any) -> None:
    withdrawn, old = invite(alice, "a@example.com"), invite(alice, "b@example.com")
    members.revoke(invitation=members.invitation_of(withdrawn), actor="test")
    with pytest.raises(members.InvitationOver):
        members.accept_anew(token=withdrawn, password=PASSWORD)
    forward(7 * 86_400 - 60)
    opened = members.invitation_of(old)
    forward(61)
    with pytest.raises(members.InvitationOver):
        members.accept_anew(token=old, password=PASSWORD)
    assert opened.revoked_at is None
    assert not User.objects.exists()


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "' OR 1=1 --"])
def test_a_made_up_token_opens_nothing(alice: Team, token: str) -> None:
    invite(alice)
    with pytest.raises(members.InvitationOver):
        members.accept_anew(token=token, password=PASSWORD)


@pytest.mark.parametrize("password", ["short", "12345678901234", "mia@example.com"])
def test_a_weak_password_leaves_the_invitation_open(alice: Team, password: str) -> None:
    token = invite(alice)
    with pytest.raises(ValidationError):
        members.accept_anew(token=token, password=password)
    assert not User.objects.exists()
    assert members.accept_anew(token=token, password=PASSWORD)


@pytest.mark.parametrize("email", ["", "x", "a@b", "a b@example.com", f"{'a' * 150}@example.com"])
def test_what_is_no_address_is_refused(alice: Team, email: str) -> None:
    with pytest.raises(Invalid):
        invite(alice, email)


def test_a_member_is_not_invited_again(alice: Team) -> None:
    member(alice)
    with pytest.raises(members.AlreadyMember):
        invite(alice, "MIA@example.com")
    with pytest.raises(Invalid):
        invite(alice, "b@example.com", role="owner")


def test_a_suspended_team_takes_nobody_in(alice: Team) -> None:
    token = invite(alice)
    directory.set_team_status(team=alice, status=Team.Status.SUSPENDED, actor="test")
    with pytest.raises(TeamSuspended):
        members.accept_anew(token=token, password=PASSWORD)
    with pytest.raises(TeamSuspended):
        invite(Team.objects.get(pk=alice.pk), "b@example.com")
    assert not User.objects.exists()


def test_managers_send_so_many_invitations_a_day(
    alice: Team, monkeypatch: Any, forward: Any
) -> None:
    monkeypatch.setattr(members, "INVITATIONS_A_DAY", 2)
    for _ in range(2):
        invite(alice)
    with pytest.raises(members.TooManyInvitations):
        invite(alice, "b@example.com")
    assert invite(alice, "b@example.com", is_by_operator=True)
    forward(86_401)
    assert invite(alice, "c@example.com")


def test_the_last_manager_goes_only_by_an_operator(alice: Team) -> None:
    mia = member(alice)
    with pytest.raises(members.LastManager):
        members.remove(membership=mia, actor="user:mia")
    with pytest.raises(members.LastManager):
        members.change_role(membership=mia, role="member", actor="user:mia")
    bob = member(alice, "bob@example.com")
    members.change_role(membership=mia, role="member", actor="user:mia")
    with pytest.raises(members.LastManager):
        members.remove(membership=bob, actor="user:bob")
    members.remove(membership=mia, actor="user:bob")
    members.remove(membership=mia, actor="user:bob")
    members.remove(membership=bob, actor="user:olga", is_by_operator=True)
    assert not Membership.objects.exists()
    assert User.objects.count() == 2


def test_each_step_is_audited(alice: Team) -> None:
    mia = member(alice)
    member(alice, "bob@example.com")
    members.change_role(membership=mia, role="member", actor="user:olga")
    members.remove(membership=mia, actor="user:olga")
    members.revoke(
        invitation=members.invitation_of(invite(alice, "c@example.com")), actor="user:olga"
    )
    rows = AuditEntry.objects.filter(target="team:alice", action__startswith="member")
    assert list(rows.order_by("id").values_list("actor", "action")) == [
        ("user:olga", "member.invite"),
        ("user:mia@example.com", "member.join"),
        ("user:olga", "member.invite"),
        ("user:bob@example.com", "member.join"),
        ("user:olga", "member.role"),
        ("user:olga", "member.remove"),
        ("user:olga", "member.invite"),
        ("user:olga", "member.uninvite"),
    ]
    changed = rows.get(action="member.role")
    assert (changed.before, changed.after) == ({"role": "manager"}, {"role": "member"})
    assert changed.detail == {"member": MIA, "withdrawn": 0}


def test_the_e_mail_has_the_link_and_nothing_of_this_software(alice: Team, settings: Any) -> None:
    settings.PUBLIC_URL = "https://example.com"
    made = members.invite(team=alice, email=MIA, role="member", actor="test")
    assert members.send(*made)
    [sent] = mail.outbox
    assert sent.to == [MIA]
    assert f"\nhttps://example.com/portal/invitations/{made[1].split('/')[-2]}/\n" in sent.body
    assert "litellm" not in f"{sent.subject}{sent.body}{sent.from_email}".lower()


def test_mail_that_cannot_leave_is_said_and_sounds_an_alarm(alice: Team, settings: Any) -> None:
    made = members.invite(team=alice, email=MIA, role="member", actor="test")
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert not members.send(*made)
    assert Alarm.objects.get().kind == "mail.failed"
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    assert not members.send(*made)
    assert members.invitation_of(made[1].split("/")[-2])


# --- At once -----------------------------------------------------------------------------------


def test_one_invitation_accepted_twice_at_once_makes_one_member(transactional_db: None) -> None:
    alice = factories.team()
    token = invite(alice)
    passwords = [f"a long password number {n}" for n in range(4)]
    found = at_once(
        *(
            lambda password=password: members.accept_anew(token=token, password=password)
            for password in passwords
        )
    )
    assert sum(isinstance(one, Membership) for one in found) == 1
    assert all(
        isinstance(one, Membership | members.InvitationOver | members.AccountExists)
        for one in found
    )
    assert (User.objects.count(), Membership.objects.count()) == (1, 1)
    assert sum(User.objects.get().check_password(password) for password in passwords) == 1


def test_one_account_accepting_twice_at_once_joins_once(transactional_db: None) -> None:
    mia = member(factories.team()).user
    token = invite(factories.team(name="bob"))
    found = at_once(*[lambda: members.accept(token=token, user=mia)] * 4)
    assert sum(isinstance(one, Membership) for one in found) == 1
    assert mia.memberships.count() == 2
    assert AuditEntry.objects.filter(action="member.join", target="team:bob").count() == 1


def test_two_managers_removing_each_other_at_once_leave_one(transactional_db: None) -> None:
    alice = factories.team()
    both = [member(alice, f"{name}@example.com") for name in ("mia", "bob")]
    found = at_once(*(lambda one=one: members.remove(membership=one, actor="test") for one in both))
    assert sum(isinstance(one, members.LastManager) for one in found) == 1
    assert Membership.objects.filter(role="manager").count() == 1


def test_inviting_one_address_twice_at_once_leaves_one_open(transactional_db: None) -> None:
    alice = factories.team()
    tokens = at_once(*[lambda: invite(alice)] * 4)
    assert Invitation.objects.filter(revoked_at=None).count() == 1
    assert len(set(tokens)) == 4
