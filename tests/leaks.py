"""What must never leave, every team endpoint to ask, and a provider that babbles.

A provider's name, models, ids, headers, addresses, keys, prices and costs are marks; ``leaks``
finds them anywhere in an answer: in its headers, its body, its frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from saas_litellm.base.money import femto
from teams.prices import Rates, UnitPrices
from tests.providers.server import SECRET_MODEL, Reply

OPENAI_MODEL = "openai/gpt-4o-mini"
ANTHROPIC_MODEL = "anthropic/claude-3-5-haiku-20241022"
EMBEDDING_MODEL = "openai/text-embedding-3-small"
# Prices whose digits mean nothing else. 137 tokens in and 29 out cost 1,478,661 nano-USD.
SHEET = UnitPrices(
    base=Rates(
        input=femto("0.000007919137"),
        output=femto("0.000013577219"),
        cached_read=femto("0.000001299709"),
    )
)
UNIT_SHEET = UnitPrices(base=Rates(input=0, output=0), per_unit=femto("0.040379113"))
USAGE = {
    "prompt_tokens": 137,
    "completion_tokens": 29,
    "total_tokens": 166,
    "cost": 0.001478661,
    "cost_details": {"upstream_inference_cost": 0.001478661},
}
FIGURES = ("7919137", "13577219", "1299709", "1478661")
NAMES = [
    "openai",
    "anthropic",
    "claude",
    "gpt-",
    "azure",
    "gemini",
    "vertex",
    "google",
    "palm",
    "mistral",
    "groq",
    "grok",
    "cohere",
    "bedrock",
    "amazon",
    "aws_",
    "deepseek",
    "fireworks",
    "openrouter",
    "perplexity",
    "ollama",
    "huggingface",
    "llama",
    "nvidia",
    "databricks",
    "litellm",
]
MARKS = (
    SECRET_MODEL,
    "4o-mini",
    "3-5-haiku",
    "text-embedding",
    "dall-e",
    "tts-1",
    "whisper",
    "rerank-v3",
    "chatcmpl-provider",
    "msg_provider",
    "toolu_",
    "fp_secret",
    "system_fingerprint",
    'service_tier":"scale',
    "sk-upstream",
    "sk-other",
    "org-upstream",
    "req-upstream",
    "upstream",
    "provider_specific",
    "stop_details",
)
# A word of the above that an answer may have, where, and why.
EXEMPT: tuple[tuple[str, str, str], ...] = ()
# Every header that an answer may have; one that is not here is a leak.
HEADERS = frozenset(
    {
        # HTTP's own, and those of every answer of Django's security middleware.
        *("date", "content-type", "content-length", "transfer-encoding", "cache-control", "vary"),
        *("allow", "connection", "www-authenticate", "retry-after", "x-accel-buffering"),
        *("x-frame-options", "x-content-type-options", "referrer-policy"),
        "cross-origin-opener-policy",
        # Ours, in the contract.
        *("x-request-id", "x-job-id", "x-call-id", "x-credits-charged", "x-credits-remaining"),
        *("x-cache", "idempotent-replayed"),
        *(
            f"x-ratelimit-{what}-{of}"
            for what in ("limit", "remaining", "reset")
            for of in ("requests", "tokens")
        ),
    }
)
# What a provider says about itself, on every answer and in every frame of it.
BABBLE: dict[str, Any] = {
    "headers": {
        "x-request-id": "req-upstream-1",
        "request-id": "req-upstream-1",
        "openai-organization": "org-upstream",
        "openai-processing-ms": "777",
        "anthropic-organization-id": "org-upstream",
        "x-ratelimit-limit-requests": "7777777",
        "x-ratelimit-remaining-tokens": "7777777",
        "anthropic-ratelimit-tokens-limit": "7777777",
        "cf-ray": "upstream-ray",
        "set-cookie": "__cf_bm=upstream",
        "server": "upstream",
    },
    "more": {
        "provider": "OpenAI upstream",
        "system_fingerprint": "fp_secret",
        "service_tier": "scale",
        "x_groq": {"id": "req-upstream-1"},
        "citations": ["https://upstream.example/"],
        "request_id": "req-upstream-1",
    },
    "beside": {
        "provider_specific_fields": {"provider": "azure", "cost": 0.001478661},
        "reasoning_details": [{"provider": "mistral"}],
    },
    "usage": USAGE,
}
TOOL = {"name": "weather", "input": {"city": "Bern"}}


def babble(**more: Any) -> Reply:
    return Reply(**{**BABBLE, **more})


def fault(status: int, said: str = "refused", code: str = "x", **more: Any) -> Reply:
    """A failure whose text names everything: model, key, address, organization, price."""
    message = (
        f"{said} OpenAI Anthropic litellm {SECRET_MODEL} gpt-4o-mini claude-3-5-haiku sk-upstream-secret"
        " org-upstream https://api.upstream.example:8443/v1 req-upstream-1 at $7.919137"
    )
    error = {
        "message": message,
        "type": "invalid_request_error",
        "code": code,
        "param": "upstream_param",
    }
    body = {"type": "error", "error": error, "request_id": "req-upstream-1"}
    return Reply(status=status, fault=body, headers=BABBLE["headers"], **more)


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the provider does; ``says`` is in every answer then, whatever the path."""

    name: str
    reply: Reply
    says: str = ""
    # Not every protocol tells why it refuses: some answers may say only this.
    or_says: str = ""
    seconds: float = 5.0


_FAILED, _LATE = "failed to answer", "did not answer in time"
BEHAVIOURS = (
    Behaviour(name="answers", reply=babble()),
    Behaviour(name="calls a tool", reply=babble(tool=TOOL, finish_reason="tool_calls")),
    Behaviour(name="is cut short", reply=babble(finish_reason="length")),
    Behaviour(name="filters its answer", reply=babble(finish_reason="content_filter")),
    Behaviour(name="ends strangely", reply=babble(finish_reason="upstream_reason")),
    Behaviour(name="tells no usage", reply=babble(usage=None)),
    Behaviour(name="400", reply=fault(400), says="cannot take this request"),
    Behaviour(name="401", reply=fault(401), says=_FAILED),
    Behaviour(name="402", reply=fault(402), says=_FAILED),
    Behaviour(name="403", reply=fault(403), says=_FAILED),
    Behaviour(name="404", reply=fault(404), says=_FAILED),
    Behaviour(name="429", reply=fault(429, retry_after=7), says="overloaded"),
    Behaviour(name="500", reply=fault(500), says=_FAILED),
    Behaviour(name="503", reply=fault(503), says=_FAILED),
    Behaviour(
        name="content filter",
        reply=fault(400, "content_policy_violation: content management policy", "content_filter"),
        says="content filter",
        or_says="cannot take this request",
    ),
    Behaviour(
        name="context window",
        reply=fault(
            400,
            "prompt is too long; this model's maximum context length is 4097 tokens",
            "context_length_exceeded",
        ),
        says="too long",
        or_says="cannot take this request",
    ),
    Behaviour(name="garbled", reply=babble(garbage=True), says=_FAILED),
    Behaviour(name="cut", reply=babble(text="a b c d e f", cut_after=4), says=_FAILED),
    Behaviour(name="late", reply=babble(first_delay=1.5), says=_LATE, seconds=0.5),
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A whole answer, and the request that it answers."""

    what: str
    status: int
    headers: list[tuple[str, str]] = field(repr=False)
    body: str

    @property
    def text(self) -> str:
        told = "\n".join(f"{name}: {value}" for name, value in self.headers)
        return f"{self.status}\n{told}\n{self.body}"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request to an endpoint, which is named as the schema names it."""

    endpoint: str
    body: dict[str, Any] | None = None
    query: str = ""
    # Sent as a form then, not as JSON.
    file: bytes | None = None

    def put(
        self,
        http: httpx.Client,
        *,
        job: str,
        team: str = "alice",
        endpoint: int = 1,
        delivery: int = 1,
        note: str = "",
        **request: Any,
    ) -> Shown:
        method, _, path = self.endpoint.partition(" ")
        more = request.pop("body", {})
        sent: dict[str, Any] = {} if self.body is None else {"json": {**self.body, **more}}
        if self.file is not None:
            sent = {"data": sent["json"], "files": {"file": ("a.mp3", self.file)}}
        answer = http.request(
            request.pop("method", method),
            path.format(
                job_id=job,
                team_id=team,
                payment_id=job,
                name="chat",
                endpoint_id=endpoint,
                delivery_id=delivery,
            )
            + self.query,
            **{**sent, **request},
        )
        return Shown(
            what=f"{self.endpoint} {note}",
            status=answer.status_code,
            headers=answer.headers.multi_items(),
            body=answer.text,
        )


_SAID = [{"role": "user", "content": "Hello"}]
_MADE = {"team_id": "alice", "job_type": "letter"}
_CHAT = {"model": "chat", "messages": _SAID, "max_tokens": 50}
_RESPONSE = {"model": "chat", "input": "Hello", "max_output_tokens": 50}
CALLS = (
    Ask(endpoint="POST /api/jobs/{job_id}/llm-call", body=_CHAT),
    Ask(endpoint="POST /api/jobs/{job_id}/llm-call-stream", body=_CHAT),
    Ask(endpoint="POST /api/jobs/create-and-call", body={**_MADE, **_CHAT}),
    Ask(endpoint="POST /api/jobs/create-and-call-stream", body={**_MADE, **_CHAT}),
    Ask(endpoint="POST /v1/chat/completions", body=_CHAT),
    Ask(
        endpoint="POST /v1/chat/completions",
        body={**_CHAT, "stream": True, "stream_options": {"include_usage": True}},
    ),
    Ask(endpoint="POST /v1/messages", body=_CHAT),
    Ask(endpoint="POST /v1/messages", body={**_CHAT, "stream": True}),
    Ask(endpoint="POST /v1/responses", body=_RESPONSE),
    Ask(endpoint="POST /v1/responses", body={**_RESPONSE, "stream": True}),
)
EMBEDDING = Ask(endpoint="POST /v1/embeddings", body={"model": "embed", "input": "Hello"})
MEDIA = (
    Ask(endpoint="POST /v1/images/generations", body={"model": "draw", "prompt": "a house"}),
    Ask(
        endpoint="POST /v1/audio/speech",
        body={"model": "speak", "input": "Hello", "voice": "alloy"},
    ),
    Ask(endpoint="POST /v1/audio/transcriptions", body={"model": "hear"}, file=b"a sound" * 300),
    Ask(
        endpoint="POST /v1/rerank",
        body={"model": "rank", "query": "Hello", "documents": ["one", "two"]},
    ),
)
MEDIA_MODELS = {
    "draw": ("image", "openai/dall-e-3"),
    "speak": ("speech", "openai/tts-1-hd"),
    "hear": ("transcription", "openai/whisper-1"),
    "rank": ("rerank", "cohere/rerank-v3.5"),
}
# In an order in which all of them succeed.
OTHERS = (
    Ask(endpoint="POST /api/jobs/create", body=_MADE),
    Ask(endpoint="POST /api/jobs/quote", body={"job_type": "letter", "messages": _SAID}),
    Ask(endpoint="GET /api/jobs/{job_id}"),
    Ask(endpoint="PATCH /api/jobs/{job_id}/metadata", body={"metadata": {"a": 1}}),
    Ask(endpoint="GET /api/jobs/{job_id}/costs"),
    Ask(endpoint="GET /api/teams/{team_id}/jobs"),
    Ask(endpoint="GET /api/teams/{team_id}/usage", query="?group_by=job_type"),
    Ask(endpoint="GET /api/credits/teams/{team_id}/balance"),
    Ask(endpoint="GET /api/credits/teams/{team_id}/transactions"),
    Ask(endpoint="POST /api/credits/teams/{team_id}/check", body={"credits_needed": 1}),
    Ask(endpoint="GET /v1/models"),
    Ask(endpoint="GET /v1/models/{name}"),
    Ask(endpoint="POST /api/jobs/{job_id}/complete", body={}),
    # It ends with the job.
    Ask(endpoint="GET /api/jobs/{job_id}/events"),
)
_ENDPOINT = "/api/webhooks/{endpoint_id}"
_DELIVERY = f"{_ENDPOINT}/deliveries/{{delivery_id}}"
# The same.
WEBHOOKS = (
    Ask(
        endpoint="POST /api/webhooks",
        body={"url": "https://app.example.com/hooks", "types": ["*"]},
    ),
    Ask(endpoint="GET /api/webhooks"),
    Ask(endpoint="GET /api/webhooks/event-types"),
    Ask(endpoint=f"GET {_ENDPOINT}"),
    Ask(endpoint=f"PATCH {_ENDPOINT}", body={"description": "ours"}),
    Ask(endpoint=f"POST {_ENDPOINT}/rotate-secret", body={}),
    Ask(endpoint=f"POST {_ENDPOINT}/test", body={}),
    Ask(endpoint=f"POST {_ENDPOINT}/replay", body={"from_id": 1}),
    Ask(endpoint=f"GET {_ENDPOINT}/deliveries"),
    Ask(endpoint=f"GET {_DELIVERY}"),
    Ask(endpoint=f"POST {_DELIVERY}/resend", body={}),
    Ask(endpoint=f"DELETE {_ENDPOINT}"),
)
# Where credits are not sold online each is a 404; tests/payments has the answers where they are.
SALES = (
    Ask(endpoint="GET /api/credits/packages"),
    Ask(endpoint="POST /api/credits/checkout", body={"package_id": 1}),
    Ask(endpoint="GET /api/credits/payments/{payment_id}"),
)
CANCEL = Ask(endpoint="POST /api/jobs/{job_id}/cancel", body={"reason": "enough"})
ASKS = (*CALLS, EMBEDDING, *MEDIA, *OTHERS, *WEBHOOKS, *SALES, CANCEL)


def leaks(shown: Iterable[Shown], *, also: Iterable[str] = ()) -> list[str]:
    """Every mark in the answers, with where it stands. ``also``: more marks, such as figures."""
    words = [*NAMES, *MARKS, *FIGURES, *also]
    found: list[str] = []
    for answer in shown:
        text = _without_exempt(answer)
        found += [
            f"{answer.what} has the header {name}"
            for name, _ in answer.headers
            if name not in HEADERS
        ]
        # 0.001478661 and 1,478,661 are the same figure.
        for place in (text, re.sub(r"(?<=\d)[.,_](?=\d)", "", text)):
            found += [
                f"{answer.what} says {word!r}: ...{_around(place, word)}..."
                for word in words
                if word.lower() in place.lower()
            ]
    return found


def _without_exempt(answer: Shown) -> str:
    text = answer.text
    for endpoint, words, _ in EXEMPT:
        if answer.what.startswith(endpoint):
            text = text.replace(words, "")
    return text


def _around(text: str, word: str) -> str:
    at = text.lower().index(word.lower())
    return text[max(0, at - 60) : at + 60]
