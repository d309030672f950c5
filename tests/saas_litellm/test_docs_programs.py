"""What the documents tell people to run does run, and says what they say it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.core.management import get_commands, load_command_class
from django.db import connection

from saas_litellm import quickstart, verification
from teams import operators
from teams.models import User
from tests import documents, factories, work
from tests.clients import programs
from tests.conftest import ROOT, Live, database_url
from tests.documents import Block

RUNNERS = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable], "javascript": ["node"]}
# Those whose last line has figures that a test of their own looks at.
WHOLE_JOBS = [
    ("README.md", "bash"),
    *(("docs/integrating.md", one) for one in RUNNERS if one != "bash"),
]
BLOCKS = list(documents.blocks())
STORIES = sorted({(b.page, b.language) for b in BLOCKS if b.role == "story"} - set(WHOLE_JOBS))
TALKS = sorted({block.page for block in BLOCKS if block.role.startswith("POST ")})
# Strings of an answer that are the same each time; others (ids, times, what a model said) are not.
FIXED = {"code", "type", "param", "status", "message", "team_id", "job_type", "purpose", "model"}
any_database = pytest.mark.any_database


@any_database
def test_every_block_is_checked_or_says_why_not() -> None:
    roles = {"story", "commands", *documents.REASONS}
    roles |= {"story-postgresql", "story-sqlite"}
    by_language = {
        "bash": re.compile("|".join(sorted(roles))),
        # A program that receives is run by the tests of webhooks.
        "python": re.compile("story|story-receiver"),
        "javascript": re.compile("story"),
        "json": re.compile(r"POST /\S+|answer \d{3}"),
    }
    unchecked = [
        (block.page, block.language, block.role)
        for block in BLOCKS
        if block.language in documents.CHECKED
        and not by_language[block.language].fullmatch(block.role)
    ]
    assert unchecked == []
    assert len(STORIES) > 5
    assert len(TALKS) > 2


@any_database
@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.language == "bash" and not b.role.startswith("story")],
    ids=lambda block: block.page,
)
def test_every_command_line_names_what_there_is(block: Block) -> None:
    lines = block.text.replace("\\\n", " ").splitlines()
    makefile = (ROOT / "Makefile").read_text()
    for line in lines:
        if found := re.search(r"(?:^|[\s/])manage\.py (.+)$", line):
            name, *arguments = shlex.split(found[1], comments=True)
            command = load_command_class(str(get_commands()[name]), name)
            command.create_parser("manage.py", name).parse_args(arguments)
        elif found := re.match(r"(?:\w+=\S+ )*make ([\w-]+)", line):
            assert re.search(rf"^{found[1]}:", makefile, re.MULTILINE), line
        else:
            assert block.role != "commands", line


@pytest.fixture
def shell(live: Live, tmp_path: Path) -> dict[str, str]:
    """The environment of a reader: a local platform, a team's key, an operator's."""
    _require("jq", "node")
    shown = quickstart.set_up()
    key = operators.issue(user=User.objects.get(username=quickstart.OWNER), actor="test")[1]
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BASE_URL": live.url,
        "SAAS_API_KEY": str(shown.api_key),
        "OPERATOR_KEY": key,
    }


@any_database
@pytest.mark.parametrize(("page", "language"), STORIES)
def test_a_story_runs_and_prints_what_the_page_says(
    shell: dict[str, str], tmp_path: Path, page: str, language: str
) -> None:
    text, outputs = documents.program(page, language)
    said = run(text, language, shell, tmp_path)
    for output in outputs:
        assert output in said
        said = said.partition(output)[2]
    assert verification.verify() == []


@any_database
@pytest.mark.parametrize(("page", "language"), WHOLE_JOBS)
@pytest.mark.parametrize("is_keyless", [True, False])
def test_a_whole_job_runs(
    spawned: Any, tmp_path: Path, page: str, language: str, is_keyless: bool
) -> None:
    _require("jq", "node")
    shown = quickstart.set_up()
    server: Live = spawned(DEBUG="1", SAAS_OPEN_DEMO="1" if is_keyless else "0")
    environment = {**os.environ, "BASE_URL": server.url}
    if not is_keyless:
        environment["SAAS_API_KEY"] = str(shown.api_key)
    said = run(documents.program(page, language)[0], language, environment, tmp_path)
    assert "built-in demo model" in said
    last = said.strip().splitlines()[-1].replace("'", '"')
    assert json.loads(last) == {"cost_usd": 0.1, "credits_remaining": 999}
    assert verification.verify() == []


@any_database
@pytest.mark.parametrize("page", TALKS)
def test_requests_are_answered_in_the_shape_that_the_page_shows(
    shell: dict[str, str], page: str
) -> None:
    talk = [block for block in BLOCKS if block.page == page and block.language == "json"]
    headers = {"Authorization": f"Bearer {shell['SAAS_API_KEY']}"}
    answered: httpx.Response | None = None
    job_id, is_answer_shown = "", True
    with httpx.Client(base_url=shell["BASE_URL"], headers=headers, timeout=60) as client:
        for block in talk:
            body = json.loads(block.text)
            if block.role.startswith("POST "):
                assert is_answer_shown or (answered is not None and answered.is_success)
                path = block.role.removeprefix("POST ").replace("{job_id}", job_id)
                answered = client.post(path, json=body)
                job_id = answered.json().get("job_id", job_id)
                is_answer_shown = False
            else:
                assert answered is not None
                assert str(answered.status_code) == block.role.removeprefix("answer ")
                assert list(differences(body, answered.json())) == []
                is_answer_shown = True
    assert is_answer_shown or (answered is not None and answered.is_success)


@any_database
def test_what_differs_between_two_answers_is_told() -> None:
    shown = {"a": 1, "b": {"code": "x"}, "c": [{"d": "text"}]}
    assert list(differences(shown, {"a": 2.5, "b": {"code": "x"}, "c": [{"d": "other"}]})) == []
    assert list(differences(shown, {"a": "1", "b": {"code": "y"}, "c": [{}], "e": 1})) == [
        "e",
        "a",
        "b.code",
        "c.0.d",
    ]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it is about PostgreSQL's tools")
def test_a_backup_of_postgresql_comes_back_whole(shell: dict[str, str], tmp_path: Path) -> None:
    _require("pg_dump", "pg_restore")
    _some_work()
    url = database_url()
    restored = f"{connection.settings_dict['NAME']}_restored"
    with _empty_database(url, restored) as restored_url:
        environment = shell | {"DATABASE_URL": url, "RESTORED_URL": restored_url}
        text, outputs = documents.program("docs/backup.md", "bash", "story-postgresql")
        assert run(text, "bash", environment, tmp_path).endswith(outputs[-1])
        with psycopg.connect(restored_url) as copy, psycopg.connect(url) as original:
            for table in ("billing_entry", "jobs_call", "teams_apikey", "billing_account"):
                count = f"SELECT count(*), max(id::text) FROM {table}"
                assert copy.execute(count).fetchone() == original.execute(count).fetchone()
            with pytest.raises(psycopg.Error, match="append-only"):
                copy.execute("UPDATE billing_entry SET reason = 'changed'")


@any_database
@pytest.mark.skipif(connection.vendor != "sqlite", reason="it is about SQLite's file")
def test_a_backup_of_sqlite_is_whole(shell: dict[str, str], tmp_path: Path) -> None:
    _require("sqlite3")
    _some_work()
    file = str(connection.settings_dict["NAME"])
    text, outputs = documents.program("docs/backup.md", "bash", "story-sqlite")
    assert run(text, "bash", shell | {"DATABASE_FILE": file}, tmp_path).endswith(outputs[-1])
    with sqlite3.connect(tmp_path / "saas.sqlite3") as copy, sqlite3.connect(file) as original:
        count = "SELECT count(*), max(id) FROM billing_entry"
        assert copy.execute(count).fetchone() == original.execute(count).fetchone()


def run(text: str, language: str, environment: dict[str, str], folder: Path) -> str:
    """What a program prints; it must end well."""
    script = folder / {"javascript": "story.mjs"}.get(language, "story")
    if language == "javascript" and 'from "openai"' in text:
        programs.install()
        # Packages are looked for in the folders above the program.
        script = programs.JS / "node_modules/.story.mjs"
    script.write_text(text)
    done = subprocess.run(
        [*RUNNERS[language], str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def differences(shown: Any, found: Any, name: str = "") -> Iterator[str]:
    """Paths at which an answer has not the shape, or the fixed words, that a page shows."""
    if isinstance(shown, dict) and isinstance(found, dict):
        yield from (f"{name}{key}" for key in found.keys() - shown.keys())
        for key, value in shown.items():
            if key not in found or (
                key in FIXED and isinstance(value, str) and value != found[key]
            ):
                yield f"{name}{key}"
            else:
                yield from differences(value, found[key], f"{name}{key}.")
    elif isinstance(shown, list) and isinstance(found, list) and len(shown) == len(found):
        for index, (one, other) in enumerate(zip(shown, found, strict=True)):
            yield from differences(one, other, f"{name}{index}.")
    elif _kind(shown) != _kind(found):
        yield name.rstrip(".")


def _kind(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def _some_work() -> None:
    made = work.job(factories.company(name="bob").team)
    work.call(made, prompt=9000, output=900)
    work.close(made)


@contextmanager
def _empty_database(url: str, name: str) -> Iterator[str]:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _require(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            assert os.environ.get("CI") != "true", f"{tool} is missing"
            pytest.skip(f"NOT RUN: {tool} is missing")
