"""Operators' commands: clear text, --json, and a non-zero exit on refusal."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from billing.models import Account, Entry
from saas_litellm import local_env
from saas_litellm.base import encryption
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Unauthenticated
from teams import credentials, keys
from teams.models import UnitPrice
from tests import factories
from tests.conftest import ROOT

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> Any:
    out = io.StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_from_nothing_to_a_team_with_credits_and_a_key() -> None:
    run("create_organization", "acme")
    run("create_team", "acme-corp", "--organization", "acme")
    text = run("issue_key", "acme-corp")["api_key"]
    assert keys.authenticate(text).team.slug == "acme-corp"
    again = ("topup", "acme-corp", "12.5", "--paid-usd", "1.25", "--idempotency-key", "invoice-1")
    assert run(*again)["balance_after"] == "12.5"
    assert run(*again)["balance_after"] == "12.5"
    assert Account.objects.get().balance_nanocredits == 12_500_000_000
    run("revoke_key", text.split("_")[1])
    with pytest.raises(Unauthenticated):
        keys.authenticate(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create_organization", "Not A Slug"),
        ("create_team", "x", "--organization", "nobody"),
        ("issue_key", "nobody"),
        ("revoke_key", "nobody"),
        ("topup", "alice", "-1"),
        ("topup", "alice", "0.0000000001"),
        ("topup", "alice", "many"),
    ],
)
def test_a_refusal_is_a_message_and_a_failure(arguments: tuple[str, ...]) -> None:
    factories.team(credits_=0)
    with pytest.raises(CommandError):
        call_command(*arguments)
    assert not Entry.objects.exists()


def test_prices_are_imported_once_and_shown_as_a_diff() -> None:
    first = run("import_prices", "--only", "openai/gpt-4o*")
    assert "openai/gpt-4o-mini" in first["added"]
    row = UnitPrice.objects.get(price_key="openai/gpt-4o-mini")
    # 0.15 and 0.60 USD per million tokens, in femto-USD per token.
    assert (row.rates["base"]["input"], row.rates["base"]["output"]) == (150_000_000, 600_000_000)
    second = run("import_prices", "--only", "openai/gpt-4o*")
    assert (second["added"], second["changed"]) == ([], [])


def test_a_price_of_your_own_is_set_per_million_tokens() -> None:
    run("set_price", "openai/own", "--input", "2.5", "--output", "10", "--cached-read", "0.25")
    rates = UnitPrice.objects.get().rates["base"]
    # 2.50 USD per million tokens is 2.5 × 10^-6 USD, 2.5 × 10^9 femto-USD, a token.
    assert rates == {"input": 2_500_000_000, "output": 10_000_000_000, "cached_read": 250_000_000}
    for wrong in ("-1", "nonsense", "0.0000000001"):
        with pytest.raises(CommandError):
            call_command("set_price", "openai/own", "--input", wrong, "--output", "1")


def test_verify_ledger_names_the_row_that_is_wrong() -> None:
    account = factories.ledger.account_of(factories.team())
    assert run("verify_ledger") == {"violations": []}
    Account.objects.update(balance_nanocredits=NANO)
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("verify_ledger", stdout=out)
    assert f"I1 account {account.pk}" in out.getvalue()


def test_credentials_move_to_the_newest_key(settings: Any) -> None:
    saved = credentials.save(name="main", api_key="sk-secret", actor="test")
    newest = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [newest, *settings.ENCRYPTION_KEYS]
    assert run("rotate_credentials")["count"] == 1
    settings.ENCRYPTION_KEYS = [newest]
    saved.refresh_from_db()
    assert credentials.reveal(saved) == "sk-secret"
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(encryption.Undecryptable):
        credentials.reveal(saved)


@pytest.mark.any_database
def test_an_empty_database_is_migrated_by_the_first_command(tmp_path: Path) -> None:
    """System checks run before the first table exists: none of them may ask the database."""
    url = f"sqlite:///{tmp_path}/fresh.sqlite3"
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.any_database
def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    away = {"DATABASE_URL": f"sqlite:///{tmp_path}/var/db.sqlite3"}
    done = manage("migrate", **away)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" in manage("migrate", "--traceback", **away).stderr
    done = manage("worker", **away)
    assert done.returncode == 1
    assert f"{tmp_path}/var is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.any_database
def test_a_signal_ends_a_command_before_it_has_begun(tmp_path: Path) -> None:
    """The first process of a container has no default handler: a signal that comes early is lost."""
    (tmp_path / "stopping.py").write_text("import os\nos.kill(os.getpid(), 15)\n")
    done = manage("worker", PYTHONPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="stopping")
    # Ended by itself: -15 would be the default handler's.
    assert (done.returncode, done.stderr) == (143, "")


def test_quickstart_shows_its_secrets_once() -> None:
    first, second = run("quickstart"), run("quickstart")
    assert keys.authenticate(first["api_key"]).team.slug == "acme-corp"
    assert first["password"]
    assert (second["api_key"], second["password"]) == (None, None)
    assert Account.objects.get().balance_nanocredits == 1000 * NANO


@pytest.mark.any_database
def test_a_port_that_is_taken_is_known_before_anything_is_begun() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not local_env.is_free("127.0.0.1", port)
        done = subprocess.run(
            [sys.executable, "-m", "saas_litellm.local_env", "127.0.0.1", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"PORT={port + 1} make run" in done.stderr
    assert local_env.is_free("127.0.0.1", port)


@pytest.mark.any_database
def test_the_local_secrets_are_written_once_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "var" / "local.env"
    assert local_env.write(file)
    written = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not local_env.write(file)
    assert file.read_text() == written
