"""The worst case of a call before it is placed: what its hold must cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from billing.pricing import Measure, Plan
from jobs import costs
from saas_litellm.base.money import divide_up
from teams.catalog import ResolvedAlias

# A token is rarely under three bytes of UTF-8; the rest of the error is what overrun is for.
BYTES_PER_TOKEN = 3
# Framing that chat templates add to a message, and to a request.
TOKENS_PER_MESSAGE = 8
TOKENS_PER_REQUEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    prompt_tokens: int
    output_tokens: int
    cost_nano_usd: int
    price_nanocredits: int


def worst_case(
    *,
    plan: Plan,
    job_type: str,
    resolved: ResolvedAlias,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    max_tokens: int,
    counted_before: int = 0,
    is_cache_hit: bool = False,
    milliunits: int = 0,
) -> Estimate:
    """Price the dearest eligible deployment for n full-length answers, reasoning included.

    A cache hit costs no provider anything; its price is a share of that worst case.
    """
    output_tokens = max_tokens * int(params.get("n") or 1)
    prompt_tokens = count_prompt(resolved=resolved, messages=messages, params=params)
    cost = max(
        costs.worst_cost_nano_usd(
            prices=priced.prices,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            milliunits=milliunits,
        )
        for priced in resolved.eligible
    )
    measure = Measure(
        provider_cost_nano_usd=cost,
        input_tokens=prompt_tokens,
        cached_tokens=0,
        output_tokens=output_tokens,
        milliunits=milliunits,
        is_cache_hit=is_cache_hit,
    )
    return Estimate(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cost_nano_usd=0 if is_cache_hit else cost,
        price_nanocredits=plan.worst_call_price(
            job_type=job_type,
            alias=resolved.alias.name,
            measure=measure,
            counted_before=counted_before,
        ),
    )


def count_prompt(
    *,
    resolved: ResolvedAlias,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
) -> int:
    """An estimate from above of the prompt's tokens, on the deployment dearest in images."""
    text_bytes, images = _weigh(messages)
    for field in ("tools", "response_format"):
        if params.get(field):
            text_bytes += len(orjson.dumps(params[field]))
    text_tokens = (
        divide_up(text_bytes, BYTES_PER_TOKEN)
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_REQUEST
    )
    return text_tokens + images * max(
        priced.deployment.image_tokens for priced in resolved.eligible
    )


def _weigh(messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Bytes of everything but images, and how many images there are."""
    weight, images = 0, 0
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            weight += len(orjson.dumps(message))
            continue
        kept = [part for part in content if part.get("type") != "image_url"]
        images += len(content) - len(kept)
        weight += len(orjson.dumps({**message, "content": kept}))
    return weight, images
