"""The Python client's streams, and objects out of words, whole and while they arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from billing.models import Entry
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm_client import Retries, errors
from saas_litellm_client._frames import StreamedAnswer
from tests.clients.flaky import Flaky
from tests.conftest import wait_until
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database


def test_chunks_arrive_and_at_the_end_usage_and_costs(client: Any) -> None:
    with client.job("letter") as job:
        stream = job.stream("Hello", max_tokens=50)
        assert stream.usage is None
        texts = [chunk.text for chunk in stream]
    assert texts[:3] == ["Hello ", "from ", "afar "]
    assert stream.text == "Hello from afar "
    assert stream.message == {"role": "assistant", "content": "Hello from afar "}
    assert (stream.usage.prompt_tokens, stream.usage.total_tokens) == (100, 120)
    assert (stream.finish_reason, stream.job_id) == ("stop", job.id)
    assert stream.call_id == job.closed.calls[0].call_id
    assert stream.costs.credits == job.closed.costs.credits_charged
    with pytest.raises(RuntimeError, match="once"):
        list(stream)
    assert verification.verify() == []


def test_words_may_hold_every_character(client: Any, provider: ProviderServer) -> None:
    strange = "line\u2028separator\x85and\x0bothers\u2029é🎈\r\n"
    provider.script(Reply(text=strange))
    assert "".join(chunk.text for chunk in client.stream("letter", "Hello")) == f"{strange} "


def test_frames_may_be_cut_anywhere() -> None:
    frame = {"choices": [{"index": 0, "delta": {"content": "é🎈"}}]}
    sent = f": keep-alive\n\ndata: {json.dumps(frame, ensure_ascii=False)}\r\n\r\ndata: [DONE]\n\n"
    answer = StreamedAnswer()
    chunks = [chunk for byte in sent.encode() for chunk in answer.take(bytes([byte]))]
    assert [chunk.text for chunk in chunks] == ["é🎈"]
    answer.end()
    with pytest.raises(errors.StreamCut):
        StreamedAnswer().end()
    with pytest.raises(errors.UnexpectedAnswer):
        list(StreamedAnswer().take(b"data: {\n"))


@pytest.mark.parametrize("way", ["loop", "with", "job"])
def test_leaving_early_stops_the_model_and_charges_what_it_said(
    client: Any, provider: ProviderServer, way: str
) -> None:
    provider.script(Reply(text="word " * 200, frame_delay=0.05))
    with client.job("letter") as job:
        stream = job.stream("Hello")
        if way == "loop":
            for _ in stream:
                break
        elif way == "with":
            with stream:
                pass
        else:
            stream.open()
    wait_until(lambda: provider.requests[0].is_abandoned)
    assert provider.requests[0].frames_sent < 100
    assert Job.objects.get().status == "completed"
    assert Call.objects.get().status == "settled"
    assert verification.verify() == []


def test_tools_are_put_together(client: Any, provider: ProviderServer) -> None:
    tools = [{"name": "a", "input": {"x": "1"}}, {"name": "b", "input": {"y": [2]}}]
    provider.script(Reply(tools=tools, finish_reason="tool_calls"))
    asked = [{"type": "function", "function": {"name": name}} for name in "ab"]
    with client.job("agent") as job, job.stream("Hello", tools=asked) as stream:
        deltas = [delta for chunk in stream for delta in chunk.tool_calls]
    assert [(tool.name, tool.arguments) for tool in stream.tool_calls] == [
        ("a", {"x": "1"}),
        ("b", {"y": [2]}),
    ]
    assert len(deltas) == 6
    assert stream.message["content"] is None
    assert stream.message["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"x": "1"}'}


def test_a_refusal_comes_before_the_first_chunk(client: Any) -> None:
    with client.job("letter") as job:
        with pytest.raises(errors.ModelNotAllowed), job.stream("Hello", model="no-such"):
            pass
        with pytest.raises(errors.ModelNotAllowed):
            next(iter(job.stream("Hello", model="no-such")))


def test_a_failure_of_the_model_after_that_is_the_servers_error(
    client: Any, provider: ProviderServer
) -> None:
    provider.script(Reply(text="one two three four five", cut_after=4))
    heard = []
    with pytest.raises(errors.ProviderError) as failed, client.job("letter") as job:
        for chunk in job.stream("Hello"):
            heard.append(chunk.text)  # noqa: PERF401 - what came before the failure counts
    assert heard[:2] == ["one ", "two "]
    assert failed.value.request_id.startswith("req_")
    assert Job.objects.get().error_message == "ProviderError"


def test_a_lost_connection_is_a_cut_stream_and_is_charged_once(
    connect: Callable[..., Any], flaky: Flaky
) -> None:
    client = connect(base_url=flaky.url)
    with client.job("letter") as job:
        flaky.do("cut the answer")
        with pytest.raises(errors.StreamCut):
            list(job.stream("Hello", idempotency_key="again"))
        # Asked for again by its own key it comes again, and is not charged again.
        assert "".join(chunk.text for chunk in job.stream("Hello", idempotency_key="again"))
    assert Entry.objects.filter(kind="charge").count() == 1
    assert verification.verify() == []


class Risk(BaseModel):
    clause: str
    level: Literal["low", "high"]


class Review(BaseModel):
    title: str
    risks: list[Risk] = []


GOOD = '{"title": "Lease", "risks": [{"clause": "4", "level": "high"}]}'
BAD = '{"title": "Lease", "risks": [{"clause": "4", "level": "huge"}]}'
LEASE = Review(title="Lease", risks=[Risk(clause="4", level="high")])


@pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```"])
def test_an_object_is_asked_for_by_its_schema_and_validated(
    client: Any, provider: ProviderServer, text: str
) -> None:
    provider.script(Reply(text=text))
    with client.job("review") as job:
        assert job.structured(Review, "Review it.", max_tokens=99) == LEASE
    sent = provider.requests[0].json
    assert sent["response_format"]["json_schema"]["name"] == "Review"
    assert "Risk" in sent["response_format"]["json_schema"]["schema"]["$defs"]
    assert sent["max_tokens"] == 99


def test_what_does_not_fit_is_sent_back_with_what_is_wrong(
    client: Any, provider: ProviderServer
) -> None:
    provider.script(Reply(text="No JSON."), Reply(text=BAD), Reply(text=GOOD))
    with client.job("review") as job:
        assert job.structured(Review, "Review it.") == LEASE
    assert job.closed.costs.total_calls == 3
    *_, answered, repair = provider.requests[2].json["messages"]
    assert answered == {"role": "assistant", "content": BAD}
    assert "- risks.0.level: Input should be 'low' or 'high'" in repair["content"]


def test_repairs_are_bounded(client: Any, provider: ProviderServer) -> None:
    provider.default = Reply(text=BAD)
    with client.job("review") as job:
        with pytest.raises(errors.NotStructured) as failed:
            job.structured(Review, "Review it.", repairs=1)
        job.complete()
    assert failed.value.text == BAD
    assert failed.value.problems == ["risks.0.level: Input should be 'low' or 'high'"]
    assert "Lease" not in str(failed.value)
    assert job.closed.costs.total_calls == 2


def test_an_object_grows_while_it_arrives(client: Any, provider: ProviderServer) -> None:
    provider.script(Reply(text=GOOD))
    with client.job("review") as job:
        stream = job.stream_structured(Review, "Review it.")
        grown = list(stream)
        assert stream.result() == LEASE
    assert grown[0] == {"title": "Lease"}
    assert {"title": "Lease", "risks": [{"clause": "4"}]} in grown
    assert grown[-1] == LEASE.model_dump()
    assert stream.stream.usage.total_tokens == 120


def test_a_streamed_object_is_repaired_at_its_end(client: Any, provider: ProviderServer) -> None:
    provider.script(Reply(text=BAD), Reply(text=GOOD))
    with client.job("review") as job, job.stream_structured(Review, "Review it.") as stream:
        assert stream.result() == LEASE
    assert len(provider.requests) == 2
    assert provider.requests[1].json.get("stream") is None


def test_an_object_that_nobody_waits_for_stops_the_model(
    connect: Callable[..., Any], provider: ProviderServer
) -> None:
    provider.script(Reply(text=f'{{"title": "{"word " * 200}"}}', frame_delay=0.05))
    with connect(retries=Retries(count=1)).job("review") as job:
        for grown in job.stream_structured(Review, "Review it."):
            assert grown["title"].startswith("word")
            break
        job.cancel()
    wait_until(lambda: provider.requests[0].is_abandoned)
