"""The TypeScript client, by its own tests (clients/typescript/test) against the real platform."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.test import Client
from playwright.sync_api import Page

from jobs.models import Call, Job
from saas_litellm import verification
from tests import browser, factories
from tests.clients import codes, typescript
from tests.clients.typescript import LOCK, PACKAGE, Strings
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

MAY_BE_TRIED_AGAIN = {
    *("rate_limited", "provider_error", "model_unavailable", "overloaded", "provider_timeout"),
    *("request_in_progress", "calls_in_flight"),
}
REVIEW = Reply(text='{"title": "Lease", "risks": [{"clause": "rent"}]}')
# What the model says to the README's examples that need something of it.
SAID = {
    "job.structured(": [REVIEW, REVIEW],
    'tool("weather"': [
        Reply(tool={"name": "weather", "input": {"city": "Bern"}}, finish_reason="tool_calls")
    ],
}
FINDS = Reply(
    tool={"name": "find_clause", "input": {"subject": "repairs"}}, finish_reason="tool_calls"
)


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    typescript.build()


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    return factories.company(
        model="openai/gpt-4o-mini", api_base=provider.openai_base, credits_=10_000
    )


def environment(live: Live, alice: Company) -> dict[str, str]:
    return {"SAAS_BASE_URL": live.url, "SAAS_API_KEY": alice.key, "SAAS_TEAM_ID": "alice"}


@pytest.fixture(scope="session")
def compiled(_built: None) -> None:
    """The examples as JavaScript in build/; what does not compile is an error, the contract's too."""
    typescript.compile_documents(Client().get("/openapi.json").content.decode())


def is_nothing_open() -> bool:
    return not Call.objects.filter(status__in=Call.RUNNING).exists()


def test_the_lock_file_names_no_registry_and_the_package_needs_nothing() -> None:
    locked = json.loads(LOCK.read_text())["packages"]
    installed = [package for path, package in locked.items() if path]
    assert installed
    assert all(package["integrity"].startswith("sha512-") for package in installed)
    assert not any("resolved" in package for package in installed)
    assert "registry" not in LOCK.read_text()
    package = json.loads((PACKAGE / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(package)
    assert all(version[0].isdigit() for version in package["devDependencies"].values())


def test_every_code_of_the_platform_has_its_class() -> None:
    of_platform = {kind.code: kind.status for kind in codes.refusals()}
    asked = (
        'import { errors } from "saas-litellm-client";'
        "const told = [...errors.BY_CODE].map(([code, k]) => [code, k.status, k.isRetryable]);"
        "console.log(JSON.stringify(told));"
    )
    told = json.loads(typescript.run("node", "--input-type=module", "--eval", asked))
    known = {code: status for code, status, _ in told}
    assert set(of_platform) - set(known) == codes.NOT_FOR_CLIENTS
    assert known == {code: status for code, status in of_platform.items() if code in known}
    assert {code for code, _, is_retryable in told if is_retryable} == MAY_BE_TRIED_AGAIN


def test_its_own_tests_pass_against_a_platform_of_its_own(
    spawned: Any, provider: ProviderServer, alice: Company
) -> None:
    live = spawned(CALL_RETRIES="0")
    with Strings(provider) as strings:
        told = typescript.run(
            *("npm", "test"), seconds=300, PROVIDER_URL=strings.url, **environment(live, alice)
        )
    (passed,) = re.findall(r"^# pass (\d+)$", told, re.MULTILINE)
    assert int(passed) >= 48
    assert re.search(r"^# (skipped|todo|cancelled) [1-9]", told, re.MULTILINE) is None
    wait_until(is_nothing_open, seconds=40)
    assert verification.verify() == []


def test_the_types_are_the_schemas_and_the_readmes_examples_run(
    compiled: None, live: Live, alice: Company, provider: ProviderServer
) -> None:
    """That our types are the schema's was seen by compiling: test/contract.mjs."""
    blocks = re.findall(r"```ts\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    names = [f"readme-{number}.js" for number in range(len(blocks))]
    assert (PACKAGE / "build/contract.js").exists()
    assert len(blocks) >= 9
    for name, block in zip(names, blocks, strict=True):
        replies = [reply for mark, said in SAID.items() if mark in block for reply in said]
        provider.script_anew(*replies)
        told = typescript.run("node", f"build/{name}", **environment(live, alice))
        assert told or "console.log" not in block
    assert not Job.objects.filter(status__in=("pending", "in_progress", "failed")).exists()
    assert verification.verify() == []


def test_the_agent_ends_with_an_answer_or_at_its_cap(
    compiled: None, live: Live, alice: Company, provider: ProviderServer
) -> None:
    def agent(**more: str) -> str:
        return typescript.run(
            "node", "build/agent-loop.js", "Who pays?", **environment(live, alice), **more
        ).strip()

    provider.script_anew(FINDS, Reply(text="The landlord."))
    assert agent() == "The landlord."
    (tool,) = provider.requests[0].json["tools"]
    assert tool["function"]["parameters"]["properties"]["subject"]["type"] == "string"
    assert "Clause 9" in provider.requests[1].json["messages"][-1]["content"]
    provider.default = FINDS
    assert agent(MAX_CREDITS="0.25").startswith("Not finished. Clause 9")
    first, capped = Job.objects.order_by("created_at")
    assert (first.outcome, capped.outcome) == ("full", "partial")
    assert capped.net_nanocredits <= 250_000_000
    assert verification.verify() == []


@pytest.fixture
def serve(live: Live, alice: Company) -> Iterator[Callable[..., str]]:
    """A function that starts one of the examples' servers; its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str) -> str:
        process = subprocess.Popen(
            ["node", *command],
            cwd=PACKAGE,
            env={**os.environ, "PORT": "0", **environment(live, alice)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_whoever_leaves_the_back_end_stops_the_model(
    compiled: None, serve: Callable[..., str], provider: ProviderServer
) -> None:
    provider.script(Reply(text="a b c d e f g h i j", frame_delay=0.2))
    url = serve("build/http-backend.js")
    with httpx.stream("POST", f"{url}answers", json={"question": "Hello"}) as answer:
        assert next(answer.iter_lines()) == 'data: {"text":"a "}'
    wait_until(lambda: Job.objects.filter(status="cancelled").exists())
    wait_until(is_nothing_open)
    assert provider.requests[0].frames_sent < 10
    assert httpx.post(f"{url}answers", json={"question": 7}).status_code == 400


@pytest.mark.skipif(
    browser.binary() is None and os.environ.get("CI") != "true", reason="NOT RUN: no Chromium here"
)
@pytest.mark.parametrize(
    ("command", "ends_with"),
    [
        (("build/browser-proxy.js", "dist/esm"), "120 tokens"),
        (("build/http-backend.js",), "credits"),
    ],
    ids=["the client in the browser", "a back end of one's own"],
)
def test_a_page_shows_the_answer_as_it_comes(
    compiled: None,
    serve: Callable[..., str],
    provider: ProviderServer,
    alice: Company,
    command: tuple[str, ...],
    ends_with: str,
) -> None:
    provider.default = Reply(text="one two three", frame_delay=0.3)

    def ask(page: Page) -> list[str]:
        if page.query_selector("input"):
            page.fill("input", "Hello")
        page.click("button")
        page.wait_for_function("document.querySelector('#answer').textContent.trim() === 'one'")
        page.wait_for_function(
            f"document.querySelector('#end').textContent.includes('{ends_with}')"
        )
        return [page.inner_text("#answer"), page.content()]

    seen = browser.look(serve(*command), cookies={}, act=ask)
    answer, page = seen.found
    assert answer.strip() == "one two three"
    assert alice.key not in page
    assert seen.foreign == []
    assert seen.errors == []
    wait_until(lambda: Job.objects.get().status == "completed")
    assert verification.verify() == []


def test_the_proxy_lets_through_one_path_and_its_own_page(
    compiled: None, serve: Callable[..., str]
) -> None:
    url = serve("build/browser-proxy.js", "dist/esm")
    path, own = f"{url}llm/api/jobs/create-and-call-stream", {"Sec-Fetch-Site": "same-origin"}
    assert httpx.post(path, json={}, headers=own).status_code == 422
    assert httpx.post(path, json={}).status_code == 403
    assert httpx.get(f"{url}llm/api/teams/alice/jobs", headers=own).status_code == 403
    assert httpx.get(f"{url}client/..%2F..%2Fpackage.json").status_code == 404
    assert not Job.objects.exists()
