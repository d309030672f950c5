"""What may leave: OpenAI's own fields, by allow-list, with nothing that names who answered.

Given are litellm's objects, or a provider's own JSON where it is read beneath litellm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

_TEXTS = ("role", "content", "refusal", "reasoning_content")
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
    for name in _TEXTS:
        value = _field(given, name)
        if isinstance(value, str):
            kept[name] = value
    # Another name for it, and where litellm puts what it has no field for.
    if "reasoning_content" not in kept and isinstance(found := _field(given, "reasoning"), str):
        kept["reasoning_content"] = found
    if "refusal" not in kept and (beside := _field(given, "provider_specific_fields")):
        found = _field(beside, "refusal")
        if isinstance(found, str):
            kept["refusal"] = found
    tool_calls = _field(given, "tool_calls")
    if tool_calls:
        kept["tool_calls"] = [_tool_call(call) for call in tool_calls]
    return kept


def is_finish_reason(given: Any) -> bool:
    return isinstance(given, str) and given in _FINISH_REASONS


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


def beside(choice: Any) -> dict[str, Any]:
    """What a choice has beside its message, to be merged into it."""
    found = _field(choice, "logprobs")
    kept = logprobs(found) if found else None
    return {"logprobs": kept} if kept else {}


def text(kept: Mapping[str, Any]) -> str:
    """All that the model wrote in a message or a delta, for its tokenizer to count."""
    calls = kept.get("tool_calls") or ()
    parts = [kept.get("reasoning_content"), kept.get("content"), kept.get("refusal")]
    for call in calls:
        parts += [call["function"].get("name"), call["function"].get("arguments")]
    return "".join(part for part in parts if part)


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
    if (name := _field(function, "name")) is not None:
        kept["function"]["name"] = str(name)
    arguments = _field(function, "arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments) if arguments else ""
    kept["function"]["arguments"] = arguments
    return kept


def _logprob(given: Any) -> dict[str, Any]:
    return {name: _field(given, name) for name in ("token", "logprob", "bytes")}


def _tops(given: Any) -> Iterable[Any]:
    return _field(given, "top_logprobs") or ()


def _field(given: Any, name: str) -> Any:
    # The commonest first: asking an abstract class takes longer than reading the field.
    if type(given) is dict or isinstance(given, Mapping):
        return given.get(name)
    return getattr(given, name, None)
