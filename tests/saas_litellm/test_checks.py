"""Each numbered check fires on what it names, and is silent otherwise."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Tags, run_checks

from saas_litellm import checks
from tests.conftest import ROOT

pytestmark = pytest.mark.any_database


def ids(check: Callable[..., Any]) -> set[str]:
    return {message.id.removeprefix("saas.") for message in check()}


@pytest.mark.parametrize(
    ("check", "wrong", "expected"),
    [
        (checks.check_branch, {"EMBEDDED": True}, {"I001"}),
        (checks.check_branch, {"EMBEDDED": False}, {"I002"}),
        (checks.check_secrets, {"SECRET_KEY": "short"}, {"E001"}),
        (checks.check_secrets, {"API_KEY_PEPPER": ""}, {"E002"}),
        (checks.check_secrets, {"ENCRYPTION_KEYS": []}, {"E003"}),
        (checks.check_secrets, {"ENCRYPTION_KEYS": ["nonsense"]}, {"E003"}),
        (checks.check_secrets, {}, set()),
        (checks.check_open_demo, {"SAAS_OPEN_DEMO": True, "DEBUG": False}, {"E004"}),
        (checks.check_open_demo, {"SAAS_OPEN_DEMO": True, "DEBUG": True}, set()),
        (
            checks.check_processes,
            {"EMBEDDED": True, "WEB_PROCESSES": 2, "REDIS_URL": "redis://x"},
            {"E005"},
        ),
        (
            checks.check_processes,
            {"EMBEDDED": True, "WEB_PROCESSES": 2, "REDIS_URL": ""},
            {"E005", "E006"},
        ),
        (checks.check_processes, {"EMBEDDED": False, "REDIS_URL": ""}, {"W007"}),
        (checks.check_processes, {"EMBEDDED": False, "REDIS_URL": "redis://x"}, set()),
        (checks.check_threads, {"EMBEDDED": False, "DATABASE_THREADS": 99}, {"E008"}),
        (checks.check_threads, {"EMBEDDED": False}, set()),
        (checks.check_sqlite_version, {}, set()),
        (
            checks.check_replica,
            {"EMBEDDED": True, "DATABASE_REPLICA_URL": "postgres://replica/saas"},
            {"E025"},
        ),
        (checks.check_times, {"HOLD_GRACE_SECONDS": 1}, {"E010"}),
        (checks.check_times, {}, set()),
        (checks.check_sign_in, {"TRUSTED_PROXY_COUNT": -1}, {"E013"}),
        (checks.check_sign_in, {"SESSION_IDLE_SECONDS": 0}, {"E014"}),
        (checks.check_sign_in, {"AXES_FAILURE_LIMIT": 0}, {"E014"}),
        (checks.check_sign_in, {}, set()),
        (checks.check_payments, {"STRIPE_SECRET_KEY": "sk_test_x"}, {"E021"}),
        (checks.check_payments, {"STRIPE_WEBHOOK_SECRET": "whsec_x"}, {"E021"}),
        (
            checks.check_payments,
            {
                "STRIPE_SECRET_KEY": "rk_live_x",
                "STRIPE_WEBHOOK_SECRET": "whsec_x",
                "STRIPE_API_BASE": "http://127.0.0.1:1",
            },
            {"E022"},
        ),
        (checks.check_payments, {}, set()),
        (checks.check_public_url, {"PUBLIC_URL": "http://localhost:8003"}, {"W016"}),
        (checks.check_public_url, {"PUBLIC_URL": "https://llm.example.com"}, set()),
        (
            checks.check_alerts,
            {
                "ALERT_EMAILS": ["ops@example.com"],
                "EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend",
            },
            {"W020"},
        ),
        (checks.check_alerts, {"ALERT_EMAILS": ["ops@example.com"]}, set()),
        (checks.check_webhooks, {"WEBHOOK_CONCURRENCY": 0}, {"E023"}),
        (checks.check_webhooks, {"EVENT_RETENTION_DAYS": 7}, {"E023"}),
        (checks.check_webhooks, {}, set()),
        (checks.check_database_for_deployment, {"EMBEDDED": True, "DEBUG": False}, {"W011"}),
        (checks.check_database_for_deployment, {"EMBEDDED": False, "DEBUG": False}, set()),
    ],
)
def test_check(check: Any, wrong: dict[str, Any], expected: set[str], settings: Any) -> None:
    for name, value in wrong.items():
        setattr(settings, name, value)
    assert ids(check) == expected


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.EMBEDDED = True
    monkeypatch.setattr(checks.sqlite3, "sqlite_version_info", (3, 34, 0))
    assert ids(checks.check_sqlite_version) == {"E009"}


def test_a_folder_that_is_not_there_is_named(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.EMBEDDED = True
    database = settings.DATABASES["default"]
    monkeypatch.setitem(database, "NAME", str(tmp_path / "db.sqlite3"))
    assert ids(checks.check_folder) == set()
    monkeypatch.setitem(database, "NAME", str(tmp_path / "var/db.sqlite3"))
    assert ids(checks.check_folder) == {"E024"}
    assert str(tmp_path / "var") in checks.refusal_to_serve()
    settings.EMBEDDED = False
    assert ids(checks.check_folder) == set()


def test_what_runs_is_said_to_whoever_asks_alone() -> None:
    said = {message.id for message in run_checks(tags=[Tags.security])}
    assert not said & {"saas.I001", "saas.I002"}
    said = {message.id for message in run_checks(include_deployment_checks=True)}
    assert said & {"saas.I001", "saas.I002"}


def test_static_files_that_nobody_collected_are_said(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    assert ids(checks.check_static_files) == {"W026"}
    (tmp_path / "staticfiles.json").touch()
    assert ids(checks.check_static_files) == set()


def test_what_lacks_without_being_refused_is_a_line_each(settings: Any, tmp_path: Path) -> None:
    settings.EMBEDDED, settings.REDIS_URL, settings.ALLOWED_HOSTS = False, "", []
    settings.STATIC_ROOT = tmp_path
    said = checks.doubts()
    for variable in ("REDIS_URL", "ALLOWED_HOSTS", "collectstatic"):
        assert [variable in line for line in said].count(True) == 1
    assert all("\n" not in line for line in said)


@pytest.mark.parametrize(
    "command",
    [["manage.py", "worker"], ["manage.py", "migrate"], ["-m", "uvicorn", "saas_litellm.asgi:x"]],
)
def test_nothing_starts_without_its_secrets(command: list[str], tmp_path: Path) -> None:
    without = {"SECRET_KEY": "", "API_KEY_PEPPER": "", "ENCRYPTION_KEYS": ""}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **without, "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    with sqlite3.connect(tmp_path / "db.sqlite3") as left:
        assert left.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_serving_is_refused_with_the_reason(settings: Any) -> None:
    assert checks.refusal_to_serve() == ""
    settings.API_KEY_PEPPER = ""
    assert "API_KEY_PEPPER" in checks.refusal_to_serve()
