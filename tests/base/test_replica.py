"""A replica is read by reports alone: whatever decides or writes goes to the primary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from jobs import profit
from saas_litellm.base import replica
from teams.models import Team
from tests import factories, work
from tests.conftest import ROOT, database_url

MARCH = (date(2026, 3, 1), date(2026, 4, 1))


@pytest.mark.django_db
def test_only_what_asks_for_it_reads_the_replica() -> None:
    router = replica.Router()
    with transaction.atomic(), replica.reading():
        assert router.db_for_read(Team) == "default"
    assert router.db_for_write(Team) == "default"
    assert router.allow_migrate("replica", "billing") is False


@pytest.mark.django_db(transaction=True)
def test_reading_ends_with_the_block() -> None:
    router = replica.Router()
    with replica.reading():
        with replica.reading():
            assert router.db_for_read(Team) == "replica"
        assert router.db_for_read(Team) == "replica"
        assert router.db_for_write(Team) == "default"
    assert router.db_for_read(Team) == "default"


def test_reports_come_from_the_replica_and_writes_go_to_the_primary(
    own_database: str, monkeypatch: Any
) -> None:
    """Two databases that differ, as a replica that is far behind would."""
    work.Clock(monkeypatch)
    team = factories.company().team
    job = work.job(team)
    work.call(job, prompt=4321)
    work.close(job)
    expected = profit.report(start=MARCH[0], end=MARCH[1]).total
    addresses = {
        "DATABASE_URL": database_url().removesuffix("_own"),
        "DATABASE_REPLICA_URL": database_url(),
    }
    told = manage(addresses, "profit", "--start", "2026-03-01", "--end", "2026-04-01", "--json")
    assert json.loads(told)["total"]["calls"] == expected.calls == 1
    manage(addresses, "create_organization", "primary-org")
    with psycopg.connect(addresses["DATABASE_URL"]) as primary:
        found = primary.execute("SELECT slug FROM teams_organization").fetchall()
        primary.execute("TRUNCATE teams_organization, base_auditentry CASCADE")
    assert found == [("primary-org",)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT slug FROM teams_organization")
        assert cursor.fetchall() == [("alice-org",)]


def manage(addresses: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **addresses},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
