"""Anthropic's messages as OpenAI's chat, and a chat stream as Anthropic's events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.dialects import messages
from jobs.dialects.messages import MessagesWire
from jobs.dialects.messages_schema import MessagesRequest
from jobs.models import Call
from teams.models import Alias

pytestmark = pytest.mark.any_database

USAGE = {"prompt_tokens": 30, "cached_tokens": 10, "cache_write_tokens": 5, "completion_tokens": 7}


def body(**more: Any) -> MessagesRequest:
    given_: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
    given_ |= {"messages": [{"role": "user", "content": "hi"}], **more}
    return MessagesRequest.model_validate(given_)


def call() -> Call:
    made = Call(alias=Alias(name="chat"), estimated_prompt_tokens=3, usage=USAGE)
    made.created_at = datetime.now(UTC)
    return made


def events(*written: bytes) -> list[dict[str, Any]]:
    lines = b"".join(written).decode().split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_system_comes_first_and_results_of_tools_before_what_else_was_said() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny", "is_error": True}
    told = messages.chat_messages(
        body(
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "text", "text": "Let me look."},
                        {"type": "tool_use", "id": "t1", "name": "w", "input": {"a": 1}},
                    ],
                },
                {"role": "user", "content": [{"type": "text", "text": "thanks"}, result]},
            ],
        )
    )
    cached = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}
    function = {"name": "w", "arguments": '{"a": 1}'}
    assert told == [
        {"role": "system", "content": [cached]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me look."}],
            "tool_calls": [{"id": "t1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "Error: sunny"},
        {"role": "user", "content": [{"type": "text", "text": "thanks"}]},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "w", "disable_parallel_tool_use": True},
            {
                "tool_choice": {"type": "function", "function": {"name": "w"}},
                "parallel_tool_calls": False,
            },
        ),
    ],
)
def test_a_choice_of_tools_is_the_same_choice(choice: Any, expected: Any) -> None:
    params = messages.chat_params(body(tool_choice=choice))
    assert params == {"max_tokens": 9, **expected}


@pytest.mark.parametrize(
    ("budget", "effort"), [(1024, "low"), (4096, "low"), (4097, "medium"), (20_000, "high")]
)
def test_a_thinking_budget_is_an_effort(budget: int, effort: str) -> None:
    params = messages.chat_params(body(thinking={"type": "enabled", "budget_tokens": budget}))
    assert params["reasoning_effort"] == effort


def test_cached_tokens_are_counted_beside_the_input() -> None:
    assert messages.usage_of(call()) == {
        "input_tokens": 15,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "output_tokens": 7,
    }


def test_arguments_that_are_no_object_become_an_empty_one() -> None:
    function = {"name": "w", "arguments": "[1"}
    choice = {"message": {"tool_calls": [{"id": "c", "function": function}]}}
    assert messages.answer(call(), [choice])["content"][0]["input"] == {}


pieces = st.lists(st.text(min_size=1, max_size=5), max_size=4)


@given(said=pieces, tools=st.lists(pieces, max_size=3), order=st.randoms())
def test_no_split_of_text_and_parallel_calls_loses_anything(
    said: list[str], tools: list[list[str]], order: Any
) -> None:
    wire = MessagesWire(call(), request_id="r")
    deltas: list[dict[str, Any]] = [{"content": text} for text in said]
    starts: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for index, arguments in enumerate(tools):
        name = {"name": f"tool{index}", "arguments": ""}
        starts.append({"tool_calls": [{"index": index, "id": f"c{index}", "function": name}]})
        rest += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
            for part in arguments
        ]
    queues = [
        [one for one in rest if one["tool_calls"][0]["index"] == n] for n in range(len(tools))
    ]
    mixed: list[dict[str, Any]] = []
    while any(queues):
        mixed.append(order.choice([queue for queue in queues if queue]).pop(0))
    written = [wire.chunk([{"delta": delta}]) for delta in [*deltas, *starts, *mixed]]
    seen = events(wire.opening(), *written, wire.closing(call()))
    blocks: list[dict[str, Any]] = []
    open_block: int | None = None
    for event in seen:
        match event["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = event["index"]
                assert open_block == len(blocks)
                blocks.append({**event["content_block"], "all": ""})
            case "content_block_delta":
                assert event["index"] == open_block
                delta = event["delta"]
                blocks[-1]["all"] += delta.get("text") or delta.get("partial_json")
            case "content_block_stop":
                open_block = None
    assert open_block is None
    texts = "".join(block["all"] for block in blocks if block["type"] == "text")
    called = [(block["id"], block["all"]) for block in blocks if block["type"] == "tool_use"]
    assert texts == "".join(said)
    assert called == [(f"c{index}", "".join(parts)) for index, parts in enumerate(tools)]
    assert [event["type"] for event in seen[-2:]] == ["message_delta", "message_stop"]
