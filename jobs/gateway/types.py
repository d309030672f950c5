"""What crosses the boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.usage import Usage

OUTPUT_FIELDS = ("content", "tool_calls", "refusal", "reasoning_content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes. The secret parts stay out of its repr."""

    model: str
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0


class FailureKind(StrEnum):
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    CONTEXT_WINDOW = "context_window"
    CONTENT_FILTERED = "content_filtered"
    RATE_LIMITED = "rate_limited"
    CREDENTIALS = "credentials"
    NOT_FOUND = "not_found"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER_ERROR = "server_error"
    GARBLED = "garbled"


class ProviderFailure(Exception):
    """A provider did not answer as asked. ``detail`` is for operators; ``str()`` shows none of it."""

    def __init__(
        self,
        kind: FailureKind,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        param: str | None = None,
        detail: str = "",
    ) -> None:
        self.kind = kind
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.param = param
        self.detail = detail
        # All of them, so that the exception survives pickling.
        super().__init__(kind, status, retry_after_seconds, param, detail)

    def __str__(self) -> str:
        return f"the provider failed: {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer: neutral OpenAI choices ``{index, message, finish_reason}`` and its usage."""

    choices: list[dict[str, Any]]
    usage: Usage
    provider_request_id: str
    created: int

    @property
    def has_output(self) -> bool:
        return any(has_output(choice["message"]) for choice in self.choices)

    @property
    def parts(self) -> Sequence[Any]:
        """What was delivered, as plain JSON."""
        return self.choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A vector for each text, in the order of the texts."""

    vectors: list[list[float]]
    usage: Usage
    provider_request_id: str
    # As an answer has them: an embedding says nothing, and is output all the same.
    choices: tuple[()] = ()
    has_output: bool = True

    @property
    def parts(self) -> Sequence[Any]:
        return self.vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Pictures, a transcript, speech or a ranking, as plain JSON; ``parts`` is never empty."""

    parts: Sequence[Any]
    usage: Usage
    provider_request_id: str = ""
    choices: tuple[()] = ()
    has_output: bool = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer: neutral chunk choices ``{index, delta, finish_reason}``."""

    choices: list[dict[str, Any]]
    has_output: bool


def has_output(message: Mapping[str, Any]) -> bool:
    return any(message.get(name) for name in OUTPUT_FIELDS)
