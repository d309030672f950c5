"""The teams' own pages as somebody sees them who means ill, or types what nobody expects."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from billing import budgets
from billing.models import Budget
from jobs.models import Job
from saas_litellm.base.models import Alarm
from saas_litellm.portal import limits, own_keys
from teams import keys, roles
from teams.models import ApiKey, Invitation, Team, User
from tests import factories, portal, work
from tests.portal import BOB, MIA, at, text
from tests.teams.test_members import at_once, invite, member
from tests.teams.test_roles import PASSWORD, browser, person

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served", "sold_online", "fresh_cache"),
]
once_is_enough = pytest.mark.any_database
LINK = re.compile(r"/portal/invitations/[\w-]{43}")


@pytest.fixture
def alice(db: None) -> factories.Company:
    return portal.company()


@pytest.fixture
def full(alice: factories.Company) -> Team:
    return portal.filled(alice.team)


@pytest.fixture
def mia(alice: factories.Company) -> Client:
    """A manager."""
    return portal.signed_in(MIA)


# --- Invitations and accounts ------------------------------------------------------------------

INVITE = {"email": "eve@example.com", "role": "member", "idempotency_key": "1"}


@once_is_enough
def test_without_e_mail_a_manager_invites_nobody_and_gets_no_link(
    full: Team, mia: Client, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    before = Invitation.objects.count()
    page = mia.post(at("members"), INVITE, follow=True).content.decode()
    assert "Ask the operator to set EMAIL_URL up" in page
    assert not LINK.search(page)
    assert Invitation.objects.count() == before
    assert "No e-mail leaves" in Client().get("/portal/password-reset/").content.decode()


@once_is_enough
def test_an_invitation_whose_e_mail_fails_is_withdrawn_and_may_be_sent_again(
    full: Team, mia: Client, settings: Any
) -> None:
    working, settings.EMAIL_BACKEND = (
        settings.EMAIL_BACKEND,
        "django.core.mail.backends.smtp.EmailBackend",
    )
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    page = mia.post(at("members"), INVITE, follow=True).content.decode()
    assert "the invitation is withdrawn" in page
    assert not LINK.search(page)
    assert Invitation.objects.get(email="eve@example.com").revoked_at is not None
    assert Alarm.objects.get().kind == "mail.failed"
    settings.EMAIL_BACKEND = working
    # The very same form.
    assert mia.post(at("members"), INVITE).status_code == 302
    assert mail.outbox[-1].to == ["eve@example.com"]
    assert Invitation.objects.filter(email="eve@example.com", revoked_at=None).exists()


@once_is_enough
@pytest.mark.parametrize("form", [{"act": "remove"}, {"role": "member"}])
def test_who_manages_no_longer_leaves_no_way_back(
    full: Team, mia: Client, form: dict[str, str]
) -> None:
    zoe = member(full, "zoe@example.com")
    browser(zoe.user).post(at("members"), {**INVITE, "role": "manager"})
    mia.post(at("members"), {**INVITE, "email": "fay@example.com", "idempotency_key": "2"})
    mia.post(at("change_member", zoe.pk), form)
    waiting = Invitation.objects.filter(accepted_at=None, revoked_at=None)
    assert "eve@example.com" not in waiting.values_list("email", flat=True)
    assert waiting.filter(email="fay@example.com").exists()


@once_is_enough
def test_a_members_password_never_opens_the_admin(full: Team) -> None:
    owner = browser(person("olga", roles.OWNER))
    bob = User.objects.get(username=BOB)
    signed_in = browser(bob)
    path = f"/admin/teams/user/{bob.pk}/change/"
    fields = owner.get(path).context["adminform"].form.initial
    form = {
        "username": BOB,
        "email": fields["email"],
        "is_active": "on",
        "is_staff": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }
    page = owner.post(path, {**form, "_continue": "1"}, follow=True).content.decode()
    assert "has no password" in page
    bob.refresh_from_db()
    assert (bob.is_staff, bob.has_usable_password()) == (True, False)
    # The session that the old password began has ended as well.
    assert signed_in.get("/admin/").status_code == 302
    again = Client().post("/admin/login/", {"username": BOB, "password": PASSWORD})
    assert "That does not fit" in again.content.decode()
    # An operator's other changes leave the new password alone.
    bob.set_password("an operator's own password")
    bob.save()
    owner.post(path, {**form, "first_name": "Bob"})
    bob.refresh_from_db()
    assert bob.first_name == "Bob"
    assert bob.check_password("an operator's own password")


@once_is_enough
def test_a_second_reset_waits_however_the_address_is_spelt(alice: factories.Company) -> None:
    sam = member(alice.team, "sam@example.com").user.email
    # The long s is an s to whoever compares without case, and yet another letter in lower case.
    for email in ("\u017fam@example.com", "SAM@EXAMPLE.COM", " sam@example.com", sam):
        Client().post("/portal/password-reset/", {"email": email})
        assert [sent.to for sent in mail.outbox] == [[sam]]
    Client().post("/portal/password-reset/", {"email": BOB})
    assert mail.outbox[-1].to == [BOB]


@once_is_enough
def test_a_sign_in_begins_a_session_of_its_own(alice: factories.Company) -> None:
    client = Client()
    client.get("/portal/password-reset/MQ/set-password/")
    session = client.session
    session["planted"] = "x"
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = planted
    client.post("/portal/sign-in/", {"username": MIA, "password": PASSWORD})
    assert client.session.session_key != planted
    link = f"/portal/invitations/{invite(alice.team, 'dora@example.com')}/"
    before = Client()
    before.cookies["sessionid"] = planted
    before.post(link, {"password": PASSWORD, "again": PASSWORD})
    assert before.session.session_key not in {planted, None}


# --- Where a sign-in leads ---------------------------------------------------------------------


@once_is_enough
@pytest.mark.parametrize(
    "there",
    [
        "//evil.example/",
        "/\\evil.example/",
        "/a\\b",
        "http://testserver/portal/alice/jobs/",
        "https://evil.example/",
        "javascript:alert(1)",
        "portal:account",
        "/\tportal/",
        "/portal/sign-in/",
        "/portal/sign-in/?next=/portal/sign-in/",
        "",
    ],
)
def test_a_sign_in_leads_to_a_path_of_this_site_alone(
    alice: factories.Company, mia: Client, there: str
) -> None:
    form = {"username": MIA, "password": PASSWORD, "next": there}
    assert Client().post("/portal/sign-in/", form)["Location"] == "/portal/"
    # Somebody who is signed in already is sent on without a form.
    answer = mia.get("/portal/sign-in/", {"next": there})
    assert (answer.status_code, answer["Location"]) == (302, "/portal/")


@once_is_enough
def test_a_path_keeps_its_query(alice: factories.Company, mia: Client) -> None:
    there = "/portal/alice/jobs/?status=failed&first=2026-01-01"
    assert mia.get("/portal/sign-in/", {"next": there})["Location"] == there


# --- What nobody expects -----------------------------------------------------------------------


@once_is_enough
def test_a_jobs_metadata_may_be_named_like_anything(alice: factories.Company, mia: Client) -> None:
    odd = {"items": "four", "keys": 2, "<b>": ["x"]}
    job = work.job(alice.team, metadata=odd)
    # PostgreSQL keeps an order of its own.
    assert dict(mia.get(at("job", job.pk)).context["metadata"]) == odd
    page = text(mia, "job", job.pk)
    assert "<dt>items</dt><dd>four</dd>" in page
    assert "&lt;b&gt;" in page


@once_is_enough
@pytest.mark.parametrize("name", ["first", "last"])
@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "1999-12-31"])
def test_days_at_the_ends_of_the_calendar_are_told_on_the_form(
    full: Team, mia: Client, name: str, day: str
) -> None:
    page = mia.get(at("jobs"), {name: day})
    assert page.context["form"].errors[name] == ["That day lies too far away."]
    assert len(page.context["rows"]) == Job.objects.count()


def test_numbers_and_words_that_no_row_has_are_not_found(full: Team, mia: Client) -> None:
    huge = 10**30
    for page in ("receipt", "budget"):
        assert mia.get(at(page, huge)).status_code == 404, page
    for page in ("change_member", "withdraw"):
        assert mia.post(at(page, huge), {"act": "remove"}).status_code == 404, page
    for path in (at("overview"), at("receipts"), at("statement"), at("members"), at("keys")):
        assert mia.get(f"{path}?page={huge}&days={huge}&wallet=%00").status_code == 200, path
    for query in ("job_type=%00", "user_id=%00", "status=%00"):
        assert mia.get(f"{at('jobs')}?{query}").status_code == 200, query
    for path in ("invitations/%00/", "invitations/%ff/", "password-reset/%00/%00/"):
        assert Client().get(f"/portal/{path}").status_code in {200, 404}, path


# --- How many at a time ------------------------------------------------------------------------


@once_is_enough
def test_a_rotation_counts_while_the_old_key_goes_on(
    full: Team, mia: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr(own_keys, "MOST", 1)
    old = ApiKey.objects.get()
    refused = mia.post(at("rotate", old.prefix), {"overlap": "24", "idempotency_key": "1"})
    assert (refused.status_code, ApiKey.objects.count()) == (409, 1)
    done = mia.post(at("rotate", old.prefix), {"overlap": "0", "idempotency_key": "2"})
    assert (done.status_code, ApiKey.objects.count()) == (200, 2)


def _slowly(monkeypatch: Any, module: Any, *names: str) -> None:
    """Long enough after the counting that whoever does not wait counts too early."""
    for name in names:
        act = getattr(module, name)

        def later(*, act: Any = act, **given: Any) -> Any:
            time.sleep(0.5)
            return act(**given)

        monkeypatch.setattr(module, name, later)


def _post(page: str, form: dict[str, str], *args: Any) -> Any:
    def send() -> int:
        client = browser(User.objects.get(username=MIA))
        return client.post(at(page, *args), form).status_code

    return send


@pytest.mark.django_db(transaction=True)
def test_many_keys_asked_for_at_once_are_no_more_than_may_be(
    transactional_db: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(own_keys, "MOST", 3)
    _slowly(monkeypatch, keys, "issue", "rotate")
    team = portal.filled(portal.company().team)
    first = team.api_keys.get()
    forms = [{"name": "x", "idempotency_key": f"{number}"} for number in range(6)]
    rotation = {"overlap": "24", "idempotency_key": "r"}
    at_once(*[_post("keys", form) for form in forms], _post("rotate", rotation, first.prefix))
    assert team.api_keys.filter(revoked_at=None).count() == 3


@pytest.mark.django_db(transaction=True)
def test_many_budgets_set_at_once_are_no_more_than_may_be(
    transactional_db: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "MOST", 3)
    team = portal.filled(portal.company().team)
    _slowly(monkeypatch, budgets, "create", "change")
    stopped = team.budgets.get()
    Budget.objects.filter(pk=stopped.pk).update(is_active=False)
    forms = [{"period": "day", "limit": "1", "idempotency_key": f"{number}"} for number in range(6)]
    again = {"limit": "2", "is_active": "on"}
    at_once(*[_post("budgets", form) for form in forms], _post("budget", again, stopped.pk))
    assert team.budgets.filter(is_active=True, is_by_team=True).count() == 3


@once_is_enough
def test_one_forms_key_is_another_forms_too(full: Team, mia: Client) -> None:
    """A page's hidden key speaks of that page alone."""
    mia.post(at("budgets"), {"period": "week", "limit": "1", "idempotency_key": "same"})
    mia.post(at("keys"), {"name": "x", "idempotency_key": "same"})
    assert Budget.objects.filter(period="week").count() == 1
    assert ApiKey.objects.filter(name="x").count() == 1
