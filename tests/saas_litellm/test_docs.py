"""The documents say what the code does: settings, checks, and the README's own programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from saas_litellm import quickstart, verification
from teams import operators
from teams.models import User
from tests.conftest import ROOT, Live

pytestmark = pytest.mark.any_database

SELLING = (ROOT / "docs/selling.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
STORIES = dict(re.findall(r"```(\w+) story\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
RUNNERS = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable], "javascript": ["node"]}


def test_every_variable_is_documented() -> None:
    source = (ROOT / "saas_litellm/settings.py").read_text()
    named = set(re.findall(r'env\.\w+\(\s*"(\w+)"', source))
    assert {name for name in named if f"`{name}`" not in SETTINGS} == set()
    assert len(named) > 25


def test_every_system_check_is_documented() -> None:
    source = (ROOT / "saas_litellm/checks.py").read_text()
    ids = {f"saas.{number}" for number in re.findall(r"\b([IWE]0\d\d)\b", source)}
    assert {check for check in ids if f"`{check}`" not in SETTINGS} == set()


@pytest.mark.parametrize("language", RUNNERS)
@pytest.mark.parametrize("is_keyless", [True, False])
def test_the_readme_story_runs(
    spawned: Any, tmp_path: Path, language: str, is_keyless: bool
) -> None:
    for tool in ("jq", "node"):
        if shutil.which(tool) is None:
            assert os.environ.get("CI") != "true", f"{tool} is missing"
            pytest.skip(f"NOT RUN: {tool} is missing")
    shown = quickstart.set_up()
    server: Live = spawned(DEBUG="1", SAAS_OPEN_DEMO="1" if is_keyless else "0")
    script = tmp_path / {"javascript": "story.mjs"}.get(language, "story")
    script.write_text(STORIES[language])
    environment = {**os.environ, "BASE_URL": server.url}
    if not is_keyless:
        environment["SAAS_API_KEY"] = str(shown.api_key)
    done = subprocess.run(
        [*RUNNERS[language], str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "built-in demo model" in done.stdout
    last = done.stdout.strip().splitlines()[-1].replace("'", '"')
    assert json.loads(last) == {"cost_usd": 0.1, "credits_remaining": 999}
    assert verification.verify() == []


def test_the_selling_guide_runs(spawned: Any, tmp_path: Path) -> None:
    quickstart.set_up()
    key = operators.issue(user=User.objects.get(username=quickstart.OWNER), actor="test")[1]
    server: Live = spawned(DEBUG="1", SAAS_OPEN_DEMO="1")
    (story,) = re.findall(r"```bash story\n(.*?)```", SELLING, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", story],
        env={**os.environ, "BASE_URL": server.url, "OPERATOR_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        '{"slug":"gold"}',
        '{"plan":"gold","version":1,"state":"draft"}',
        '{"jobs":0,"difference_usd":0}',
        '{"state":"active"}',
        '{"plan":"gold","team_id":"acme-corp"}',
        '{"credits":500,"balance":1500}',
        '{"period":"day","limit":100}',
        '{"thresholds":[50]}',
        "0",
    ]
    assert verification.verify() == []


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert {name for name in commands if f"`{name}`" not in readme} == set()
    assert len(commands) > 25


def test_the_schema_is_valid_and_has_every_endpoint(client: Any) -> None:
    schema = json.loads(client.get("/openapi.json").content)
    validate(schema)
    assert schema["components"]["securitySchemes"] == {
        "teamKey": {"type": "http", "scheme": "bearer"},
        "operatorKey": {"type": "http", "scheme": "bearer"},
    }
    from billing.urls import urlpatterns as of_billing
    from jobs.urls import urlpatterns as of_jobs
    from jobs.v1_urls import urlpatterns as of_clients

    assert len(schema["paths"]) == len(of_jobs) + len(of_billing) + len(of_clients)
    amount = schema["components"]["schemas"]["CallCosts"]["properties"]["credits"]
    assert amount["type"] == "number"
    stream = schema["paths"]["/api/jobs/{job_id}/llm-call-stream"]["post"]
    assert "text/event-stream" in stream["responses"]["200"]["content"]


def test_the_caching_guide_runs(spawned: Any) -> None:
    quickstart.set_up()
    server: Live = spawned(DEBUG="1", SAAS_OPEN_DEMO="1")
    guide = (ROOT / "docs/caching.md").read_text()
    (story,) = re.findall(r"```bash story\n(.*?)```", guide, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", story],
        env={**os.environ, "BASE_URL": server.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.stdout.split()) == ("", ["false", "true"])
