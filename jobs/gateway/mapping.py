"""What litellm would send to a provider that speaks OpenAI's own format, without its client.

The mapping is litellm's, step by step as its ``completion`` takes them: which provider a model
string means, which parameters it supports and by what name, what becomes of messages. What comes
out is what its client would post (a contract test compares the two). Whatever is not certain to be
as plain as that is left to litellm as a whole, and so is everything if an upgrade has moved a step.
"""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from jobs.gateway.boot import litellm
from jobs.gateway.types import Target

logger = logging.getLogger(__name__)

# Providers whose requests litellm sends through OpenAI's client with nothing of its own added.
PROVIDERS = frozenset({"openai"})
# What we let callers send; anything else is for litellm to judge.
PARAMETERS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    }
)
# Each would add a header, or another way to sign in.
_ENVIRONMENT = (
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER",
    "OPENAI_ADMIN_KEY",
    "OPENAI_CUSTOM_HEADERS",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
)
# Mapped parameters that are kept: this many, and none of more bytes than that.
KEPT_PLANS = 512
KEPT_PLAN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST that is ready to be sent: the key goes into its Authorization header."""

    url: str
    api_key: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What of a request does not depend on its messages."""

    url: str
    model: str
    config: Any
    optional: dict[str, Any]
    about: dict[str, Any]
    fixed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """litellm's own functions, in the order in which they are taken."""

    get_llm_provider: Any
    provider_config: Any
    api_base: Any
    is_bridged: Any
    tools: Any
    claude_tools: Any
    tool_choice: Any
    stop: Any
    optional_params: Any
    messages: Any


@lru_cache(maxsize=1)
def steps() -> Steps | None:
    """None if this release of litellm has no longer one of them."""
    library = litellm()
    try:
        main, utils = library.main, library.utils
        return Steps(
            library.get_llm_provider,
            utils.ProviderConfigManager.get_provider_chat_config,
            main._resolve_openai_api_base,
            main.responses_api_bridge_check,
            utils.validate_and_fix_openai_tools,
            main._drop_anthropic_only_tool_keys,
            utils.validate_chat_completion_tool_choice,
            utils.validate_openai_optional_params,
            utils.get_optional_params,
            utils.validate_and_fix_openai_messages,
        )
    except AttributeError as error:
        logger.warning("litellm sends all requests itself: %s", error)
        return None


def request(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any], is_stream: bool
) -> Request | None:
    """The request as litellm would send it; None: litellm has to, or to say what is wrong."""
    if not target.api_key or target.extra or not params.keys() <= PARAMETERS:
        return None
    known = steps()
    if known is None:
        return None
    try:
        plan = _plan(known, target, params, is_stream=is_stream)
        if plan is None:
            return None
        mapped = plan.config.translate_developer_role_to_system_role(known.messages(list(messages)))
        body = plan.config.transform_request(
            plan.model, mapped, dict(plan.optional), plan.about, {}
        )
        extra = body.pop("extra_body", None) or {}
        encoded = orjson.dumps({**body, **plan.fixed, **extra})
    except Exception as error:  # litellm's own path says what is wrong, in its own words
        logger.debug("left to litellm: %s", type(error).__name__)
        return None
    return Request(url=plan.url, api_key=target.api_key, body=encoded)


_plans: OrderedDict[bytes, _Plan | None] = OrderedDict()


def forget() -> None:
    """Map everything anew, by the steps as they are now."""
    _plans.clear()
    steps.cache_clear()


def _plan(
    known: Steps, target: Target, params: Mapping[str, Any], *, is_stream: bool
) -> _Plan | None:
    """Kept by a digest: parameters may hold what a caller would not want to lie about."""
    told = orjson.dumps([target.model, target.api_base, is_stream, params])
    key = hashlib.blake2b(told, digest_size=16).digest()
    if key in _plans:
        _plans.move_to_end(key)
        return _plans[key]
    plan = _made(known, target, dict(params), is_stream=is_stream)
    if len(told) <= KEPT_PLAN_BYTES:
        _plans[key] = plan
        if len(_plans) > KEPT_PLANS:
            _plans.popitem(last=False)
    return plan


def _made(known: Steps, target: Target, params: dict[str, Any], *, is_stream: bool) -> _Plan | None:
    model, provider, _, base = known.get_llm_provider(
        model=target.model, api_base=target.api_base, api_key=target.api_key
    )
    if provider not in PROVIDERS or not _is_plain_here():
        return None
    if "tools" in params:
        params["tools"] = known.claude_tools(tools=known.tools(tools=params["tools"]))
    if "tool_choice" in params:
        params["tool_choice"] = known.tool_choice(tool_choice=params["tool_choice"], model=model)
    if "stop" in params:
        params["stop"] = known.stop(stop=params["stop"])
    bridge, model = known.is_bridged(
        model=model,
        custom_llm_provider=provider,
        tools=params.get("tools"),
        reasoning_effort=params.get("reasoning_effort"),
        api_base=base,
    )
    config = known.provider_config(model=model, provider=litellm().LlmProviders(provider))
    if bridge.get("mode") == "responses" or config.should_fake_stream(
        model=model, custom_llm_provider=provider, stream=is_stream
    ):
        return None
    if config.get_attribution_headers():
        return None
    optional = known.optional_params(model=model, custom_llm_provider=provider, **params)
    optional.pop("stream", None)
    return _Plan(
        url=known.api_base(base).rstrip("/") + "/chat/completions",
        model=model,
        config=config,
        optional=optional,
        about={"custom_llm_provider": provider, "api_base": base},
        fixed={"stream": True, "stream_options": {"include_usage": True}} if is_stream else {},
    )


def _is_plain_here() -> bool:
    """Whether neither litellm's settings nor the environment add anything to a request."""
    library = litellm()
    is_set_up = library.headers or library.organization or library.aclient_session
    by_environment = any(os.environ.get(name) for name in _ENVIRONMENT)
    # A proxy for all traffic is litellm's to find; "no" names hosts that go past it.
    has_proxy = any(scheme != "no" for scheme in urllib.request.getproxies())
    return not (is_set_up or by_environment or has_proxy or library.OpenAIConfig.get_config())
