"""A job that is made for one call, charged and closed with it: ``complete`` of create-and-call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from billing import plans
from billing.models import Hold
from jobs.models import Job
from saas_litellm import verification
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

ASK: dict[str, Any] = {
    "team_id": "alice",
    "job_type": "letter",
    "messages": [{"role": "user", "content": "Hello"}],
    "metadata": {"letter": "7"},
    "complete": True,
}


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    """A letter costs two credits, whatever its calls cost."""
    made = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base, plan="")
    plans.assign(plan=factories.plan("letters", flat=2 * 10**9), team=made.team, actor="test")
    return made


def test_the_answer_says_what_the_whole_job_cost_and_the_job_is_closed(
    live: Live, alice: Company
) -> None:
    with live.client({**alice.headers, "Idempotency-Key": "letter-7"}) as client:
        answer = client.post("/api/jobs/create-and-call", json=ASK)
        again = client.post("/api/jobs/create-and-call", json=ASK)
    assert answer.status_code == 201
    assert answer.json()["costs"]["credits"] == 2
    assert answer.json()["status"] == "completed"
    assert again.json() == answer.json()
    job = Job.objects.get()
    assert (job.status, job.metadata) == ("completed", {"letter": "7"})
    assert not Hold.objects.filter(state="open").exists()
    assert verification.verify() == []


def test_a_streams_last_frame_says_it_too(live: Live, alice: Company) -> None:
    with live.client(alice.headers) as client:
        text = client.post("/api/jobs/create-and-call-stream", json=ASK).text
    *_, last, done = [line for line in text.splitlines() if line.startswith("data: ")]
    assert done == "data: [DONE]"
    assert json.loads(last[6:])["costs"]["credits"] == 2
    assert Job.objects.get().status == "completed"


def test_a_call_that_delivers_nothing_fails_its_job_and_costs_nothing(
    live: Live, alice: Company, provider: ProviderServer, settings: Any
) -> None:
    settings.CALL_RETRIES = 0
    provider.default = Reply(status=500)
    with live.client(alice.headers) as client:
        refused = client.post("/api/jobs/create-and-call", json=ASK)
    assert refused.status_code == 502
    job = Job.objects.get()
    assert (job.status, job.net_nanocredits) == ("failed", 0)
    assert not Hold.objects.filter(state="open").exists()
    assert verification.verify() == []


def test_without_it_the_job_stays_open(live: Live, alice: Company) -> None:
    with live.client(alice.headers) as client:
        answer = client.post("/api/jobs/create-and-call", json={**ASK, "complete": False})
    assert answer.json()["status"] == "in_progress"
    assert answer.json()["costs"]["credits"] == 0
    assert Job.objects.get().is_open
