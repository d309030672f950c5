"""Signing in: throttled, with a second factor, for a time, and audited."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Unauthenticated
from teams import operators, roles, second_factor, staff
from teams.models import User
from tests.conftest import Live
from tests.teams.test_roles import PASSWORD, browser, person

pytestmark = pytest.mark.any_database
LOGIN = "/admin/login/"
PAGE = "/admin/second-factor/"


@pytest.fixture
def olga(db: None, pages_served: None) -> User:
    return person("olga", roles.OWNER)


def sign_in(
    name: str = "olga",
    password: str = PASSWORD,
    code: str = "",
    *,
    client: Client | None = None,
    **extra: Any,
) -> Any:
    """The answer to the form; ``.client`` is the browser that sent it."""
    form = {"username": name, "password": password, "code": code, "next": "/admin/"}
    return (client or Client()).post(LOGIN, form, **extra)


def said(page: Any) -> str:
    return " ".join(page.context["form"].non_field_errors())


def actions(*names: str) -> list[tuple[str, str, str]]:
    rows = AuditEntry.objects.filter(action__startswith="sign").order_by("id")
    return [(row.actor, row.action, row.target) for row in rows]


# --- Passwords and throttling ----------------------------------------------------------------


def test_signing_in_and_out_is_audited(olga: User) -> None:
    answer = sign_in()
    assert answer.status_code == 302
    assert answer.client.get("/admin/").status_code == 200
    answer.client.post("/admin/logout/")
    assert answer.client.get("/admin/").status_code == 302
    sign_in(password="wrong")
    assert actions() == [
        ("user:olga", "sign_in", "user:olga"),
        ("user:olga", "sign_out", "user:olga"),
        ("nobody", "sign_in.failed", "user:olga"),
    ]
    assert set(AuditEntry.objects.values_list("address", flat=True)) == {None, "127.0.0.1"}


def test_a_refusal_does_not_tell_who_exists(olga: User) -> None:
    User.objects.create_user("carl", password=PASSWORD)
    person("ida", "viewer")
    User.objects.filter(username="ida").update(is_active=False)
    texts = {
        said(sign_in(*who))
        for who in (
            ("olga", "wrong"),
            ("nobody", PASSWORD),
            ("carl", PASSWORD),
            ("carl", "wrong"),
            ("ida", PASSWORD),
        )
    }
    assert len(texts) == 1
    assert "That does not fit" in texts.pop()


def test_a_password_typed_as_a_name_is_not_kept(olga: User) -> None:
    sign_in(PASSWORD, "")
    sign_in(PASSWORD, "olga")
    assert PASSWORD not in " ".join(map(str, AuditEntry.objects.values_list()))


@pytest.mark.parametrize("name", ["olga", "nobody", "carl"])
def test_guessing_is_throttled_by_name_and_address(olga: User, name: str) -> None:
    User.objects.create_user("carl", password=PASSWORD)
    # Carl's password is right, and he may not sign in here: that counts as well, or it would tell.
    guess = PASSWORD if name == "carl" else "wrong"
    for _ in range(4):
        assert "That does not fit" in said(sign_in(name, guess))
    for _ in range(3):
        assert "Wait 15 minutes" in said(sign_in(name, guess))
    assert "Wait 15 minutes" in said(sign_in(name, PASSWORD))
    assert AuditEntry.objects.filter(action="sign_in.locked_out").count() == 1
    assert AuditEntry.objects.filter(action="sign_in.failed").count() in {4, 5}
    if name == "olga":
        elsewhere = sign_in(REMOTE_ADDR="10.9.9.9")
        assert elsewhere.status_code == 302
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert ("Wait" in said(sign_in(name, "wrong"))) is False


def test_the_wait_ends_by_itself_or_by_an_owners_command(olga: User) -> None:
    for _ in range(6):
        sign_in(password="wrong")
    assert sign_in().status_code == 200
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert sign_in().status_code == 302
    for _ in range(6):
        sign_in(password="wrong")
    call_command("axes_reset_username", "olga")
    assert sign_in().status_code == 302


def test_behind_a_proxy_the_clients_address_counts(olga: User, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    for number in range(6):
        # What a client writes itself stands left of what the proxy adds.
        sign_in(password="wrong", HTTP_X_FORWARDED_FOR=f"1.1.1.{number}, 6.6.6.6")
    assert "Wait" in said(sign_in(HTTP_X_FORWARDED_FOR="6.6.6.6"))
    assert sign_in(HTTP_X_FORWARDED_FOR="7.7.7.7").status_code == 302


def test_nothing_secret_is_kept_with_failed_attempts(olga: User) -> None:
    sign_in(password="a wrong guess", code="123456")
    kept = str(list(AccessAttempt.objects.values()))
    assert "a wrong guess" not in kept
    assert "123456" not in kept


@pytest.mark.parametrize("password", ["short", "123456789012345", "password1234", "olga-olga-olga"])
def test_a_weak_password_is_refused(olga: User, password: str) -> None:
    with pytest.raises(ValidationError):
        staff.create(username="olga-olga", role="viewer", actor="test", password=password)


def test_changing_ones_password_is_audited(olga: User) -> None:
    client, new = browser(olga), "an entirely new password"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post("/admin/password_change/", form).status_code == 302
    assert AuditEntry.objects.filter(action="user.password", target="user:olga").count() == 1


# --- How long a session lasts ------------------------------------------------------------------


def test_an_idle_session_ends(olga: User, forward: Any) -> None:
    client = sign_in().client
    for _ in range(3):
        forward(3000)
        assert client.get("/admin/").status_code == 200
    forward(3601)
    ended = client.get("/admin/teams/team/?q=x")
    assert ended.url == "/admin/login/?next=%2Fadmin%2Fteams%2Fteam%2F%3Fq%3Dx"
    assert "Your session ended" in client.get(ended.url).content.decode()


def test_a_busy_session_ends_too(olga: User, forward: Any) -> None:
    client = sign_in().client
    for _ in range(13):
        forward(3500)
        answer = client.get("/admin/")
    assert answer.status_code == 302


def test_a_page_does_not_write_the_session_each_time(
    olga: User, django_assert_num_queries: Any, forward: Any
) -> None:
    client = sign_in().client
    before = client.session["seen_at"]
    client.get("/admin/")
    assert client.session["seen_at"] == before
    forward(61)
    client.get("/admin/")
    assert client.session["seen_at"] > before


# --- The second factor -------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: Any) -> Callable[[float], None]:
    """django-otp's idea of the time, moved on by hand; throttles end with it."""
    ahead = [0.0]
    real, now = time.time, timezone.now
    monkeypatch.setattr("django_otp.plugins.otp_totp.models.time.time", lambda: real() + ahead[0])
    monkeypatch.setattr(
        "django_otp.models.timezone.now", lambda: now() + timedelta(seconds=ahead[0])
    )

    def forward(seconds: float) -> None:
        ahead[0] += seconds

    return forward


def code_of(user: User) -> str:
    device = TOTPDevice.objects.get(user=user)
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    totp.time = time.time()
    return f"{totp.token():06d}"


def enrol(user: User, client: Client | None = None) -> tuple[Client, list[str]]:
    client = client or sign_in(user.username).client
    client.post(PAGE, {"act": "begin", "password": PASSWORD})
    page = client.post(PAGE, {"act": "confirm", "code": code_of(user)})
    return client, page.context["codes"]


def test_enrolling_shows_the_secret_once_and_signing_in_then_asks_for_a_code(
    olga: User, clock: Any
) -> None:
    client = sign_in().client
    shown = client.post(PAGE, {"act": "begin", "password": PASSWORD})
    secret = shown.context["secret"]
    text = shown.content.decode()
    assert secret in text
    assert re.search(r'<svg[^>]*class="segno"', text)
    assert shown.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    # Not yet in force, and not shown again.
    assert sign_in().status_code == 302
    again = client.post(PAGE, {"act": "confirm", "code": "000000"})
    assert secret not in again.content.decode()
    assert not second_factor.is_enrolled(olga)
    clock(60)
    done = client.post(PAGE, {"act": "confirm", "code": code_of(olga)})
    assert len(done.context["codes"]) == 10
    assert secret not in client.get(PAGE).content.decode()
    clock(60)
    assert "That does not fit" in said(sign_in())
    assert "That does not fit" in said(sign_in(code="000000"))
    clock(60)
    assert sign_in(code=code_of(olga)).status_code == 302
    assert AuditEntry.objects.get(action="second_factor.enrol").actor == "user:olga"
    last = AuditEntry.objects.filter(action="sign_in").latest("id")
    assert last.detail == {"second_factor": "authenticator"}


def test_other_sessions_of_whoever_enrols_end(olga: User) -> None:
    other = sign_in().client
    client, _ = enrol(olga)
    assert client.get("/admin/").status_code == 200
    ended = other.get("/admin/")
    assert ended.url.startswith(LOGIN)
    assert "code of your second factor" in other.get(ended.url).content.decode()


def test_a_code_works_once(olga: User, clock: Any) -> None:
    enrol(olga)
    clock(60)
    code = code_of(olga)
    assert sign_in(code=code).status_code == 302
    clock(5)
    assert "That does not fit" in said(sign_in(code=code))


def test_wrong_codes_are_throttled_even_with_the_right_password(olga: User, clock: Any) -> None:
    enrol(olga)
    clock(60)
    sign_in(code="000000")
    # Too soon after a wrong one, even the right one is not looked at.
    assert "That does not fit" in said(sign_in(code=code_of(olga)))
    clock(60)
    for _ in range(3):
        sign_in(code="000000")
    clock(3600)
    assert "Wait 15 minutes" in said(sign_in(code=code_of(olga)))


def test_a_backup_code_works_once(olga: User, clock: Any) -> None:
    _, codes = enrol(olga)
    written = f" {codes[0][:4].upper()} {codes[0][4:]} "
    assert sign_in(code=written).status_code == 302
    assert second_factor.codes_left(olga) == 9
    assert "That does not fit" in said(sign_in(code=codes[0]))
    clock(60)
    assert sign_in(code=codes[1]).client.get("/admin/").status_code == 200
    # And a wrong backup code does not stand in the way of the app's.
    sign_in(code="zzzzzzzz")
    clock(60)
    assert sign_in(code=code_of(olga)).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_one_code_sent_twice_at_once_works_once(pages_served: None) -> None:
    olga = person("olga", roles.OWNER)
    second_factor.begin(user=olga)
    TOTPDevice.objects.update(confirmed=True)
    code, gate, found = code_of(olga), threading.Barrier(2), []

    def use() -> None:
        gate.wait()
        found.append(second_factor.verify(user=olga, code=code) is not None)
        connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, True]


def test_an_open_session_alone_changes_no_factor(olga: User, clock: Any) -> None:
    client = sign_in().client
    client.post(PAGE, {"act": "begin", "password": "wrong"})
    assert not TOTPDevice.objects.exists()
    enrol(olga, client)
    clock(60)
    before = set(TOTPDevice.objects.values_list("key", flat=True))
    for act in ("begin", "codes", "remove"):
        page = client.post(PAGE, {"act": act, "code": "000000", "password": PASSWORD})
        assert "That code does not fit" in page.content.decode(), act
        clock(600)
    assert set(TOTPDevice.objects.values_list("key", flat=True)) == before
    assert second_factor.codes_left(olga) == 10
    page = client.post(PAGE, {"act": "remove", "code": code_of(olga)})
    assert page.status_code == 302
    assert not second_factor.is_enrolled(olga)
    assert sign_in().status_code == 302


def test_another_app_takes_the_place_of_the_first(olga: User, clock: Any) -> None:
    client, _ = enrol(olga)
    clock(60)
    first = TOTPDevice.objects.get()
    client.post(PAGE, {"act": "begin", "code": code_of(olga)})
    assert TOTPDevice.objects.count() == 2, "the first is in force until the second is confirmed"
    pending = TOTPDevice.objects.get(confirmed=False)
    totp = TOTP(pending.bin_key)
    totp.time = time.time()
    client.post(PAGE, {"act": "confirm", "code": f"{totp.token():06d}"})
    assert TOTPDevice.objects.get().pk == pending.pk != first.pk
    assert client.get("/admin/").status_code == 200


def test_where_it_is_compulsory_no_page_opens_before(olga: User, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    client = sign_in().client
    for path in ("/admin/", "/admin/teams/team/", "/admin/password_change/", "/docs"):
        assert client.get(path).url == PAGE, path
    assert "compulsory" in client.get(PAGE).content.decode()
    enrol(olga, client)
    assert client.get("/admin/").status_code == 200


def test_an_owner_resets_anothers_factor_and_it_is_audited(olga: User) -> None:
    vera = person("vera", "viewer")
    enrol(vera)
    enrol(olga)
    client = browser(olga)
    chosen = {"action": "reset_second_factor", "_selected_action": [vera.pk, olga.pk]}
    client.logout()
    client = browser_with_factor(olga)
    client.post("/admin/teams/user/", chosen)
    assert not second_factor.is_enrolled(vera)
    assert second_factor.is_enrolled(olga), "one's own takes a code"
    reset = AuditEntry.objects.get(action="second_factor.reset")
    assert (reset.actor, reset.target) == ("user:olga", "user:vera")
    call_command("reset_second_factor", "olga", "--reason", "phone lost")
    assert sign_in().status_code == 302
    assert AuditEntry.objects.filter(reason="phone lost").count() == 1


def browser_with_factor(user: User) -> Client:
    client = browser(user)
    session = client.session
    session["otp_device_id"] = TOTPDevice.objects.get(user=user).persistent_id
    session.save()
    return client


def test_the_pages_of_django_otp_and_axes_are_not_in_the_admin(olga: User) -> None:
    for name in ("otp_totp/totpdevice", "otp_static/staticdevice", "axes/accessattempt"):
        assert browser(olga).get(f"/admin/{name}/").status_code == 404


# --- The same session on the operator API --------------------------------------------------------


def test_a_session_on_the_api_needs_what_it_needs_on_pages(
    olga: User, forward: Any, settings: Any
) -> None:
    client = sign_in().client
    key = client.cookies[configured.SESSION_COOKIE_NAME].value
    assert operators.of_session(key).user == olga
    settings.REQUIRE_SECOND_FACTOR = True
    with pytest.raises(Unauthenticated, match="Set up a second factor"):
        operators.of_session(key)
    settings.REQUIRE_SECOND_FACTOR = False
    other, _ = enrol(olga)
    with pytest.raises(Unauthenticated, match="with the code"):
        operators.of_session(key)
    key = other.cookies[configured.SESSION_COOKIE_NAME].value
    assert operators.of_session(key).user == olga
    forward(3601)
    with pytest.raises(Unauthenticated, match="has ended"):
        operators.of_session(key)


@pytest.mark.parametrize("is_verified", [True, False])
def test_the_cookie_opens_the_api_only_with_the_factor(
    live: Live, pages_served: None, is_verified: bool
) -> None:
    olga = person("olga", roles.OWNER)
    before = sign_in().client
    after, _ = enrol(olga)
    cookie = (after if is_verified else before).cookies[configured.SESSION_COOKIE_NAME].value
    with live.client({"Cookie": f"{configured.SESSION_COOKIE_NAME}={cookie}"}) as client:
        answer = client.get("/api/reports/profit")
    assert answer.status_code == (200 if is_verified else 401)
