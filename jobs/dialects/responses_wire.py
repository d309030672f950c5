"""A chat stream as the events of OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from jobs.dialects import responses
from jobs.dialects.responses_schema import ResponsesRequest
from jobs.models import Call
from saas_litellm.base import http
from saas_litellm.base.refusals import Refusal


class ResponsesWire:
    """Items open as the model turns to them, and all close at the end.

    Every event of an item says which one it is of, so that calls in parallel may interleave.
    """

    def __init__(self, call: Call, *, body: ResponsesRequest) -> None:
        self._call = call
        self._body = body
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        # Where the message and each tool call stand among the items.
        self._message: int | None = None
        self._tools: dict[int, int] = {}
        self._finish_reason = ""

    def opening(self) -> bytes:
        begun = responses.response(self._call, body=self._body, output=[])
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        written = b""
        for choice in choices:
            delta = choice["delta"]
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if delta.get("content"):
                written += self._said("output_text", delta["content"])
            if delta.get("refusal"):
                written += self._said("refusal", delta["refusal"])
            for called in delta.get("tool_calls") or ():
                written += self._called(called)
        return written

    def closing(self, call: Call) -> bytes:
        written = b"".join(self._close(place) for place in range(len(self._items)))
        whole = responses.response(
            call,
            body=self._body,
            output=self._items,
            finish_reason=self._finish_reason or "stop",
        )
        return written + self._event(f"response.{whole['status']}", response=whole)

    def error(self, refusal: Refusal) -> bytes:
        # The protocol's own fields, and the object by which the official clients know an error.
        told = {"code": refusal.code, "message": refusal.message, "param": refusal.param}
        return self._event("error", **told, error={**told, "type": refusal.type})

    def _said(self, kind: str, text: str) -> bytes:
        written = b""
        if self._message is None:
            self._message = len(self._items)
            written += self._add(responses.message_item(self._call, [], "in_progress"))
        item = self._items[self._message]
        field = "text" if kind == "output_text" else "refusal"
        place = next((n for n, part in enumerate(item["content"]) if part["type"] == kind), None)
        if place is None:
            place = len(item["content"])
            made = responses.text_part if kind == "output_text" else responses.refusal_part
            written += self._event(
                "response.content_part.added", **self._of(self._message, place), part=made("")
            )
            item["content"].append(made(""))
        item["content"][place][field] += text
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return written + self._event(
            f"response.{kind}.delta", **self._of(self._message, place), delta=text, **more
        )

    def _called(self, called: dict[str, Any]) -> bytes:
        index, function, written = called.get("index", 0), called["function"], b""
        if index not in self._tools:
            self._tools[index] = len(self._items)
            item = responses.function_item(
                self._call, len(self._tools) - 1, called.get("id") or "", function.get("name") or ""
            )
            written += self._add(item)
        arguments = function.get("arguments")
        if not arguments:
            return written
        place = self._tools[index]
        self._items[place]["arguments"] += arguments
        return written + self._event(
            "response.function_call_arguments.delta", **self._of(place), delta=arguments
        )

    def _add(self, item: dict[str, Any]) -> bytes:
        self._items.append(item)
        return self._event(
            "response.output_item.added", output_index=len(self._items) - 1, item=item
        )

    def _close(self, place: int) -> bytes:
        item, written = self._items[place], b""
        item["status"] = "completed"
        if item["type"] == "function_call":
            written += self._event(
                "response.function_call_arguments.done",
                **self._of(place),
                name=item["name"],
                arguments=item["arguments"],
            )
        for number, part in enumerate(item.get("content", ())):
            kind = part["type"]
            done = {"text": part["text"], "logprobs": []} if kind == "output_text" else part
            written += self._event(
                f"response.{kind}.done",
                **self._of(place, number),
                **{name: value for name, value in done.items() if name != "type"},
            )
            written += self._event(
                "response.content_part.done", **self._of(place, number), part=part
            )
        return written + self._event("response.output_item.done", output_index=place, item=item)

    def _of(self, place: int, part: int | None = None) -> dict[str, Any]:
        named = {"item_id": self._items[place]["id"], "output_index": place}
        return named if part is None else {**named, "content_index": part}

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + http.encode(body) + b"\n\n"
