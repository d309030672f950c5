"""What a request may leave out: whose job it is, and a body that would say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.models import Job
from tests import factories, work
from tests.conftest import Live


def test_the_key_says_whose_job_it_is(live: Live) -> None:
    alice, bob = factories.company(), factories.team(name="bob")
    ask = {"job_type": "letter", "messages": [{"role": "user", "content": "hi"}]}
    with live.client(alice.headers) as client:
        made = client.post("/api/jobs/create", json={"job_type": "letter"})
        called = client.post("/api/jobs/create-and-call", json=ask)
        other = client.post("/api/jobs/create", json={"job_type": "letter", "team_id": "bob"})
    assert (made.status_code, made.json()["team_id"]) == (201, "alice")
    assert (called.status_code, called.json()["team_id"]) == (201, "alice")
    assert (other.status_code, other.json()["error"]["code"]) == (403, "team_mismatch")
    assert not Job.objects.filter(team=bob).exists()


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
def test_where_nothing_has_to_be_said_no_body_is_needed(
    live: Live, content_type: str | None
) -> None:
    alice = factories.company()
    typed = {"Content-Type": content_type} if content_type else {}
    with live.client(alice.headers) as client:
        job = client.post("/api/jobs/create", json={"job_type": "letter"}).json()["job_id"]
        ended = client.post(f"/api/jobs/{job}/complete", headers=typed)
        lacking = client.post("/api/jobs/create", headers=typed)
    assert (ended.status_code, ended.json()["status"]) == (200, "completed")
    assert lacking.status_code in {400, 415}


def test_without_a_key_in_a_header_an_empty_body_is_still_of_json(
    live: Live, settings: Any
) -> None:
    settings.DEBUG = settings.SAAS_OPEN_DEMO = True
    job = work.job(factories.company().team)
    with live.client() as client:
        foreign = client.post(f"/api/jobs/{job.pk}/complete")
        own = client.post(
            f"/api/jobs/{job.pk}/complete", headers={"Content-Type": "application/json"}
        )
    assert (foreign.status_code, own.status_code) == (401, 200)


@pytest.mark.parametrize(
    "path",
    ["/api/jobs/create", "/api/jobs/create-and-call", "/v1/chat/completions", "/v1/messages"],
)
def test_a_wrong_key_is_said_before_a_wrong_body(live: Live, path: str) -> None:
    alice = factories.company()
    wrong = {"Authorization": f"Bearer {alice.key[:-4]}xxxx"}
    with live.client() as client:
        stranger = client.post(path, json={"colour": "red"}, headers=wrong)
        known = client.post(path, json={"colour": "red"}, headers=alice.headers)
    assert stranger.status_code == 401
    assert known.status_code == 422
