"""The peer: bare `litellm.acompletion` in a loop. Prints one JSON line of figures."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"
import litellm

ASK = [{"role": "user", "content": "Summarise our contract."}]


async def call(base: str, *, is_stream: bool) -> int:
    more = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    response = await litellm.acompletion(
        model="openai/bench", messages=ASK, api_base=base, api_key="x", max_retries=0, **more
    )
    if not is_stream:
        return 0
    return sum([1 async for _ in response])


async def measure(base: str, *, count: int, at_once: int, is_stream: bool) -> dict[str, float]:
    gate = asyncio.Semaphore(at_once)

    async def one() -> int:
        async with gate:
            return await call(base, is_stream=is_stream)

    await asyncio.gather(*(one() for _ in range(at_once)))
    started, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    frames = sum(await asyncio.gather(*(one() for _ in range(count))))
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    return {"rate": count / wall, "cpu_ms": spent * 1000 / count, "frames": frames / count}


async def main(base: str, calls: int, streams: int, at_once: int) -> None:
    plain = await measure(base, count=calls, at_once=at_once, is_stream=False)
    streamed = await measure(base, count=streams, at_once=at_once, is_stream=True)
    print(json.dumps({"plain": plain, "stream": streamed}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
