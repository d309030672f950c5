"""What is kept of prompts and answers: nothing, unless a team's policy says so."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.core.management import call_command
from django.test import Client

from jobs import payloads
from jobs.models import Call, Payload
from saas_litellm import verification
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Invalid
from teams import privacy
from teams.models import Team, User
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

ASKED, ANSWERED = "marzipan-question", "nougat-answer"
MESSAGES = [{"role": "user", "content": ASKED}]
ASK = {"model": "chat", "messages": MESSAGES}
EVERYWHERE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": ASK,
    "/v1/messages": {**ASK, "max_tokens": 50},
    "/v1/responses": {"model": "chat", "input": ASKED},
    "/api/jobs/create-and-call": {"team_id": "alice", "job_type": "x", "messages": MESSAGES},
    "/api/jobs/create-and-call-stream": {"team_id": "alice", "job_type": "x", "messages": MESSAGES},
}


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    provider.default = Reply(text=ANSWERED)
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


def post(
    live: Live, who: Company, path: str = "/v1/chat/completions", body: Any = None, **headers: str
) -> httpx.Response:
    with live.client({**who.headers, **headers}) as client:
        return client.post(path, json=ASK if body is None else body)


def policy(who: Company, name: str, **more: Any) -> None:
    privacy.set_policy(team=who.team, policy=name, actor="test", **more)


def everything_stored() -> str:
    """Every row of every table, as text."""
    return "\n".join(
        repr(list(model.objects.values_list()))  # type: ignore[attr-defined]
        for model in apps.get_models(include_auto_created=True)
    )


def kept() -> dict[str, Any]:
    content = payloads.look(Call.objects.get(), actor="test")
    assert content is not None
    return content


def test_by_default_no_table_holds_a_prompt_or_an_answer(live: Live, alice: Company) -> None:
    for path, body in EVERYWHERE.items():
        assert post(live, alice, path, body).status_code in {200, 201}
        assert post(live, alice, path, body, **{"Idempotency-Key": path}).status_code in {200, 201}
    stored = everything_stored()
    assert ASKED not in stored
    assert ANSWERED not in stored
    assert Payload.objects.count() == 0


def test_no_log_line_holds_a_prompt_or_an_answer(
    live: Live, alice: Company, provider: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path, body in EVERYWHERE.items():
        post(live, alice, path, body)
    provider.script(
        Reply(status=500, error=ANSWERED),
        Reply(status=500, error=ANSWERED),
        Reply(garbage=True),
        Reply(status=400, error=ANSWERED),
    )
    for _ in range(3):
        post(live, alice)
    post(live, alice, body={**ASK, "unknown": ASKED})
    with live.client(alice.headers) as client:
        headers = {"Content-Type": "application/json"}
        client.post("/v1/chat/completions", content=f"{{{ASKED}", headers=headers)
    assert caplog.records
    assert not [record.name for record in caplog.records if ASKED in _text(record)]
    assert not [record.name for record in caplog.records if ANSWERED in _text(record)]


def _text(record: logging.LogRecord) -> str:
    return f"{record.getMessage()} {record.exc_text or ''} {record.__dict__}"


def test_off_keeps_neither_purpose_nor_metadata(live: Live, alice: Company) -> None:
    policy(alice, "off")
    body = {**EVERYWHERE["/api/jobs/create-and-call"], "purpose": ASKED}
    post(live, alice, "/api/jobs/create-and-call", {**body, "call_metadata": {"a": ASKED}})
    call = Call.objects.get()
    assert (call.purpose, call.call_metadata) == ("", {})


@pytest.mark.parametrize("is_stream", [False, True])
def test_full_keeps_both_sealed(live: Live, alice: Company, is_stream: bool) -> None:
    policy(alice, "full")
    post(live, alice, body={**ASK, "stream": is_stream})
    assert ASKED not in everything_stored()
    assert ANSWERED not in everything_stored()
    assert kept()["request"]["messages"] == MESSAGES
    assert ANSWERED in json.dumps(kept()["answer"])
    assert verification.verify() == []


def test_chosen_fields_are_redacted_before_they_are_kept(live: Live, alice: Company) -> None:
    policy(alice, "full", redacted_fields=["content"])
    post(live, alice)
    assert kept()["request"]["messages"] == [{"role": "user", "content": "[redacted]"}]
    assert ANSWERED not in json.dumps(kept())


def test_what_is_longer_than_the_cap_is_left_out(live: Live, alice: Company, settings: Any) -> None:
    settings.PAYLOAD_MAX_BYTES = 100
    policy(alice, "full")
    post(live, alice)
    assert list(kept()) == ["omitted"]


def test_it_is_deleted_when_its_days_are_over(live: Live, alice: Company, forward: Any) -> None:
    policy(alice, "full", retention_days=2)
    post(live, alice)
    assert payloads.purge() == 0
    forward(2 * 24 * 3600 + 1)
    assert payloads.look(Call.objects.get(), actor="test") is None
    assert payloads.purge() == 1
    assert Payload.objects.count() == 0


def test_it_is_deleted_when_the_team_wants_it_no_more(live: Live, alice: Company) -> None:
    policy(alice, "full")
    post(live, alice)
    policy(alice, "metadata")
    assert payloads.purge() == 1


def test_a_look_needs_the_permission_and_leaves_an_audit_row(
    live: Live, alice: Company, client: Client, pages_served: None
) -> None:
    policy(alice, "full")
    post(live, alice)
    page = f"/admin/jobs/call/{Call.objects.get().pk}/payload/"
    User.objects.create_superuser("owner", password="x")
    bob = User.objects.create_user("bob", password="x", is_staff=True)
    client.force_login(bob)
    assert client.get(page).status_code == 403
    client.force_login(User.objects.get(username="owner"))
    shown = client.get(page).content.decode()
    assert ASKED in shown
    assert ANSWERED in shown
    entry = AuditEntry.objects.get(action="payload.look")
    assert (entry.actor, entry.address) == ("user:owner", "127.0.0.1")


def test_the_policy_is_set_in_the_admin_and_audited(
    alice: Company, client: Client, pages_served: None
) -> None:
    User.objects.create_superuser("owner", password="x")
    client.force_login(User.objects.get(username="owner"))
    page = f"/admin/teams/team/{alice.team.pk}/privacy/"
    assert client.get(page).status_code == 200
    given = {"policy": "full", "retention_days": 7, "redact": "ssn, name", "idempotency_key": "k"}
    client.post(page, given)
    team = Team.objects.get()
    assert (team.payload_policy, team.payload_retention_days) == ("full", 7)
    assert (team.redacted_fields, team.is_replay_kept) == (["ssn", "name"], False)
    assert AuditEntry.objects.get(action="team.privacy").before["is_replay_kept"] is True


def test_the_policy_is_set_by_command_and_leaves_what_is_not_named(alice: Company) -> None:
    call_command("set_privacy", "alice", "--policy", "full", "--redact", "ssn,name")
    call_command("set_privacy", "alice", "--replays", "off")
    team = Team.objects.get()
    assert (team.payload_policy, team.payload_retention_days) == ("full", 30)
    assert (team.redacted_fields, team.is_replay_kept) == (["ssn", "name"], False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "some"},
        {"retention_days": 0},
        {"retention_days": 4000},
        {"redacted_fields": [""]},
    ],
)
def test_a_wrong_policy_is_refused(alice: Company, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        privacy.set_policy(team=alice.team, actor="test", **wrong)
    assert Team.objects.get().payload_policy == "metadata"
