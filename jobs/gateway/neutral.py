"""What may leave: OpenAI's own fields, by allow-list, with nothing that names who answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


def message(given: Any) -> dict[str, Any]:
    """A whole message; content may be null."""
    kept = delta(given)
    for call in kept.get("tool_calls", ()):
        call.pop("index", None)
    return {"role": "assistant", "content": None, **kept}


def delta(given: Any) -> dict[str, Any]:
    """The part of a message that a chunk brings: only fields that are there."""
    kept: dict[str, Any] = {}
    for name in ("role", "content", "refusal", "reasoning_content"):
        value = getattr(given, name, None)
        if isinstance(value, str):
            kept[name] = value
    tool_calls = getattr(given, "tool_calls", None)
    if tool_calls:
        kept["tool_calls"] = [_tool_call(call) for call in tool_calls]
    return kept


def finish_reason(given: Any) -> str | None:
    if not given:
        return None
    return given if given in _FINISH_REASONS else "stop"


def logprobs(given: Any) -> dict[str, Any] | None:
    """Token log-probabilities as plain JSON, or None."""
    content = _field(given, "content")
    if not content:
        return None
    return {
        "content": [
            {**_logprob(token), "top_logprobs": [_logprob(top) for top in _tops(token)]}
            for token in content
        ]
    }


def tool_call_id(given: str) -> str:
    """A stable id of ours for a provider's: theirs tell who they are (``toolu_...``)."""
    return "call_" + hashlib.sha256(given.encode()).hexdigest()[:24]


def _tool_call(given: Any) -> dict[str, Any]:
    function = _field(given, "function")
    kept: dict[str, Any] = {"type": "function", "function": {}}
    index = _field(given, "index")
    if isinstance(index, int):
        kept["index"] = index
    identity = _field(given, "id")
    if identity:
        kept["id"] = tool_call_id(str(identity))
    for name in ("name", "arguments"):
        value = _field(function, name)
        if value is not None:
            kept["function"][name] = str(value)
    return kept


def _logprob(given: Any) -> dict[str, Any]:
    return {name: _field(given, name) for name in ("token", "logprob", "bytes")}


def _tops(given: Any) -> Iterable[Any]:
    return _field(given, "top_logprobs") or ()


def _field(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
