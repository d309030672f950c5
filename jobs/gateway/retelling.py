"""What a provider said, told to litellm again, which reads it as if it had asked itself.

Errors and everything else that is not quite as OpenAI sends it are read by litellm alone, so that
it makes no difference by which way the request went out. Nothing is sent for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.gateway import library, reading
from jobs.gateway.types import FailureKind, ProviderFailure, Target

# They told how the body came, which has been read.
_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A provider's answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def retold(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any], said: Said
) -> Any:
    """litellm's response for what was said. Raises ProviderFailure, as litellm takes it."""
    import httpx  # noqa: PLC0415 - comes with litellm, and takes as long
    import openai  # noqa: PLC0415

    headers = {
        name: value for name, value in said.headers.items() if name.lower() not in _OF_THE_TRANSFER
    }

    def tell(request: Any) -> Any:
        return httpx.Response(said.status, headers=headers, content=said.body)

    client = openai.AsyncOpenAI(
        api_key=target.api_key,
        base_url=target.api_base,
        http_client=httpx.AsyncClient(transport=httpx.MockTransport(tell)),
        max_retries=0,
    )
    asking = {"messages": messages, **params, "client": client}
    return await library.asked("acompletion", target, asking)


async def failure_of(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any], event: bytes
) -> ProviderFailure:
    """The failure that an event in the middle of a stream is."""
    said = Said(
        status=200,
        headers={"content-type": "text/event-stream"},
        body=b"".join(b"data: " + line + b"\n" for line in event.split(b"\n")) + b"\n",
    )
    try:
        response = await retold(target=target, messages=messages, params=params, said=said)
        async for _ in response:
            pass
    except ProviderFailure as failure:
        return failure
    except Exception as error:
        return reading.failure(error, secret=target.api_key)
    return ProviderFailure(FailureKind.GARBLED, detail="an event that nobody understands")
