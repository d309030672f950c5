"""`manage.py doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from saas_litellm import worker
from saas_litellm.base import clock
from saas_litellm.base.models import Heartbeat, LedgerCheck
from saas_litellm.observing import doctor, state
from teams import credentials
from teams.models import ApiKey, ProviderCredential
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.teams.test_roles import person


@pytest.fixture
def sound(db: None, settings: Any) -> factories.Company:
    """A platform in order, as far as its rows go."""
    settings.DEBUG = True
    person("olga", "owner")
    company = factories.company()
    worker.sweep()
    LedgerCheck.objects.create(started_at=clock.now(), seconds=1, findings=0)
    return company


def found(about: str) -> list[tuple[str, str]]:
    return [(f.state, f"{f.says} {f.do}") for f in doctor.examine() if f.about == about]


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("doctor", *arguments, stdout=out)
    return out.getvalue()


def test_a_sound_platform_has_nothing_to_act_on(sound: factories.Company) -> None:
    text = said()
    assert "0 to act on" in text
    for about in (
        "database",
        "clock",
        "tables",
        "worker",
        "holds",
        "ledger",
        "prices",
        "operators",
    ):
        assert found(about)[0][0] == "ok", about


def test_each_finding_says_what_to_do(sound: factories.Company) -> None:
    for finding in doctor.examine():
        assert finding.state == "ok" or finding.do, finding


def test_an_empty_platform_is_a_check_list(db: None) -> None:
    with pytest.raises(CommandError, match="findings to act on"):
        said()
    assert "create_operator" in found("operators")[0][1]
    assert "Start it" in found("worker")[0][1] or "web process" in found("worker")[0][1]
    assert "create_team" in found("customers")[0][1]
    assert "Add a credential" in found("models")[0][1]
    assert "verify_ledger" in found("ledger")[0][1]


def test_a_worker_that_stopped_and_what_it_leaves_are_found(
    sound: factories.Company, forward: Any, settings: Any
) -> None:
    work.start(work.job(sound.team))
    forward(settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS + 3600)
    assert found("worker")[0][0] == "act"
    assert found("holds")[0][0] == "act"
    worker.sweep()
    assert found("worker")[0][0] == "ok"
    assert found("holds")[0][0] == "ok"


def test_a_credential_sealed_with_a_lost_key_is_named(sound: factories.Company) -> None:
    credentials.save(name="main", api_key="sk-of-nobody", actor="test")
    assert found("credentials")[0][0] == "ok"
    ProviderCredential.objects.filter(name="main").update(secret_ciphertext="gAAAA-of-another")
    (lost,) = found("credentials")
    assert lost[0] == "act"
    assert "main" in lost[1]


def test_models_without_price_credential_or_team_are_named(sound: factories.Company) -> None:
    factories.serve(sound.team, alias="dear", model="openai/of-unknown-price", sheet=None)
    (unpriced,) = found("prices")
    assert (unpriced[0], "openai/of-unknown-price" in unpriced[1]) == ("act", True)
    assert "openai/of-unknown-price" in found("credentials")[0][1]
    sound.alias.access_groups.clear()
    assert any("no team may use chat" in says for _, says in found("models"))


def test_a_credential_that_could_not_be_saved_today_is_named(
    sound: factories.Company, settings: Any
) -> None:
    credentials.save(
        name="own-model", api_key="sk-x", api_base="http://10.0.0.5:8000/v1", actor="test"
    )
    credentials.save(name="main", api_key="sk-x", actor="test")
    assert [state for state, _ in found("credentials")] == ["ok"]
    settings.PROVIDER_PRIVATE_ADDRESSES = False
    (private,) = [says for state, says in found("credentials") if state == "look"]
    assert "own-model" in private
    assert "main" not in private
    assert "PROVIDER_PRIVATE_ADDRESSES" in private


def test_a_team_with_a_key_that_may_call_nothing_is_named(sound: factories.Company) -> None:
    factories.team(name="keyless")
    assert [state for state, _ in found("customers")] == ["ok"]
    sound.team.access_groups.update(is_active=False)
    (_, idle) = found("customers")
    assert idle[0] == "look"
    assert "alice" in idle[1]
    assert "keyless" not in idle[1]
    sound.team.access_groups.clear()
    assert "access group" in found("customers")[1][1]
    ApiKey.objects.update(revoked_at=clock.now())
    assert "alice" not in str(found("customers"))


def test_a_ledger_with_findings_stops_the_selling(sound: factories.Company) -> None:
    LedgerCheck.objects.create(started_at=clock.now(), seconds=1, findings=2)
    (broken,) = found("ledger")
    assert broken[0] == "act"
    LedgerCheck.objects.create(started_at=clock.now() - timedelta(days=3), seconds=1, findings=0)
    assert found("ledger")[0][0] == "look"


def test_redis_away_is_told_and_the_rest_all_the_same(
    sound: factories.Company, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert found("redis")[0][0] == "act"
    assert found("customers")[0][0] == "ok"


def test_findings_are_read_by_programs(sound: factories.Company) -> None:
    answer = json.loads(said("--json"))
    assert {"about", "state", "says", "do"} == set(answer["findings"][0])


def test_a_database_that_is_away_ends_the_looking(
    sound: factories.Company, monkeypatch: Any
) -> None:
    def away(cursor: object) -> float:
        raise doctor.DatabaseError("away")

    monkeypatch.setattr(doctor, "_now_of", away)
    findings = doctor.examine()
    assert findings[-1].about == "database"
    assert "DATABASE_URL" in findings[-1].do


def test_each_round_of_the_worker_beats(db: None) -> None:
    assert state.worker_age_seconds() is None
    worker.sweep()
    worker.sweep()
    assert Heartbeat.objects.count() == 1
    assert state.worker_age_seconds() == pytest.approx(0, abs=5)


def test_missing_tables_are_all_that_is_told(sound: factories.Company, monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor.MigrationExecutor, "migration_plan", lambda *_: [1, 2])
    tables = doctor.examine()[-1]
    assert (tables.about, tables.state) == ("tables", "act")
    assert "migrate" in tables.do


def test_a_worker_is_alive_while_it_ends_rounds(
    transactional_db: None, tmp_path: Path, settings: Any
) -> None:
    file = tmp_path / "beat"
    with pytest.raises(CommandError, match="no round has ended"):
        call_command("worker", is_alive=file)
    command = [sys.executable, "manage.py", "worker", "--beat-file", str(file)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "DATABASE_URL": database_url()}
    )
    try:
        wait_until(file.exists, seconds=30)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    call_command("worker", is_alive=file)
    late = time.time() - 10 * settings.SWEEP_INTERVAL_SECONDS - 300
    os.utime(file, (late, late))
    with pytest.raises(CommandError, match="seconds ago"):
        call_command("worker", is_alive=file)
