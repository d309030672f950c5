"""OpenAI's Responses API, translated to OpenAI's chat and back. Pure, and without stored state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.dialects.responses_schema import (
    FunctionCallItem,
    FunctionOutputItem,
    FunctionTool,
    ImagePart,
    MessageItem,
    NamedTool,
    ReasoningItem,
    RefusalPart,
    ResponsesRequest,
    TextFormat,
    TextPart,
)
from jobs.models import Call

# Why a chat answer ended early, as a response says it.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def chat_messages(body: ResponsesRequest) -> list[dict[str, Any]]:
    """OpenAI's chat messages: instructions first; calls that follow one another are one message."""
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    for item in body.input:
        if isinstance(item, FunctionCallItem):
            _add_call(messages, item)
        elif isinstance(item, FunctionOutputItem):
            messages.append(_output(item))
        elif not isinstance(item, ReasoningItem):
            messages.append(_message(item))
    return messages


def chat_params(body: ResponsesRequest) -> dict[str, Any]:
    """OpenAI's chat fields, of what was sent."""
    given = {
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "tools": [_tool(tool) for tool in body.tools] if body.tools else None,
        "tool_choice": _tool_choice(body.tool_choice) if body.tools else None,
        "parallel_tool_calls": body.parallel_tool_calls if body.tools else None,
        "response_format": _response_format(body.text.format if body.text else None),
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "user": body.user,
    }
    return {name: value for name, value in given.items() if value is not None}


def answer(
    call: Call, choices: Sequence[Mapping[str, Any]], *, body: ResponsesRequest
) -> dict[str, Any]:
    """A whole response from a settled call's first choice."""
    choice = choices[0]
    message = choice["message"]
    output = []
    if message.get("content") or message.get("refusal") or not message.get("tool_calls"):
        parts = [part for part in (_said(message), _refused(message)) if part is not None]
        output.append(message_item(call, parts))
    for index, called in enumerate(message.get("tool_calls") or ()):
        function = called["function"]
        item = function_item(call, index, called["id"], function["name"])
        output.append({**item, "arguments": function.get("arguments") or "", "status": "completed"})
    return response(
        call, body=body, output=output, finish_reason=str(choice.get("finish_reason") or "stop")
    )


def response(
    call: Call,
    *,
    body: ResponsesRequest,
    output: list[dict[str, Any]],
    finish_reason: str = "",
) -> dict[str, Any]:
    """The object that answers, or begins a stream: without a finish reason it is in progress."""
    reason = _INCOMPLETE.get(finish_reason)
    status = "incomplete" if reason else "completed" if finish_reason else "in_progress"
    return {
        "id": f"resp_{call.pk.hex}",
        "object": "response",
        "created_at": int(call.created_at.timestamp()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": call.alias.name,
        "output": output,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": body.temperature,
        "text": _text_settings(body),
        "tool_choice": _tool_choice_told(body.tool_choice),
        "tools": [_tool_told(tool) for tool in body.tools or ()],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": usage_of(call) if finish_reason else None,
        "user": body.user,
    }


def usage_of(call: Call) -> dict[str, Any]:
    usage = call.usage or {}
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {
            "cached_tokens": usage.get("cached_tokens", 0),
            "cache_write_tokens": usage.get("cache_write_tokens", 0),
        },
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
        "total_tokens": call.total_tokens,
    }


def message_item(
    call: Call, parts: list[dict[str, Any]], status: str = "completed"
) -> dict[str, Any]:
    return {
        "id": f"msg_{call.pk.hex}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def function_item(call: Call, index: int, call_id: str, name: str) -> dict[str, Any]:
    return {
        "id": f"fc_{call.pk.hex}_{index}",
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


def _said(message: Mapping[str, Any]) -> dict[str, Any] | None:
    if message.get("refusal") and not message.get("content"):
        return None
    return text_part(message.get("content") or "")


def _refused(message: Mapping[str, Any]) -> dict[str, Any] | None:
    refusal = message.get("refusal")
    return refusal_part(refusal) if refusal else None


def _message(item: MessageItem) -> dict[str, Any]:
    if isinstance(item.content, str):
        return {"role": item.role, "content": item.content}
    if item.role == "assistant":
        refusals = [part.refusal for part in item.content if isinstance(part, RefusalPart)]
        texts = [part.text for part in item.content if isinstance(part, TextPart)]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
        return {**message, "refusal": "".join(refusals)} if refusals else message
    parts = [
        part.chat() if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
        for part in item.content
        if not isinstance(part, RefusalPart)
    ]
    return {"role": item.role, "content": parts}


def _add_call(messages: list[dict[str, Any]], item: FunctionCallItem) -> None:
    called = {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": item.arguments},
    }
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        last.setdefault("tool_calls", []).append(called)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [called]})


def _output(item: FunctionOutputItem) -> dict[str, Any]:
    output = item.output
    text = output if isinstance(output, str) else "".join(part.text for part in output)
    return {"role": "tool", "tool_call_id": item.call_id, "content": text}


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _tool_told(tool: FunctionTool) -> dict[str, Any]:
    return {**tool.model_dump(), "strict": tool.strict is not False}


def _tool_choice(choice: str | NamedTool | None) -> Any:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _tool_choice_told(choice: str | NamedTool | None) -> Any:
    return choice.model_dump() if isinstance(choice, NamedTool) else choice or "auto"


def _response_format(given: TextFormat | None) -> dict[str, Any] | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return {"type": "json_object"}
    schema = {
        "name": given.name or "answer",
        "schema": given.json_schema or {},
        "strict": given.strict,
        "description": given.description,
    }
    kept = {name: value for name, value in schema.items() if value is not None}
    return {"type": "json_schema", "json_schema": kept}


def _text_settings(body: ResponsesRequest) -> dict[str, Any]:
    given = body.text.format if body.text else None
    if given is None:
        return {"format": {"type": "text"}}
    return {"format": given.model_dump(by_alias=True, exclude_none=True)}
