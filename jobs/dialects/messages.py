"""Anthropic's Messages API, translated to OpenAI's chat and back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.dialects.messages_schema import (
    Block,
    ImageBlock,
    MessagesRequest,
    TextBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from jobs.models import Call
from saas_litellm.base import http
from saas_litellm.base.refusals import Refusal

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# Anthropic's error types by status; the rest of 5xx is api_error.
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# A thinking budget is a number of tokens there and an effort here: up to 4k low, up to 16k medium.
_EFFORTS = ((4_096, "low"), (16_384, "medium"))


def chat_messages(body: MessagesRequest) -> list[dict[str, Any]]:
    """OpenAI's messages: system first, tool results as messages of their own."""
    messages = []
    if body.system:
        system = body.system if isinstance(body.system, str) else _parts(body.system)
        messages.append({"role": "system", "content": system})
    for turn in body.messages:
        messages += _assistant(turn) if turn.role == "assistant" else _user(turn)
    return messages


def chat_params(body: MessagesRequest) -> dict[str, Any]:
    """OpenAI's fields, of what was sent."""
    choice = body.tool_choice
    given = {
        "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "stop": body.stop_sequences or None,
        "tools": [_tool(tool) for tool in body.tools] if body.tools else None,
        "tool_choice": _tool_choice(choice) if choice is not None else None,
        "reasoning_effort": _effort(body),
    }
    if choice is not None and choice.disable_parallel_tool_use is not None:
        given["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return {name: value for name, value in given.items() if value is not None}


def answer(call: Call, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole message from a settled call's first choice."""
    choice = choices[0]
    message = choice["message"]
    content: list[dict[str, Any]] = []
    text = message.get("content") or message.get("refusal")
    if text:
        content.append({"type": "text", "text": text})
    for called in message.get("tool_calls") or ():
        function = called["function"]
        content.append(
            {
                "type": "tool_use",
                "id": called["id"],
                "name": function["name"],
                "input": _input(function.get("arguments") or ""),
            }
        )
    has_tools = bool(message.get("tool_calls"))
    return {
        **_head(call),
        "content": content,
        "stop_reason": stop_reason(choice.get("finish_reason"), has_tools=has_tools),
        "usage": usage_of(call),
    }


def usage_of(call: Call) -> dict[str, int]:
    """Anthropic counts cache reads and writes beside the input, not in it."""
    usage = call.usage or {}
    cached, written = usage.get("cached_tokens", 0), usage.get("cache_write_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", 0) - cached - written,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.get("completion_tokens", 0),
    }


def stop_reason(finish_reason: Any, *, has_tools: bool) -> str:
    """Some providers say "stop" where a client waits to hear of tools."""
    if has_tools and finish_reason in {None, "stop"}:
        return "tool_use"
    return _STOP_REASONS.get(str(finish_reason), "end_turn")


def error_body(refusal: Refusal, *, request_id: str) -> dict[str, Any]:
    """Anthropic's error shape; our code, param and figures beside its own fields."""
    return {
        "type": "error",
        "error": {
            "type": _ERROR_TYPES.get(refusal.status, "api_error"),
            "message": refusal.message,
            "code": refusal.code,
            "param": refusal.param,
            **refusal.figures,
        },
        "request_id": request_id,
    }


class MessagesWire:
    """A stream as Anthropic's events.

    Blocks follow one another there and never interleave, while tool calls of a chat stream may:
    what comes for a later call waits until the earlier one has ended.
    """

    def __init__(self, call: Call, *, request_id: str) -> None:
        self._call = call
        self._request_id = request_id
        self._blocks = 0
        # The open block: None, "text", or the index of a tool call.
        self._open: str | int | None = None
        self._waiting: dict[int, list[dict[str, Any]]] = {}
        self._finish_reason: Any = None
        self._has_tools = False

    def opening(self) -> bytes:
        usage = {"input_tokens": self._call.estimated_prompt_tokens, "output_tokens": 1}
        start = {**_head(self._call), "content": [], "stop_reason": None, "usage": usage}
        return _events([{"type": "message_start", "message": start}])

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        events: list[dict[str, Any]] = []
        for choice in choices:
            delta = choice["delta"]
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            text = delta.get("content") or delta.get("refusal")
            if text:
                events += self._text(text)
            for called in delta.get("tool_calls") or ():
                events += self._tool(called)
        return _events(events)

    def closing(self, call: Call) -> bytes:
        events = self._close()
        for index in sorted(self._waiting):
            for called in self._waiting.pop(index):
                events += self._tool(called)
            events += self._close()
        reason = stop_reason(self._finish_reason, has_tools=self._has_tools)
        delta = {"stop_reason": reason, "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": usage_of(call)})
        events.append({"type": "message_stop"})
        return _events(events)

    def error(self, refusal: Refusal) -> bytes:
        return _events([error_body(refusal, request_id=self._request_id)])

    def _text(self, text: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if self._open != "text":
            events += self._close()
            events += self._start("text", {"type": "text", "text": ""})
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def _tool(self, called: dict[str, Any]) -> list[dict[str, Any]]:
        index, events = called.get("index", 0), list[dict[str, Any]]()
        self._has_tools = True
        if self._open != index:
            if isinstance(self._open, int):
                # Only the end of the stream tells that the open call is complete.
                self._waiting.setdefault(index, []).append(called)
                return []
            events += self._close()
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": called.get("id") or "",
                "name": called["function"].get("name") or "",
                "input": {},
            }
            events += self._start(index, block)
        arguments = called["function"].get("arguments")
        if arguments:
            events.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))
        return events

    def _start(self, what: str | int, block: dict[str, Any]) -> list[dict[str, Any]]:
        self._open = what
        return [{"type": "content_block_start", "index": self._blocks, "content_block": block}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _close(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        self._open = None
        self._blocks += 1
        return [{"type": "content_block_stop", "index": self._blocks - 1}]


def _events(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + http.encode(event) + b"\n\n"
        for event in events
    )


def _head(call: Call) -> dict[str, Any]:
    return {
        "id": f"msg_{call.pk.hex}",
        "type": "message",
        "role": "assistant",
        "model": call.alias.name,
        "stop_sequence": None,
    }


def _assistant(turn: Turn) -> list[dict[str, Any]]:
    if isinstance(turn.content, str):
        return [{"role": "assistant", "content": turn.content}]
    texts = [block for block in turn.content if isinstance(block, TextBlock)]
    called = [block for block in turn.content if isinstance(block, ToolUseBlock)]
    if not texts and not called:
        return []
    message: dict[str, Any] = {"role": "assistant", "content": _parts(texts) if texts else None}
    if called:
        message["tool_calls"] = [
            {
                "id": block.id,
                "type": "function",
                "function": {"name": block.name, "arguments": json.dumps(block.input)},
            }
            for block in called
        ]
    return [message]


def _user(turn: Turn) -> list[dict[str, Any]]:
    """Results of tools come before anything else that was said: they answer the turn before."""
    if isinstance(turn.content, str):
        return [{"role": "user", "content": turn.content}]
    results = [block for block in turn.content if isinstance(block, ToolResultBlock)]
    said = [block for block in turn.content if isinstance(block, (TextBlock, ImageBlock))]
    messages = [_result(block) for block in results]
    # A tool's message is text alone, so a picture that a tool made is shown by the user.
    pictures = [
        part
        for block in results
        if not isinstance(block.content, str)
        for part in block.content
        if isinstance(part, ImageBlock)
    ]
    if said or pictures:
        messages.append({"role": "user", "content": _parts([*pictures, *said])})
    return messages


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content = block.content
    if not isinstance(content, str):
        content = "\n".join(part.text for part in content if isinstance(part, TextBlock))
    if block.is_error:
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _parts(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    return [
        _picture(block) if isinstance(block, ImageBlock) else _text_part(block)
        for block in blocks
        if isinstance(block, (ImageBlock, TextBlock))
    ]


def _text_part(block: TextBlock) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "text", "text": block.text}
    if block.cache_control is not None:
        part["cache_control"] = block.cache_control
    return part


def _picture(block: ImageBlock) -> dict[str, Any]:
    source = block.source
    url = source.url or f"data:{source.media_type};base64,{source.data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return {"auto": "auto", "any": "required", "none": "none"}[choice.type]


def _effort(body: MessagesRequest) -> str | None:
    if body.thinking is None or body.thinking.type == "disabled":
        return None
    budget = body.thinking.budget_tokens or 0
    return next((effort for limit, effort in _EFFORTS if budget <= limit), "high")


def _input(arguments: str) -> dict[str, Any]:
    """A tool's arguments as an object; a model may write what is none."""
    try:
        parsed = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
