"""The pipe between who reads a provider and who writes to a caller."""

from __future__ import annotations

import asyncio

import pytest

from jobs.gateway import Chunk
from jobs.pipe import Pipe

pytestmark = pytest.mark.any_database


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk([{"index": 0, "delta": {"content": text}}], has_output=True) for text in texts]


async def test_what_waits_is_read_at_once_and_then_the_end() -> None:
    pipe = Pipe(10)
    await pipe.put(chunks("a", "b"))
    await pipe.put(chunks("c"))
    pipe.end()
    assert await pipe.get(5) == chunks("a", "b", "c")
    assert await pipe.get(5) is None
    assert await pipe.get(5) is None


async def test_silence_is_an_empty_batch() -> None:
    pipe = Pipe()
    assert await pipe.get(0.01) == []
    await pipe.put(chunks("a"))
    assert await pipe.get(0.01) == chunks("a")


async def test_a_reader_that_waits_is_woken() -> None:
    pipe = Pipe(10)
    reading = asyncio.create_task(pipe.get(5))
    await asyncio.sleep(0)
    await pipe.put(chunks("a"))
    assert await reading == chunks("a")
    ending = asyncio.create_task(pipe.get(5))
    await asyncio.sleep(0)
    pipe.end()
    assert await ending is None


async def test_a_slow_reader_stops_the_writer() -> None:
    pipe = Pipe(3)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(10):
            await pipe.put(chunks("a"))
            written += 1

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.01)
    assert written == 2
    assert len(await pipe.get(5) or ()) == 3
    await asyncio.sleep(0.01)
    assert written == 5
    writing.cancel()


async def test_a_pipe_without_a_limit_stops_nobody() -> None:
    pipe = Pipe()
    for _ in range(10_000):
        await asyncio.wait_for(pipe.put(chunks("a")), 1)
    assert len(await pipe.get(5) or ()) == 10_000


async def test_a_reader_that_gives_up_loses_nothing() -> None:
    pipe = Pipe(10)
    reading = asyncio.create_task(pipe.get(5))
    await asyncio.sleep(0)
    reading.cancel()
    await pipe.put(chunks("a"))
    assert await pipe.get(5) == chunks("a")
