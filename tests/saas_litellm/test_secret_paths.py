"""Links that open something by themselves are in no log, whoever writes it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from saas_litellm.secret_paths import SecretPaths, hidden
from tests import factories
from tests.conftest import wait_until
from tests.teams.test_members import invite, member
from tests.teams.test_roles import PASSWORD

pytestmark = pytest.mark.any_database
SECRET = "dG9rZW4tdGhhdC1pcy1zZWNyZXQtYW5kLWxvbmctZW5v"


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_served_process_logs_no_such_link(spawned: Any, tmp_path: Path, debug: str) -> None:
    team = factories.team()
    token = invite(team, "dora@example.com")
    out = tmp_path / "log"
    with out.open("wb") as log:
        served = spawned(log=log, DEBUG=debug, ALLOWED_HOSTS="127.0.0.1")
        with served.client() as http:
            invitation, reset = (
                f"/portal/invitations/{token}/",
                f"/portal/password-reset/MQ/{SECRET}/",
            )
            http.get(invitation)
            # Django itself warns of these two: not found or broken, and forbidden.
            http.get(invitation.replace(token, SECRET))
            http.post(invitation)
            http.get(reset)
            http.get("/portal/sign-in/", params={"next": invitation})
            twice = quote(f"/portal/sign-in/?next={quote(reset, safe='')}", safe="")
            http.get(f"/portal/sign-in/?next={twice}&to=there")
            http.get("/portal/%69nvitations/" + token + "/")
            http.get("/portal/%0aforged/")
            http.get("/portal/last/overview/")
        wait_until(lambda: "/portal/last/overview/" in out.read_text())
    written = out.read_text()
    assert token not in written
    assert SECRET not in written
    assert re.search(r"GET /portal/invitations/\[hidden\] \d{3} in \d+ ms", written)
    assert re.search(r"GET /portal/sign-in/ \d{3} in \d+ ms", written)
    assert "to=there" not in written
    assert "/portal/%0Aforged/ " in written
    assert not any(line.startswith("forged") for line in written.splitlines())
    assert re.search(r"Forbidden \(CSRF .+\): /portal/invitations/\[hidden\]", written)


def test_what_an_argument_only_says_when_written_is_hidden_too() -> None:
    error = ValueError(f"at /portal/invitations/{SECRET}/")
    record = logging.LogRecord("x", logging.INFO, "", 0, "broken: %s", (error,), None)
    assert SecretPaths().filter(record)
    assert record.getMessage() == "broken: at /portal/invitations/[hidden]"
    wrong = logging.LogRecord("x", logging.INFO, "", 0, "%d", ("x",), None)
    assert SecretPaths().filter(wrong)


@pytest.mark.parametrize(
    "path", ["/portal/", "/portal/invitations/", "/portal/alice/members/", "/api/jobs?x=/portal"]
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert hidden(path) == path


@pytest.mark.django_db
@pytest.mark.usefixtures("pages_served")
def test_a_failed_sign_in_keeps_no_link(client: Any) -> None:
    from axes.models import AccessAttempt

    mia = member(factories.team()).user
    path = f"/portal/invitations/{SECRET}/"
    form = {"username": mia.username, "password": f"not {PASSWORD}", "next": path}
    client.post(f"/portal/sign-in/?next={path}", form)
    kept = AccessAttempt.objects.get()
    assert SECRET not in f"{kept.get_data}{kept.post_data}{kept.path_info}"
