"""The response cache: a team's same request again, or at once, asks its provider only once."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from django.conf import settings as project

from billing.models import Entry
from jobs import cache, profit
from jobs.cache import LocalStore
from jobs.models import Call, CostLine
from saas_litellm import verification
from saas_litellm.base import clock
from teams.models import Alias
from tests import factories, work
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

# 100 tokens in at 10^-5 USD and 20 out at 3·10^-5: 0.0016 USD, at 10 credits a USD.
FULL_PRICE = "0.016"
ASK = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
CACHED = {**ASK, "cache": {"ttl": 600}}
STREAMED = {**CACHED, "stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(autouse=True)
def _own_store(settings: Any) -> Iterator[None]:
    settings.REDIS_NAMESPACE = uuid4().hex
    settings.REDIS_TIMEOUT_SECONDS = 10
    cache.store.cache_clear()
    yield
    cache.store.cache_clear()


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


def post(live: Live, who: Company, body: Any = CACHED, **headers: str) -> httpx.Response:
    with live.client({**who.headers, **headers}) as client:
        return client.post("/v1/chat/completions", json=body)


def content(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def prices() -> list[str]:
    return [work.paid(call) for call in Call.objects.order_by("created_at")]


def together(live: Live, who: Company, body: Any, times: int) -> list[httpx.Response]:
    with concurrent.futures.ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda _: post(live, who, body), range(times)))


def test_nothing_is_cached_unless_it_is_asked_for(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    assert [post(live, alice, ASK).headers.get("X-Cache") for _ in range(2)] == [None, None]
    assert len(provider.requests) == 2


def test_the_same_request_again_gets_the_same_answer_and_costs_the_provider_nothing(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    first, again = post(live, alice), post(live, alice)
    assert content(first) == content(again)
    assert (first.headers.get("X-Cache"), again.headers["X-Cache"]) == (None, "hit")
    assert again.json()["usage"] == first.json()["usage"]
    assert len(provider.requests) == 1
    assert prices() == [FULL_PRICE, "0"]
    hit = Call.objects.get(is_cache_hit=True)
    assert (hit.provider_cost_nano_usd, hit.saved_nano_usd) == (0, 1_600_000)
    assert hit.deployment_id is None
    assert CostLine.objects.count() == Entry.objects.filter(kind="charge").count() == 1
    assert verification.verify() == []


def test_an_alias_may_cache_for_all_and_a_request_may_decline(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    Alias.objects.update(cache_ttl_seconds=600)
    answers = [
        post(live, alice, ASK),
        post(live, alice, ASK),
        post(live, alice, {**ASK, "cache": {"ttl": 0}}),
        post(live, alice, ASK, **{"Cache-Control": "no-store"}),
    ]
    assert [answer.headers.get("X-Cache") for answer in answers] == [None, "hit", None, None]
    assert len(provider.requests) == 3


def test_the_api_paths_say_that_an_answer_was_cached(live: Live, alice: Company) -> None:
    body = {"team_id": "alice", "job_type": "x", "messages": ASK["messages"], "cache": {"ttl": 60}}
    with live.client(alice.headers) as client:
        answers = [client.post("/api/jobs/create-and-call", json=body).json() for _ in range(2)]
    assert [answer["metadata"]["cached"] for answer in answers] == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "ho"}]},
        {"temperature": 0.5},
        {"max_tokens": 51},
        {"stream": True},
        {"n": 2},
    ],
)
def test_whatever_changes_the_answer_makes_it_another_request(
    live: Live, alice: Company, provider: ProviderServer, change: dict[str, Any]
) -> None:
    post(live, alice)
    assert "X-Cache" not in post(live, alice, {**CACHED, **change}).headers
    assert len(provider.requests) == 2


def test_no_team_meets_the_answer_of_another(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    bob = factories.team(name="bob")
    factories.serve(bob, alias="chat", model="openai/gpt-4o-mini")
    charlie = factories.company(name="charlie", alias="chat")
    post(live, alice)
    theirs = post(live, charlie)
    assert theirs.status_code == 200
    assert "X-Cache" not in theirs.headers
    assert post(live, alice).headers["X-Cache"] == "hit"


def test_an_answer_is_forgotten_after_its_time(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    brief = {**ASK, "cache": {"ttl": 1}}
    post(live, alice, brief)
    wait_until(lambda: "X-Cache" not in post(live, alice, brief).headers, seconds=10)
    assert len(provider.requests) == 2


def test_with_tools_it_has_to_be_asked_for_by_the_request(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    Alias.objects.update(cache_ttl_seconds=600)
    function = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    with_tools = {**ASK, "tools": [{"type": "function", "function": function}]}
    asked = {**with_tools, "cache": {"ttl": 60}}
    answers = [post(live, alice, body) for body in (with_tools, with_tools, asked, asked)]
    assert [answer.headers.get("X-Cache") for answer in answers] == [None, None, None, "hit"]


def test_a_stream_is_replayed_as_a_stream(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    first, again = (post(live, alice, STREAMED) for _ in range(2))
    assert again.headers["X-Cache"] == "hit"
    frames = [line.partition('"choices"')[2] for line in first.text.split("\n\n")]
    assert [line.partition('"choices"')[2] for line in again.text.split("\n\n")] == frames
    assert again.text.endswith("data: [DONE]\n\n")
    assert len(provider.requests) == 1
    assert prices() == [FULL_PRICE, "0"]
    assert verification.verify() == []


def test_a_plan_may_price_a_hit_as_a_share_of_the_full_price(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    half = factories.plan("half", kind="markup", cache_hit_basis_points=5_000)
    factories.plans.assign(plan=half, team=alice.team, actor="test")
    post(live, alice)
    assert post(live, alice).headers["X-Credits-Charged"] == "0.008"
    assert prices() == [FULL_PRICE, "0.008"]
    assert verification.verify() == []


def test_hits_and_what_they_saved_are_in_the_reports(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    for _ in range(4):
        post(live, alice)
    today = clock.now().date()
    report = profit.report(start=today, end=today + timedelta(days=1))
    total = report.total.as_json()
    assert (total["cache_hits"], total["cache_hit_percent"]) == (3, Decimal("75.00"))
    assert total["cache_saved_usd"] == Decimal("0.0048")
    assert total["provider_cost_usd"] == Decimal("0.0016")


def test_identical_requests_at_once_are_joined(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(first_delay=1.5)
    answers = together(live, alice, CACHED, 8)
    assert {answer.status_code for answer in answers} == {200}
    assert len({content(answer) for answer in answers}) == 1
    assert len(provider.requests) == 1
    assert sorted(prices()) == ["0"] * 7 + [FULL_PRICE]
    assert verification.verify() == []


def test_streams_at_once_are_joined_as_streams(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(text="one two three four", first_delay=1, frame_delay=0.2)
    answers = together(live, alice, STREAMED, 6)
    assert all("four" in answer.text and "[DONE]" in answer.text for answer in answers)
    assert len(provider.requests) == 1
    assert sorted(prices()) == ["0"] * 5 + [FULL_PRICE]


def test_who_reads_along_goes_on_when_the_first_leaves_and_the_last_ends_it(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(text="word " * 100, frame_delay=0.1)
    with live.client(alice.headers) as one, live.client(alice.headers) as two:
        first = one.send(
            one.build_request("POST", "/v1/chat/completions", json=STREAMED), stream=True
        )
        first_lines = first.iter_lines()
        next(first_lines)
        second = two.send(
            two.build_request("POST", "/v1/chat/completions", json=STREAMED), stream=True
        )
        lines = second.iter_lines()
        next(lines)
        first.close()
        sent = provider.requests[0].frames_sent
        wait_until(lambda: provider.requests[0].frames_sent > sent + 5)
        assert not provider.requests[0].is_abandoned
        second.close()
    wait_until(lambda: provider.requests[0].is_abandoned)
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    assert len(provider.requests) == 1
    assert verification.verify() == []
    assert "X-Cache" not in post(live, alice, {**STREAMED, "max_tokens": 49}).headers


def test_a_failure_is_shared_by_those_who_joined_and_is_not_kept(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(status=400, first_delay=1)
    assert {answer.status_code for answer in together(live, alice, CACHED, 4)} == {422}
    assert len(provider.requests) == 1
    provider.default = Reply()
    healed = post(live, alice)
    assert (healed.status_code, healed.headers.get("X-Cache")) == (200, None)
    assert set(prices()) == {"0", FULL_PRICE}
    assert verification.verify() == []


def test_a_cut_answer_is_not_kept(live: Live, alice: Company, provider: ProviderServer) -> None:
    provider.script(Reply(cut_after=3))
    assert '"error"' in post(live, alice, STREAMED).text
    again = post(live, alice, STREAMED)
    assert "X-Cache" not in again.headers
    assert "[DONE]" in again.text


def test_an_answer_longer_than_the_cap_is_not_kept(
    live: Live, alice: Company, provider: ProviderServer, settings: Any
) -> None:
    settings.CACHE_ENTRY_BYTES = 200
    provider.default = Reply(text="long " * 200)
    assert [post(live, alice).headers.get("X-Cache") for _ in range(2)] == [None, None]


def test_a_hit_needs_credits_and_a_right_to_call_like_any_call(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    full = factories.plan("full", kind="markup", cache_hit_basis_points=10_000)
    factories.plans.assign(plan=full, team=alice.team, actor="test")
    post(live, alice)
    factories.ledger.adjust(
        account=factories.ledger.account_of(alice.team),
        amount_nanocredits=-100 * 10**9,
        reason="all of it",
        actor="test",
        idempotency_key="empty",
    )
    assert post(live, alice).status_code == 402
    Alias.objects.update(is_active=False)
    assert post(live, alice).status_code == 403


def test_what_is_kept_cannot_be_read_where_it_lies(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(text="marzipan")
    post(live, alice)
    kept = kept_texts()
    assert kept
    assert not any(b"marzipan" in text for text in kept)


def kept_texts() -> list[bytes]:
    """Everything this process keeps, as it lies in memory or in Redis."""
    store = cache.store()
    local = (
        [text.encode() for _, text in store._kept.values()] if isinstance(store, LocalStore) else []
    )
    client = redis.from_url(project.REDIS_URL) if project.REDIS_URL else None
    keys = client.keys(f"{project.REDIS_NAMESPACE}:answer:*") if client else []
    return local + [client.get(key) for key in keys]  # type: ignore[union-attr]


async def test_memory_holds_only_so_much_and_the_oldest_goes_first(settings: Any) -> None:
    settings.CACHE_LOCAL_BYTES = 10
    moments = [datetime(2026, 1, 1, tzinfo=UTC).timestamp()]
    store = LocalStore(now=lambda: moments[0])
    await store.put("a", "1234", 60)
    await store.put("b", "1234", 60)
    assert await store.get("a") == "1234"
    await store.put("c", "1234", 60)
    assert [await store.get(key) for key in "abc"] == ["1234", None, "1234"]
    moments[0] += 60
    assert [await store.get(key) for key in "abc"] == [None, None, None]
