"""Asking providers that speak OpenAI's own format with nothing between them and us.

litellm's client and stream wrapper cost milliseconds a call and half of one a frame, most of it
bookkeeping for others. Here litellm says what is to be sent (``mapping``) and one pooled session
sends it; what comes back as OpenAI sends it is read as the JSON it is, and anything else is told
to litellm again (``retelling``). None means: let litellm do all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import orjson

from jobs.gateway import boot, mapping, neutral, reading
from jobs.gateway.mapping import Request
from jobs.gateway.retelling import Said, retold
from jobs.gateway.types import FailureKind, ProviderFailure, Target
from jobs.usage import Usage

_AGENT = "AsyncOpenAI/Python"
_REDIRECTS = range(300, 400)
# litellm looks for thoughts in a text that begins like this.
_THOUGHTS = ("<think", "<budget")

# One for each event loop: the pool belongs to the loop it was made on.
_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


def _session() -> aiohttp.ClientSession | None:
    """A pool with litellm's own settings for pools (limits, keep-alive, TLS, DNS)."""
    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is not None and not session.closed:
        return session
    try:
        http = boot.litellm().llms.custom_httpx.http_handler
        tls = http.get_ssl_configuration()
        transport = http.AsyncHTTPHandler.create_async_transport(
            ssl_context=None if isinstance(tls, (bool, str)) else tls,
            ssl_verify=tls if isinstance(tls, bool) else None,
        )
        session = transport.get_valid_client_session()
    except AttributeError:
        return None
    if not isinstance(session, aiohttp.ClientSession):
        return None
    _sessions[loop] = session
    return session


async def close() -> None:
    """Close the running loop's pool."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()


async def post(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any], is_stream: bool
) -> aiohttp.ClientResponse | None:
    """The provider's response, with its body still to be read. Raises ProviderFailure.

    None also for a provider that points elsewhere: litellm asks anew, and knows which hosts may
    see the key.
    """
    await boot.ready()
    request = mapping.request(target=target, messages=messages, params=params, is_stream=is_stream)
    session = _session() if request is not None else None
    if request is None or session is None:
        return None
    try:
        response = await _sent(session, request, target.timeout_seconds)
    except (aiohttp.ClientError, OSError) as error:
        raise lost(error, target) from error
    if response.status in _REDIRECTS:
        response.close()
        return None
    return response


async def _sent(
    session: aiohttp.ClientSession, request: Request, seconds: float
) -> aiohttp.ClientResponse:
    return await session.post(
        request.url,
        data=request.body,
        headers={
            "Authorization": f"Bearer {request.api_key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": _AGENT,
        },
        timeout=aiohttp.ClientTimeout(
            total=None, connect=seconds, sock_connect=seconds, sock_read=seconds
        ),
        allow_redirects=False,
    )


async def said(response: aiohttp.ClientResponse, target: Target) -> Said:
    """The whole of a response, which is closed. Raises ProviderFailure."""
    try:
        body = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise lost(error, target) from error
    finally:
        response.release()
    return Said(status=response.status, headers=response.headers, body=body)


def lost(error: Exception, target: Target) -> ProviderFailure:
    """The failure for a connection that could not be made, broke, or stayed silent."""
    kind = FailureKind.TIMEOUT if isinstance(error, TimeoutError) else FailureKind.CONNECTION
    return ProviderFailure(kind, detail=reading.told(error, secret=target.api_key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """An answer that is as OpenAI sends it; without ``usage`` the provider told none."""

    choices: list[dict[str, Any]]
    usage: Usage | None
    provider_request_id: str
    created: int


async def answered(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any]
) -> Any:
    """A Plain answer; litellm's response for any other; None. Raises ProviderFailure."""
    response = await post(target=target, messages=messages, params=params, is_stream=False)
    if response is None:
        return None
    heard = await said(response, target)
    plain = _plain(heard)
    if plain is not None:
        return plain
    return await retold(target=target, messages=messages, params=params, said=heard)


def _plain(heard: Said) -> Plain | None:
    """None if there is anything in it that litellm would put right, or refuse."""
    if heard.status != 200:
        return None
    try:
        body = orjson.loads(heard.body)
        usage = usage_of(body.get("usage"))
    except (ValueError, TypeError, AttributeError):
        return None
    choices, created = body.get("choices"), body.get("created")
    if body.get("error") or type(created) is not int:
        return None
    if not isinstance(choices, list) or not choices or not all(map(_is_plain_choice, choices)):
        return None
    return Plain(
        # Counted anew, as litellm does.
        choices=[
            {
                "index": index,
                "message": neutral.message(choice["message"]),
                "finish_reason": _finish_reason(choice),
                **neutral.beside(choice),
            }
            for index, choice in enumerate(choices)
        ],
        usage=usage,
        provider_request_id=str(body.get("id") or ""),
        created=created,
    )


def _is_plain_choice(choice: Any) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return False
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or not reason:
        return False
    content = message.get("content")
    if content is not None and (not isinstance(content, str) or content.startswith(_THOUGHTS)):
        return False
    calls = message.get("tool_calls") or ()
    return isinstance(calls, (list, tuple)) and all(map(_is_plain_call, calls))


def _is_plain_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and call.get("type") in {None, "function"}
        and bool(call.get("id"))
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), str)
        # Several calls in the guise of one, which litellm takes apart.
        and function["name"] != "multi_tool_use.parallel"
    )


def _finish_reason(choice: Mapping[str, Any]) -> str:
    """Some say "stop" where a message calls tools."""
    reason = finish_reason(choice["finish_reason"])
    return "tool_calls" if reason == "stop" and choice["message"].get("tool_calls") else reason


def finish_reason(given: str) -> str:
    """OpenAI's word for a provider's."""
    if neutral.is_finish_reason(given):
        return given
    mapped: str = boot.litellm().litellm_core_utils.core_helpers.map_finish_reason(given)
    return mapped if neutral.is_finish_reason(mapped) else "stop"


def usage_of(given: Any) -> Usage | None:
    """A provider's own figures as litellm understands them; None: there are none.

    Raises ValueError or TypeError for what are none.
    """
    if not given:
        return None
    plain = reading.plain_usage(given)
    return plain if plain is not None else reading.usage(boot.litellm().Usage(**given))
