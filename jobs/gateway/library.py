"""Calling one of litellm's own functions: the way that every provider can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from jobs.gateway import boot, reading
from jobs.gateway.types import Target


async def asked(function: str, target: Target, params: Mapping[str, Any]) -> Any:
    """Call one of litellm's functions, without any of its retries. Raises ProviderFailure."""
    library = await boot.ready()
    try:
        return await getattr(library, function)(
            model=target.model,
            api_key=target.api_key,
            api_base=target.api_base,
            timeout=target.timeout_seconds,
            max_retries=0,
            num_retries=0,
            **target.extra,
            **params,
        )
    except asyncio.CancelledError:
        raise
    except Exception as error:
        raise reading.failure(error, secret=target.api_key) from error
