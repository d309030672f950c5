"""The API of webhooks: a team about its own endpoints, an operator about everybody's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from saas_litellm.base import outbox
from saas_litellm.base.models import AuditEntry, Listener
from teams import keys, operators
from tests import factories, work
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.teams.test_roles import person
from tests.webhooks import making
from tests.webhooks.receiver import Receiver, Reply
from webhooks import deliveries
from webhooks.models import Delivery, Endpoint

URL = "https://app.example.com/hooks"
NEW = {"url": URL, "types": ["job.completed", "job.created"]}


@pytest.fixture
def alice(transactional_db: None) -> Company:
    return factories.company()


@pytest.fixture
def team(live: Live, alice: Company) -> Any:
    with live.client(alice.headers) as client:
        yield client


@pytest.fixture
def operator(live: Live) -> Any:
    key = operators.issue(user=person("olga", "admin"), actor="test")[1]
    with live.client({"Authorization": f"Bearer {key}"}) as client:
        yield client


def made(client: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = client.post("/api/webhooks", json={**NEW, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_team_makes_changes_and_deletes_an_endpoint(team: httpx.Client) -> None:
    endpoint = made(team, description="ours")
    assert endpoint["secret"].startswith("whsec_")
    assert endpoint["types"] == ["job.created", "job.completed"]
    path = f"/api/webhooks/{endpoint['id']}"
    shown = team.get(path).json()
    assert "secret" not in shown
    assert (shown["team_id"], shown["description"], shown["is_active"]) == ("alice", "ours", True)
    assert team.get("/api/webhooks").json() == {"endpoints": [shown]}
    changed = team.patch(path, json={"is_active": False, "types": ["*"]}).json()
    assert (changed["is_active"], changed["types"], changed["url"]) == (False, ["*"], URL)
    assert not Listener.objects.exists()
    team.patch(path, json={"is_active": True})
    assert "provider.down" not in Listener.objects.get().types
    assert team.delete(path).json() == {"id": endpoint["id"], "is_deleted": True}
    assert team.get(path).status_code == 404
    assert not Listener.objects.exists()
    acts = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert acts[-4:] == ["endpoint.create", "endpoint.change", "endpoint.change", "endpoint.delete"]
    assert "whsec_" not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"url": "http://app.example.com/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"types": []}, "types"),
        ({"types": ["job.eaten"]}, "types"),
        ({"types": ["provider.down"]}, "types"),
        ({"types": ["webhook.test"]}, "types"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_makes_no_endpoint(team: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = team.post("/api/webhooks", json={**NEW, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert not Endpoint.objects.exists()


def test_the_secret_is_on_one_answer_and_on_no_replay(team: httpx.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = team.post("/api/webhooks", json=NEW, headers=headers).json()
    again = team.post("/api/webhooks", json=NEW, headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == {**first, "secret": None}
    assert Endpoint.objects.count() == 1
    rotated = team.post(f"/api/webhooks/{first['id']}/rotate-secret", json={}).json()
    assert rotated["secret"] not in {first["secret"], None}


def test_there_is_an_end_to_endpoints(team: httpx.Client) -> None:
    for _ in range(20):
        made(team)
    refused = team.post("/api/webhooks", json=NEW)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "too_many_endpoints")


PATHS = [
    ("GET", "", None),
    ("PATCH", "", {"is_active": False}),
    ("DELETE", "", None),
    ("POST", "/rotate-secret", {}),
    ("POST", "/test", {}),
    ("POST", "/replay", {"from_id": 1}),
    ("GET", "/deliveries", None),
    ("GET", "/deliveries/{delivery}", None),
    ("POST", "/deliveries/{delivery}/resend", {}),
]


def test_a_stranger_finds_nothing(live: Live, alice: Company) -> None:
    endpoint, _ = making.endpoint(URL, team=alice.team)
    platforms, _ = making.endpoint(URL)
    making.happen("a", team=alice.team)
    deliveries.fan_out()
    charlie = keys.issue(team=factories.team(name="charlie"), actor="test")[1]
    with live.client({"Authorization": f"Bearer {charlie}"}) as client:
        assert client.get("/api/webhooks").json() == {"endpoints": []}
        for one in (endpoint, platforms):
            delivery = Delivery.objects.get(endpoint=one).pk
            for method, path, body in PATHS:
                at = f"/api/webhooks/{one.pk}{path.format(delivery=delivery)}"
                answer = client.request(method, at, json=body)
                assert answer.status_code == 404, (method, at)
        forbidden = client.post("/api/webhooks", json={**NEW, "team_id": "alice"})
        assert forbidden.status_code == 403
        mine = made(client)
        others = Delivery.objects.get(endpoint=endpoint).pk
        assert client.get(f"/api/webhooks/{mine['id']}/deliveries/{others}").status_code == 404
    with live.client() as nobody:
        assert nobody.get("/api/webhooks").status_code == 401
    assert Endpoint.objects.filter(is_active=True).count() == 3


def test_an_operator_has_the_platforms_and_every_teams(
    team: httpx.Client, operator: httpx.Client
) -> None:
    of_team = made(team)
    platforms = made(operator, types=["provider.down", "margin.alarm", "job.failed"])
    for_alice = made(operator, team_id="alice")
    assert (platforms["team_id"], for_alice["team_id"]) == (None, "alice")
    ids = [endpoint["id"] for endpoint in operator.get("/api/webhooks").json()["endpoints"]]
    assert ids == [of_team["id"], platforms["id"], for_alice["id"]]
    of_alice = operator.get("/api/webhooks?team_id=alice").json()["endpoints"]
    assert [endpoint["id"] for endpoint in of_alice] == [of_team["id"], for_alice["id"]]
    assert len(team.get("/api/webhooks").json()["endpoints"]) == 2
    assert operator.delete(f"/api/webhooks/{of_team['id']}").status_code == 200
    types = operator.get("/api/webhooks/event-types").json()["types"]
    assert len(types) == 15
    of_teams = team.get("/api/webhooks/event-types").json()["types"]
    assert "provider.down" not in {one["type"] for one in of_teams}
    assert "credits_charged" in str(of_teams)


def test_deliveries_tests_resends_and_replays(
    team: httpx.Client, alice: Company, receiver: Receiver, couriers: Any
) -> None:
    receiver.default = Reply(status=410, body=b"gone away")
    endpoint = made(team, url=receiver.url, types=["*"])
    outbox.forget()
    path = f"/api/webhooks/{endpoint['id']}"
    couriers()
    test = team.post(f"{path}/test", json={})
    assert (test.status_code, test.json()["type"]) == (202, "webhook.test")
    wait_until(lambda: receiver.got)
    job = work.job(alice.team)
    wait_until(lambda: len(receiver.got) == 2)
    listed = team.get(f"{path}/deliveries?status=pending").json()
    (created, tested) = listed["deliveries"]
    assert (created["type"], tested["cause"], listed["next_cursor"]) == (
        "job.created",
        "test",
        None,
    )
    wait_until(
        lambda: (
            team.get(f"{path}/deliveries/{created['id']}").json()["attempts"][0]["status"] == 410
        )
    )
    whole = team.get(f"{path}/deliveries/{created['id']}").json()
    assert whole["event"]["data"]["job_id"] == str(job.pk)
    (attempt,) = whole["attempts"]
    assert (attempt["failure"], attempt["excerpt"]) == ("answered 410", "gone away")
    receiver.default = Reply()
    again = team.post(f"{path}/deliveries/{created['id']}/resend", json={}).json()
    assert (again["event_id"], again["cause"]) == (created["event_id"], "resend")
    wait_until(lambda: receiver.ids.count(created["event_id"]) >= 2)
    ids = making.happen("b", "c", team=alice.team)
    wait_until(lambda: len(set(receiver.ids)) == 4)
    before = len(receiver.got)
    replay = {"from_id": created["event_id"], "to_id": ids[0], "since": "2020-01-01T00:00:00Z"}
    assert team.post(f"{path}/replay", json=replay).json() == {"messages": 2}
    wait_until(lambda: len(receiver.got) >= before + 2)
    assert {created["event_id"], ids[0]} <= set(receiver.ids[before:])
    of_type = {"since": "2020-01-01", "types": ["key.expiring"]}
    assert team.post(f"{path}/replay", json=of_type).json() == {"messages": 2}
    for wrong in ({}, {"from_id": "evt_x"}, {"from_id": 1, "types": ["x"]}):
        assert team.post(f"{path}/replay", json=wrong).status_code == 422, wrong


def test_nothing_is_sent_to_what_is_off(team: httpx.Client, alice: Company) -> None:
    endpoint = made(team, types=["key.expiring"])
    outbox.forget()
    making.happen("a", team=alice.team)
    deliveries.fan_out()
    path = f"/api/webhooks/{endpoint['id']}"
    team.patch(path, json={"is_active": False})
    delivery = Delivery.objects.get().pk
    for act, body in (
        ("test", {}),
        ("replay", {"from_id": 1}),
        (f"deliveries/{delivery}/resend", {}),
    ):
        refused = team.post(f"{path}/{act}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "endpoint_off")
    assert deliveries.claim(most=5) == []


def test_a_long_list_has_pages(team: httpx.Client, alice: Company) -> None:
    endpoint = made(team, types=["*"])
    outbox.forget()
    making.happen(*[str(number) for number in range(130)], team=alice.team)
    deliveries.fan_out()
    path = f"/api/webhooks/{endpoint['id']}/deliveries"
    first = team.get(path).json()
    rest = team.get(f"{path}?cursor={first['next_cursor']}").json()
    assert (len(first["deliveries"]), len(rest["deliveries"])) == (100, 30)
    assert rest["next_cursor"] is None
