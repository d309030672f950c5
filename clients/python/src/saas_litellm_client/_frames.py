"""A stream's bytes as chunks, and what they add up to. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from saas_litellm_client import _refusals, errors
from saas_litellm_client.answers import CallCosts, ToolCall, Usage, message_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. ``tool_calls`` are OpenAI's deltas; ``index`` tells choices apart."""

    text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    index: int = 0


class StreamedAnswer:
    """What has arrived of a stream, of its first choice; ``usage`` and ``costs`` come at the end."""

    def __init__(self) -> None:
        self.job_id: UUID | None = None
        self.call_id: UUID | None = None
        self.finish_reason: str | None = None
        self.refusal: str | None = None
        self.usage: Usage | None = None
        self.costs: CallCosts | None = None
        self.is_complete = False
        self._texts: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._rest = b""

    @property
    def text(self) -> str:
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Those asked for, as far as they have arrived."""
        return [ToolCall.model_validate(self._tools[index]) for index in sorted(self._tools)]

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to go on with."""
        return message_of(self.text or None, self.tool_calls, self.refusal)

    def take(self, received: bytes) -> Iterator[Chunk]:
        """Raises ApiError for an error among the frames.

        Lines end with a line feed and with nothing else: a model may write any other character.
        """
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                yield from self._frame(value.strip())

    def end(self) -> None:
        """Raises StreamCut when the bytes ended before the stream did."""
        if not self.is_complete:
            raise errors.StreamCut("The connection ended before the stream did.")

    def _frame(self, value: bytes) -> Iterator[Chunk]:
        if value == b"[DONE]":
            self.is_complete = True
            return
        try:
            frame = json.loads(value, parse_float=Decimal)
        except ValueError:
            raise errors.UnexpectedAnswer("A frame of the stream is no JSON.") from None
        if "error" in frame:
            raise _refusals.of_envelope(frame["error"])
        self._learn(frame)
        for choice in frame.get("choices") or ():
            chunk = self._chunk(choice)
            if chunk is not None:
                yield chunk

    def _learn(self, frame: Mapping[str, Any]) -> None:
        if "call_id" in frame:
            self.job_id, self.call_id = UUID(frame["job_id"]), UUID(frame["call_id"])
        if frame.get("usage"):
            self.usage = Usage.model_validate(frame["usage"])
        if "costs" in frame:
            self.costs = CallCosts.model_validate(frame["costs"])

    def _chunk(self, choice: Mapping[str, Any]) -> Chunk | None:
        delta, index = choice.get("delta") or {}, choice.get("index", 0)
        text, tools = delta.get("content") or "", delta.get("tool_calls") or []
        reason = choice.get("finish_reason")
        if index == 0:
            self._texts += [text] if text else []
            self.finish_reason = reason or self.finish_reason
            if delta.get("refusal"):
                self.refusal = (self.refusal or "") + delta["refusal"]
            for piece in tools:
                self._add_to_tool(piece)
        if not (text or tools or reason):
            return None
        return Chunk(text=text, tool_calls=tools, finish_reason=reason, index=index)

    def _add_to_tool(self, piece: Mapping[str, Any]) -> None:
        started = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        tool = self._tools.setdefault(piece.get("index", 0), started)
        tool["id"] = piece.get("id") or tool["id"]
        called = piece.get("function") or {}
        tool["function"]["name"] = called.get("name") or tool["function"]["name"]
        tool["function"]["arguments"] += called.get("arguments") or ""
