"""The teams' own pages: who gets in, who finds nothing, and how one becomes a member."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from billing.models import Budget
from saas_litellm.base.models import AuditEntry
from teams import directory, roles
from teams.models import ApiKey, Invitation, Membership, Team, User
from tests import factories, portal
from tests.portal import BOB, MIA, ONLY_POSTED, UNNUMBERED, at, paths, read, text
from tests.teams.test_members import invite, member
from tests.teams.test_roles import PASSWORD, browser, person

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served", "sold_online", "fresh_cache"),
]


@pytest.fixture
def alice() -> factories.Company:
    return portal.company()


@pytest.fixture
def full(alice: factories.Company) -> Team:
    return portal.filled(alice.team)


@pytest.fixture
def mia(alice: factories.Company) -> Client:
    """A manager."""
    return portal.signed_in(MIA)


@pytest.fixture
def bob(alice: factories.Company) -> Client:
    """A member."""
    return portal.signed_in(BOB)


@pytest.fixture
def charlie(alice: factories.Company) -> Client:
    """A manager of another team."""
    other = factories.company(name="charlie")
    return browser(member(other.team, "charlie@example.com").user)


# --- Who gets in -------------------------------------------------------------------------------


def test_a_manager_opens_every_page(full: Team, mia: Client) -> None:
    assert {name: answer.status_code for name, answer in read(mia, full).items()} == {
        name: 200 for name in paths(full) if name not in ONLY_POSTED
    }


def test_a_member_opens_what_is_for_looking(full: Team, bob: Client) -> None:
    closed = {name for name, answer in read(bob, full).items() if answer.status_code != 200}
    assert closed == {"budget", "keys", "rotate", "buy", "purchase", "auto_top_up"}


def test_a_stranger_finds_nothing_on_any_page(full: Team, charlie: Client) -> None:
    before = (Membership.objects.count(), Budget.objects.count(), ApiKey.objects.count())
    for name, path in paths(full).items():
        for answer in (charlie.get(path), charlie.post(path, {"act": "remove"})):
            assert answer.status_code == (405 if answer.status_code == 405 else 404), name
            assert "letters" not in answer.content.decode()
    assert before == (Membership.objects.count(), Budget.objects.count(), ApiKey.objects.count())
    assert Invitation.objects.filter(revoked_at__isnull=False).count() == 0


def test_a_strangers_own_team_does_not_show_the_rows_of_another(
    full: Team, charlie: Client
) -> None:
    """The right team in the path, another team's number behind it."""
    Team.objects.filter(slug="charlie").update(is_key_self_service=True)
    for name, path in paths(full).items():
        foreign = path.replace("/alice/", "/charlie/")
        if name in UNNUMBERED:
            continue
        numbered = path.count("/") > at("jobs").count("/")
        answer = charlie.get(foreign) if name not in ONLY_POSTED else charlie.post(foreign)
        assert answer.status_code == (404 if numbered else 200), name


def test_nobody_sees_a_page_without_signing_in(full: Team) -> None:
    for name, path in paths(full).items():
        answer = Client().get(path)
        expected = 405 if name in ONLY_POSTED else 302
        assert answer.status_code == expected, name
        assert answer.get("Location", "").startswith("/portal/sign-in/") == (expected == 302)


def test_a_member_sees_neither_the_admin_nor_the_management_api(full: Team, mia: Client) -> None:
    for path in ("/admin/", "/admin/teams/team/", "/admin/second-factor/", "/admin/jobs/job/"):
        answer = mia.get(path)
        assert answer["Location"].startswith("/admin/login/"), path
    for path in ("reports/profit", "plans", "budgets"):
        assert mia.get(f"/api/{path}").status_code == 401, path


def test_whoever_is_removed_is_out_at_their_next_page(full: Team, mia: Client, bob: Client) -> None:
    assert bob.get(at("overview")).status_code == 200
    mia.post(paths(full)["change_member"], {"act": "remove"})
    assert bob.get(at("overview")).status_code == 404


def test_a_suspended_teams_members_are_told_so(full: Team, mia: Client) -> None:
    directory.set_team_status(team=full, status=Team.Status.SUSPENDED, actor="test")
    answer = mia.get(at("overview"))
    assert answer.status_code == 403
    assert "suspended" in answer.content.decode()
    directory.set_team_status(team=full, status=Team.Status.PAUSED, actor="test")
    assert "paused" in text(mia, "overview")


@pytest.mark.parametrize("role", roles.ROLES)
def test_an_operator_looks_and_is_noted_and_changes_nothing(full: Team, role: str) -> None:
    client = browser(person("olga", role))
    for _ in range(2):
        assert "You look at this as an operator" in text(client, "overview")
    assert AuditEntry.objects.get(action="team.look").target == "team:alice"
    for name in ("budgets", "members"):
        page = text(client, name)
        # The one form is the one to sign out.
        assert page.count("<form") == 1
        assert client.post(at(name), {}).status_code == 403
    assert client.get(at("keys")).status_code == 404


def test_staff_without_the_right_to_look_at_teams_are_strangers(full: Team) -> None:
    client = browser(User.objects.create_user("carl", password=PASSWORD, is_staff=True))
    for name, answer in read(client, full).items():
        assert answer.status_code == 404, name


def test_who_is_in_one_team_lands_there_and_who_is_in_several_picks(
    full: Team, mia: Client, charlie: Client
) -> None:
    assert mia.get("/portal/")["Location"] == at("overview")
    both = invite(Team.objects.get(slug="charlie"), MIA)
    mia.post(f"/portal/invitations/{both}/")
    page = mia.get("/portal/").content.decode()
    assert at("overview") in page
    assert at("overview", team="charlie") in page


def test_a_team_may_be_called_as_a_page_is(full: Team) -> None:
    for slug in ("account", "sign-in", "password-reset", "invitations"):
        team = directory.create_team(slug=slug, organization=full.organization, actor="test")
        client = browser(member(team, f"{slug}@example.com").user)
        assert "No credits are left" in text(client, "overview", team=slug)
        assert client.get(at("jobs", team=slug)).status_code == 200


# --- Signing in --------------------------------------------------------------------------------


def sign_in(name: str, password: str = PASSWORD, **more: Any) -> Any:
    return Client().post("/portal/sign-in/", {"username": name, "password": password, **more})


def said(page: Any) -> str:
    return " ".join(page.context["form"].non_field_errors())


def test_signing_in_and_out(alice: factories.Company) -> None:
    answer = sign_in(" Mia@Example.com ", next=at("jobs"))
    assert answer["Location"] == at("jobs")
    client = answer.client
    assert client.get("/portal/sign-out/").status_code == 405
    assert client.post("/portal/sign-out/")["Location"] == "/portal/sign-in/"
    assert client.get(at("jobs"))["Location"].startswith("/portal/sign-in/?next=")
    rows = AuditEntry.objects.filter(action__startswith="sign").order_by("id")
    assert [row.action for row in rows] == ["sign_in", "sign_out"]


def test_an_address_that_is_one_persons_alone_is_a_name_too(alice: factories.Company) -> None:
    for name in ("carl", "cora"):
        User.objects.create_user(name, email="c@example.com", password=PASSWORD)
    assert "That does not fit" in said(sign_in("c@example.com"))
    User.objects.filter(username="cora").update(email="")
    home = sign_in("C@example.com").client.get("/portal/").content.decode()
    assert "You are a member of no team yet" in home


def test_a_sign_in_leads_nowhere_else(alice: factories.Company) -> None:
    assert sign_in(MIA, next="https://evil.example/")["Location"] == "/portal/"


def test_a_refused_sign_in_tells_nothing_and_guessing_is_throttled(
    alice: factories.Company,
) -> None:
    User.objects.filter(username=BOB).update(is_active=False)
    tries = [(MIA, "wrong"), ("nobody@example.com", PASSWORD), (BOB, PASSWORD)]
    assert len({said(sign_in(*who)) for who in tries}) == 1
    for name in (MIA, "MIA@example.com", MIA):
        assert "That does not fit" in said(sign_in(name, "wrong"))
    assert "Wait 15 minutes" in said(sign_in(MIA, "wrong"))
    assert "Wait 15 minutes" in said(sign_in(MIA))
    assert "manage.py" not in said(sign_in(MIA))


def test_an_idle_session_ends_here_too(alice: factories.Company, forward: Any) -> None:
    client = sign_in(MIA).client
    forward(3601)
    ended = client.get(at("jobs"))
    assert ended["Location"] == "/portal/sign-in/?next=%2Fportal%2Falice%2Fjobs%2F"
    assert "Your session ended" in client.get(ended["Location"]).content.decode()


def test_an_operator_with_a_second_factor_needs_it_here_too(alice: factories.Company) -> None:
    olga = person("olga", roles.OWNER)
    TOTPDevice.objects.create(user=olga, name="authenticator", confirmed=True)
    assert "That does not fit" in said(sign_in("olga"))


def test_every_form_needs_its_token(full: Team) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username=MIA))
    for name, path in paths(full).items():
        assert client.post(path, {}).status_code in {403, 405}, name
    posted = ("sign-in/", "sign-out/", "account/", "password-reset/", "invitations/x/")
    for path in posted:
        assert client.post(f"/portal/{path}", {}).status_code == 403, path


def test_a_forgotten_password_is_reset_by_e_mail_once(alice: factories.Company) -> None:
    for email in ("MIA@example.com", MIA, "nobody@example.com"):
        assert Client().post("/portal/password-reset/", {"email": email}).status_code == 302
    # A second e-mail waits; nobody gets none.
    [sent] = mail.outbox
    assert "litellm" not in f"{sent.subject}{sent.body}".lower()
    link = "/" + re.findall(r"http://[^/]+/(\S+)", sent.body)[0]
    client, new = Client(), "an entirely new password"
    form = client.get(link)["Location"]
    given = {"new_password1": "short", "new_password2": "short"}
    assert client.post(form, given).status_code == 200
    given = {"new_password1": new, "new_password2": new}
    assert client.post(form, given)["Location"] == "/portal/sign-in/"
    assert sign_in(MIA, new).status_code == 302
    assert "used already" in Client().get(link).content.decode()
    assert AuditEntry.objects.get(action="user.password").target == f"user:{MIA}"


def test_a_mailbox_does_not_open_the_admin(alice: factories.Company) -> None:
    olga = person("olga", roles.OWNER)
    User.objects.filter(pk=olga.pk).update(email="olga@example.com")
    Client().post("/portal/password-reset/", {"email": "olga@example.com"})
    assert mail.outbox == []


def test_a_member_changes_the_password(mia: Client) -> None:
    new = "an entirely new password"
    other = sign_in(MIA).client
    given = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert mia.post("/portal/account/", {**given, "old_password": "wrong"}).status_code == 200
    assert mia.post("/portal/account/", given).status_code == 302
    assert mia.get(at("overview")).status_code == 200
    assert other.get(at("overview")).status_code == 302
    assert sign_in(MIA, new).status_code == 302


# --- Invitations -------------------------------------------------------------------------------


def test_an_operators_invitation_becomes_a_member(
    alice: factories.Company, django_capture_on_commit_callbacks: Any
) -> None:
    owner = browser(person("olga", roles.OWNER))
    path = f"/admin/teams/team/{alice.team.pk}/invite/"
    key = owner.get(path).context["form"].initial["idempotency_key"]
    form = {"email": "dora@example.com", "role": "member", "idempotency_key": key}
    with django_capture_on_commit_callbacks(execute=True):
        first = owner.post(path, form, follow=True).content.decode()
        second = owner.post(path, form, follow=True).content.decode()
    [link] = set(re.findall(r"http://[^/]+(/portal/invitations/[\w-]{43}/)", first))
    assert "/portal/invitations/" not in second
    assert [sent.to for sent in mail.outbox] == [["dora@example.com"]]
    dora = Client()
    page = dora.get(link).content.decode()
    assert "dora@example.com" in page
    weak = dora.post(link, {"password": "short", "again": "short"})
    assert "too short" in weak.content.decode()
    unlike = dora.post(link, {"password": PASSWORD, "again": "x"})
    assert "not the same" in unlike.content.decode()
    for _ in range(2):
        joined = dora.post(link, {"password": PASSWORD, "again": PASSWORD})
        assert joined["Location"] == at("overview")
    assert "letters" in text(dora, "overview")
    assert Client().get(link).status_code == 404
    assert User.objects.get(username="dora@example.com").is_staff is False


def test_an_operators_account_joins_only_when_it_is_signed_in(alice: factories.Company) -> None:
    olga = person("olga", roles.OWNER)
    User.objects.filter(pk=olga.pk).update(email="olga@example.com")
    link = f"/portal/invitations/{invite(alice.team, 'olga@example.com')}/"
    stranger = Client()
    assert "There is an account with this address" in stranger.get(link).content.decode()
    taken = stranger.post(link, {"password": "x" * 9 + "y" * 9, "again": "x" * 9 + "y" * 9})
    assert "There is an account with this address" in taken.content.decode()
    olga.refresh_from_db()
    assert olga.check_password(PASSWORD)
    mia = browser(User.objects.get(username=MIA))
    assert "who is somebody else" in mia.get(link).content.decode()
    assert mia.post(link).status_code == 403
    assert browser(olga).post(link)["Location"] == at("overview")
    assert olga.memberships.get().team == alice.team


def test_a_manager_invites_within_the_team_and_withdraws(full: Team, mia: Client) -> None:
    mail.outbox.clear()
    form = {"email": "eve@example.com", "role": "member", "idempotency_key": "1"}
    for _ in range(2):
        answer = mia.post(at("members"), form, follow=True)
    assert len(mail.outbox) == 1
    # The address itself must get it, or it proves nothing.
    assert "invitations/" not in re.sub(r'action="[^"]+"', "", answer.content.decode())
    sent = full.invitations.get(email="eve@example.com")
    assert mia.post(at("withdraw", sent.pk)).status_code == 302
    sent.refresh_from_db()
    assert sent.revoked_at is not None
    refused = mia.post(at("members"), {**form, "email": BOB, "idempotency_key": "2"})
    assert "a member already" in refused.content.decode()


def test_the_last_manager_stays_and_members_change_nobody(
    full: Team, mia: Client, bob: Client
) -> None:
    own = full.memberships.get(user__username=MIA)
    for form in ({"act": "remove"}, {"role": "member"}):
        page = mia.post(at("change_member", own.pk), form, follow=True)
        assert "last manager" in page.content.decode()
        assert bob.post(at("change_member", own.pk), form).status_code == 403
    assert bob.post(at("members"), {"email": "x@example.com", "role": "manager"}).status_code == 403
    assert bob.post(paths(full)["withdraw"]).status_code == 403
    mia.post(paths(full)["change_member"], {"role": "manager"})
    assert full.memberships.filter(role="manager").count() == 2


def test_operators_change_and_remove_members_in_the_admin(full: Team) -> None:
    owner = browser(person("olga", roles.OWNER))
    own = full.memberships.get(user__username=MIA)
    base = f"/admin/teams/membership/{own.pk}"
    assert owner.post(f"{base}/change/", {"role": "member"}).status_code == 302
    assert AuditEntry.objects.filter(action="member.role").count() == 1
    assert owner.post(f"{base}/delete/", {"post": "yes"}).status_code == 302
    assert AuditEntry.objects.filter(action="member.remove").count() == 1
    assert not full.memberships.filter(user__username=MIA).exists()
    waiting = full.invitations.get(accepted_at=None)
    owner.post("/admin/teams/invitation/", {"action": "revoke", "_selected_action": [waiting.pk]})
    assert not full.invitations.filter(accepted_at=None, revoked_at=None).exists()
