"""Providers called without any server: an order on stdin, as `benchmarks.load` takes it.

`python -m benchmarks.bare litellm` calls `litellm.acompletion` in a loop, `gateway` this project's
own boundary to the providers (`jobs.gateway`), which is what a call costs before anything of it is
checked, held, settled or written. CPU is that of this process, on the core that servers have.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace

from benchmarks import load, processes
from benchmarks.load import Order, Sample

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}


def litellm(order: Order) -> Callable[[], Awaitable[Sample]]:
    import litellm as library

    assert order.body is not None
    body = {**order.body, "model": f"openai/{order.body['model']}"}
    if order.is_stream:
        body["stream_options"] = {"include_usage": True}

    async def ask() -> Sample:
        began = time.perf_counter()
        answer = await library.acompletion(
            **body, api_base=order.url, api_key="x", max_retries=0, num_retries=0
        )
        first, frames = 0.0, 0
        if order.is_stream:
            async for _ in answer:
                first = first or time.perf_counter()
                frames += 1
        ended = time.perf_counter()
        return Sample(ended, ended - began, (first or ended) - began, frames)

    return ask


def gateway(order: Order) -> Callable[[], Awaitable[Sample]]:
    from jobs import gateway as boundary

    assert order.body is not None
    messages, model = order.body["messages"], f"openai/{order.body['model']}"
    target = boundary.Target(model=model, api_key="x", api_base=order.url)

    async def ask() -> Sample:
        began, first, frames = time.perf_counter(), 0.0, 0
        if order.is_stream:
            stream = await boundary.open_stream(target=target, messages=messages, params={})
            async for _ in stream:
                first = first or time.perf_counter()
                frames += 1
            stream.usage()
            await stream.aclose()
        else:
            await boundary.complete(target=target, messages=messages, params={})
        ended = time.perf_counter()
        return Sample(ended, ended - began, (first or ended) - began, frames)

    return ask


async def main(name: str, order: Order) -> load.Figures:
    ask = {"litellm": litellm, "gateway": gateway}[name](order)
    # The first call loads what litellm loads late.
    await ask()
    return await load.drive(replace(order, pids=[os.getpid()]), [ask] * order.at_once)


if __name__ == "__main__":
    os.sched_setaffinity(0, processes.server_cores(1))
    print(json.dumps(asdict(asyncio.run(main(sys.argv[1], Order(**json.load(sys.stdin)))))))
