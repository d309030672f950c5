"""The Python client in both colours behind one face, so that each test is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Self

from saas_litellm_client import AsyncClient, Client

COLOURS = ("sync", "async")


class Blocking:
    """An async object, each of whose awaitables is waited for."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner, self._runner = inner, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._called(found) if callable(found) and hasattr(found, "__self__") else found

    def _called(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = method(*args, **kwargs)
            if asyncio.iscoroutine(given):
                given = self._runner.run(given)
            if given is self._inner:
                return self
            is_asynchronous = hasattr(given, "__aenter__") or hasattr(given, "__aiter__")
            return Blocking(given, self._runner) if is_asynchronous else given

        return call

    def __enter__(self) -> Self:
        self._runner.run(self._inner.__aenter__())
        return self

    def __exit__(self, *raised: object) -> None:
        self._runner.run(self._inner.__aexit__(*raised))

    def __iter__(self) -> Iterator[Any]:
        steps = self._inner.__aiter__()
        try:
            while True:
                try:
                    step = self._runner.run(_next(steps))
                except StopAsyncIteration:
                    return
                yield step
        finally:
            self._runner.run(steps.aclose())


async def _next(steps: Any) -> Any:
    return await anext(steps)


def client(colour: str, runner: asyncio.Runner, **options: Any) -> Any:
    """A Client, or an AsyncClient that looks like one."""
    if colour == "sync":
        return Client(**options)
    return Blocking(AsyncClient(**options), runner)
