"""The documents say what the code does: settings, checks, commands, errors, the API, the tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from openapi_spec_validator import validate

from saas_litellm import urls
from saas_litellm.base.events import SHAPES
from saas_litellm.base.refusals import Refusal
from tests import documents
from tests.conftest import ROOT
from tests.reference import api, commands, database
from tests.reference import pages as reference

pytestmark = pytest.mark.any_database

SETTINGS = (ROOT / "docs/settings.md").read_text()
# Variables of the documentation's own programs, of tests, of SDKs and of other programs.
OTHERS = {
    "BASE_URL",
    "DATABASE_FILE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPERATOR_KEY",
    "POSTGRES_PASSWORD",
    "SAAS_API_KEY",
    "TEST_DATABASE_URL",
    "TEST_REDIS_URL",
    "WEB_CONCURRENCY",
}
# Variables that a library reads, or that code of ours looks at where it must.
LIBRARIES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "PROMETHEUS_MULTIPROC_DIR"}
OTHERS |= LIBRARIES | {
    "AIOHTTP_CONNECTOR_LIMIT",
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
}
PACKAGES = ("saas_litellm", "teams", "billing", "jobs", "webhooks", "payments")


def test_every_variable_is_documented_and_no_other() -> None:
    source = (ROOT / "saas_litellm/settings.py").read_text()
    named = set(re.findall(r'env\.\w+\(\s*"(\w+)"', source))
    table = SETTINGS.partition("## System checks")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == named | LIBRARIES
    assert len(named) > 25


def test_every_system_check_is_documented_and_no_other() -> None:
    source = (ROOT / "saas_litellm/checks.py").read_text()
    ids = {f"saas.{number}" for number in re.findall(r"\b([IWE]0\d\d)\b", source)}
    assert set(re.findall(r"`(saas\.[IWE]\d{3})`", SETTINGS)) == ids


def test_every_error_code_is_documented_with_its_status() -> None:
    assert urls  # what it imports are all the refusals there are
    page = (ROOT / "docs/errors.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE))
    answered = {refusal.code: str(refusal.status) for refusal in _refusals(Refusal)}
    written = {
        code
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for code in re.findall(r'^    code = "(\w+)"$', path.read_text(), re.MULTILINE)
    }
    assert written <= answered.keys()
    assert documented == answered


def test_each_error_says_what_to_do_next() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| `\w+` \| \d{3} \|.*$", page, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(len(row) == 5 and all(row) for row in cells)


def test_the_generated_pages_are_as_they_would_be_made_now() -> None:
    kept = {path.name: path.read_text() for path in reference.FOLDER.glob("*.md")}
    made = reference.made()
    drifted = {name for name in kept.keys() | made.keys() if kept.get(name) != made.get(name)}
    assert drifted == set(), "run `make reference`"


def test_writing_the_pages_changes_what_drifted_and_deletes_what_is_no_more(
    tmp_path: Path,
) -> None:
    written = reference.write(tmp_path)
    assert set(written) == set(reference.made())
    (tmp_path / "commands.md").write_text("old")
    (tmp_path / "api-gone.md").write_text("gone")
    assert reference.write(tmp_path) == ["commands.md"]
    assert not (tmp_path / "api-gone.md").exists()


def test_every_operation_is_in_the_api_reference() -> None:
    text = "".join(path.read_text() for path in reference.FOLDER.glob("api-*.md"))
    listed = [f"`{method} {path}`" for method, path, _ in api.operations(api.schema())]
    assert [operation for operation in listed if operation not in text] == []
    assert len(listed) > 50


def test_the_page_of_the_api_leads_to_every_part_of_it() -> None:
    text = (ROOT / "docs/api.md").read_text()
    parts = {f"reference/{path.name}" for path in reference.FOLDER.glob("api-*.md")}
    assert {part for part in parts if f"]({part})" not in text} == set()


def test_every_command_is_in_its_reference_with_each_argument() -> None:
    text = (reference.FOLDER / "commands.md").read_text()
    found = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert set(commands.ours()) == found
    for name in found:
        section = re.split(rf"^## {name}$", text, flags=re.MULTILINE)[1].partition("\n## ")[0]
        options = {
            option
            for action in commands.parser(name)._actions
            for option in action.option_strings
            if action.dest not in commands.COMMON
        }
        assert {option for option in options if option not in section} == set(), name


def test_every_table_says_what_it_holds() -> None:
    tables = [model for found in database.tables().values() for model in found]
    assert [model._meta.db_table for model in tables if not database.purpose(model)] == []
    silent = {
        f"{model._meta.db_table}.{field.name}"
        for model in tables
        for field in model._meta.concrete_fields
        if not field.is_relation and database.holds(field) in {"", "may be empty", "unique"}
    }
    assert silent == set(), "give the field a help_text, or name it in tests/reference/columns.py"
    text = (reference.FOLDER / "database.md").read_text()
    assert all(f"### {model._meta.db_table}\n" in text for model in tables)


@pytest.mark.parametrize("page", documents.pages(), ids=documents.name_of)
def test_every_relative_link_and_picture_exists(page: Path) -> None:
    for link in documents.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in documents.anchors(target), link


@pytest.mark.parametrize("page", documents.pages(), ids=documents.name_of)
def test_every_command_and_chore_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"manage\.py ([a-z]\w+)", text)) <= set(get_commands())
    makefile = (ROOT / "Makefile").read_text()
    chores = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= chores


@pytest.mark.parametrize(
    "page",
    [page for page in documents.pages() if page.parent != reference.FOLDER],
    ids=documents.name_of,
)
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    source = (ROOT / "saas_litellm/settings.py").read_text()
    known = {*re.findall(r'env\.\w+\(\s*"(\w+)"', source), *OTHERS}
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", page.read_text()))
    assert named - known == set()


def test_the_web_process_is_started_alike_everywhere() -> None:
    starts = {
        name: re.findall(r"uvicorn saas_litellm\.asgi:application (.*)", (ROOT / name).read_text())
        for name in ("Procfile", "Dockerfile", "Makefile", "docs/deploying-vm.md")
    }
    flags = {
        name: {re.sub(r"--(host|port) \S+ ?", "", line).rstrip('"]') for line in found}
        for name, found in starts.items()
    }
    assert set(map(frozenset, flags.values())) == {
        frozenset(
            {
                "--lifespan on --no-server-header --no-proxy-headers --ws-max-size 4096 --timeout-graceful-shutdown 30"
            }
        )
    }


def test_every_picture_of_the_documentation_is_shown_somewhere() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in documents.pages()
        for link in documents.links(page)
    }
    assert {path.name for path in (ROOT / "docs/images").iterdir() if path not in shown} == set()


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
    from payments.urls import urlpatterns as of_payments
    from webhooks.urls import urlpatterns as of_webhooks

    every = (of_jobs, of_billing, of_clients, of_webhooks, of_payments)
    assert len(schema["paths"]) == sum(map(len, every))
    assert set(schema["webhooks"]) == set(SHAPES)
    amount = schema["components"]["schemas"]["CallCosts"]["properties"]["credits"]
    assert amount["type"] == "number"
    stream = schema["paths"]["/api/jobs/{job_id}/llm-call-stream"]["post"]
    assert "text/event-stream" in stream["responses"]["200"]["content"]


def _refusals(of: type[Refusal]) -> set[type[Refusal]]:
    return {found for kind in of.__subclasses__() for found in {kind, *_refusals(kind)}}
