"""What a process of its own runs, to race with others for one limit."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import django

django.setup()

from saas_litellm.base.limiter.rules import Kind, Rule
from saas_litellm.base.limiter.shared import SharedLimiter

RULE = Rule(scope="team:1", kind=Kind.REQUESTS, limit=100)


def ask_often(url: str, namespace: str, times: int, results: Any) -> None:
    """Ask so many times at once, and put how often it was admitted."""
    limiter = SharedLimiter(url, namespace=namespace, timeout_seconds=10)

    async def work() -> int:
        asked = [
            limiter.admit((RULE,), tokens=0, ticket=uuid4().hex, lease_seconds=60)
            for _ in range(times)
        ]
        return sum(admission.refused is None for admission in await asyncio.gather(*asked))

    results.put(asyncio.run(work()))
