"""The official OpenAI client for JavaScript: its two environment variables, and nothing else.

The programs are in tests/clients/js; each writes what it found as lines of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs import lifecycle
from jobs.models import Call, Job
from saas_litellm import verification
from teams.models import Alias, Team
from tests import factories
from tests.clients import programs
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

Program = Callable[..., list[Any]]


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    programs.install()


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


@pytest.fixture
def program(live: Live, alice: Company) -> Program:
    def run(name: str, **environment: str) -> list[Any]:
        return programs.run(name, url=live.url, key=alice.key, **environment)

    return run


def test_the_lock_file_names_no_registry_and_pins_everything() -> None:
    locked = json.loads(programs.LOCK.read_text())["packages"]
    installed = [package for path, package in locked.items() if path]
    assert installed
    assert all(package["integrity"].startswith("sha512-") for package in installed)
    assert not any("resolved" in package for package in installed)
    assert "http" not in programs.LOCK.read_text()


def test_chats_are_answered_plain_streamed_seen_and_structured(
    program: Program, provider: ProviderServer
) -> None:
    provider.script(Reply(), Reply(), Reply(), Reply(text='{"isFine": true}'))
    plain, streamed, final, verdict = program("chat")
    assert (plain["text"], plain["model"], plain["total"]) == ("Hello from afar", "chat", 120)
    assert plain["charged"] == "0.016"
    assert Job.objects.filter(pk=plain["job"], status="completed").exists()
    assert streamed == {"text": "Hello from afar ", "models": ["chat"], "totals": [120]}
    assert final["final"].strip() == "Hello from afar"
    assert verdict == {"isFine": True}
    sent = provider.requests[3].json
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    assert sent["response_format"]["json_schema"]["name"] == "verdict"
    assert {"ticket": "42"} in [call.call_metadata for call in Call.objects.all()]
    assert Call.objects.filter(status="settled", charged_nanocredits__gt=0).count() == 4
    assert verification.verify() == []


def test_tools_called_in_parallel_go_round_and_the_clients_own_loop_runs_them(
    program: Program, provider: ProviderServer
) -> None:
    both = Reply(
        tools=[{"name": "weather", "input": {"city": city}} for city in ("Bern", "Oslo")],
        finish_reason="tool_calls",
    )
    provider.script(both, Reply(), both)
    first, second, looped = program("tools")
    assert (first["finish"], first["cities"]) == ("tool_calls", ["Bern", "Oslo"])
    assert len(set(first["ids"])) == 2
    assert second == {"text": "Hello from afar"}
    assert looped == {"text": "Hello from afar", "cities": ["Bern", "Oslo"]}
    results = provider.requests[1].json["messages"][2:]
    assert [result["tool_call_id"] for result in results] == first["ids"]
    assert provider.requests[0].json["parallel_tool_calls"] is True
    assert verification.verify() == []


def test_models_embeddings_and_responses_are_the_clients_own(
    program: Program, alice: Company, provider: ProviderServer
) -> None:
    factories.serve(
        alice.team,
        alias="embed",
        model="openai/text-embedding-3-small",
        api_base=provider.openai_base,
    )
    Alias.objects.filter(name="embed").update(kind="embedding")
    models, vectors, plain, streamed = program("others")
    assert models == {"names": ["chat", "embed"], "owner": "platform"}
    assert vectors["packed"] == vectors["plain"] == [[0, 1], [1, 1]]
    assert vectors["model"] == "embed"
    assert plain == {"text": "Hello from afar", "status": "completed", "total": 120}
    assert streamed == {
        "text": "Hello from afar",
        "first": "response.created",
        "last": "response.completed",
    }
    assert verification.verify() == []


@pytest.mark.usefixtures("fresh_limits")
def test_errors_are_of_the_clients_own_classes(
    program: Program, alice: Company, provider: ProviderServer
) -> None:
    Team.objects.update(requests_per_minute=2)
    bobs = lifecycle.create(team=factories.team(name="bob"), api_key=None, job_type="x")
    provider.script(Reply(status=400), Reply(first_delay=1))
    found = program("errors", STRANGER=str(bobs.pk))
    stranger, unknown, not_ours, stored, no_model, failed, late, limited = found
    assert [(error["kind"], error["status"], error["code"]) for error in found] == [
        ("AuthenticationError", 401, "invalid_api_key"),
        ("PermissionDeniedError", 403, "model_not_allowed"),
        ("NotFoundError", 404, "not_found"),
        ("UnprocessableEntityError", 422, "validation_failed"),
        ("PermissionDeniedError", 403, "model_not_allowed"),
        ("UnprocessableEntityError", 422, "validation_failed"),
        ("APIConnectionTimeoutError", None, None),
        ("RateLimitError", 429, "rate_limited"),
    ]
    assert stored["param"] == "store"
    assert late["isTimeout"]
    assert 1 <= int(limited["retryAfter"]) <= 61
    assert all(error["isApiError"] for error in found)
    answered = [stranger, unknown, not_ours, stored, no_model, failed, limited]
    assert all(error["requestId"].startswith("req_") for error in answered)
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    assert verification.verify() == []


def test_a_job_holds_its_calls_and_a_stream_that_is_left_stops_the_provider(
    program: Program, alice: Company, provider: ProviderServer
) -> None:
    job = lifecycle.create(team=alice.team, api_key=None, job_type="x")
    provider.script(Reply(), Reply(text="a b c d e f g h i j", frame_delay=0.2))
    told, left = program("jobs", JOB=str(job.pk))
    assert told["job"] == str(job.pk)
    assert Call.objects.filter(pk=told["call"], job=job).exists()
    assert left == {"words": 2, "isAborted": True}
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    assert provider.requests[1].frames_sent < 10
    job.refresh_from_db()
    assert (job.successful_calls + job.failed_calls, job.status) == (2, "in_progress")
    assert all(call.charged_nanocredits > 0 for call in Call.objects.all())
    assert verification.verify() == []
