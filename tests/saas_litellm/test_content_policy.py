"""Pages run scripts of the platform's own files alone."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.teams.test_roles import person

pytestmark = pytest.mark.any_database


def policy(client: Client, path: str) -> dict[str, list[str]]:
    header = client.get(path).headers["Content-Security-Policy"]
    return {name: sources for name, *sources in (part.split() for part in header.split(";"))}


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/docs", "/redoc", "/nothing/here"])
def test_no_page_runs_an_inline_script_or_one_from_elsewhere(
    db: None, pages_served: None, client: Client, path: str
) -> None:
    client.force_login(person("olivia", "owner"))
    found = policy(client, path)
    assert found["default-src"] == ["'none'"]
    assert set(found["script-src"]) <= {"'self'", "'unsafe-eval'"}
    assert found["frame-ancestors"] == ["'none'"]


def test_only_the_theme_may_evaluate(db: None, pages_served: None, client: Client) -> None:
    assert "'unsafe-eval'" in policy(client, "/admin/login/")["script-src"]
    assert "'unsafe-eval'" not in policy(client, "/docs")["script-src"]
    assert policy(client, "/nothing/here")["style-src"] == ["'self'"]
