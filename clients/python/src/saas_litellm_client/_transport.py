"""Sending requests until one is answered: the same loop in both colours, side by side."""

from __future__ import annotations

import asyncio
import time

import httpx

from saas_litellm_client import _wire, errors
from saas_litellm_client._requests import Answered_co, Request
from saas_litellm_client._wire import Attempts, Settings
from saas_litellm_client.answers import Answer


class Transport:
    def __init__(self, settings: Settings, http: httpx.BaseTransport | None) -> None:
        self.settings = settings
        self._http = httpx.Client(
            base_url=settings.base_url, headers=settings.headers, transport=http
        )

    def close(self) -> None:
        self._http.close()

    def send(self, request: Request[Answered_co], *, total: float | None = None) -> Answered_co:
        """The answer to a request, tried again where that is safe; ``total`` in seconds."""
        attempts = self.settings.attempts(total)
        while True:
            timeout = attempts.timeout(is_silent=request.is_silent)
            try:
                with _wire.http_errors():
                    response = self._http.request(**_wire.arguments(request), timeout=timeout)
                return _wire.read(request, response)
            except errors.ClientError as error:
                time.sleep(attempts.wait_after(error))

    def open(self, request: Request[Answer], attempts: Attempts) -> httpx.Response:
        """A stream's response, begun and not read; the caller closes it."""
        while True:
            timeout = attempts.timeout(is_silent=False)
            try:
                with _wire.http_errors():
                    sent = self._http.build_request(**_wire.arguments(request), timeout=timeout)
                    response = self._http.send(sent, stream=True)
                    if response.is_success:
                        return response
                    response.read()
                raise _wire.refusal(response)
            except errors.ClientError as error:
                time.sleep(attempts.wait_after(error))


class AsyncTransport:
    def __init__(self, settings: Settings, http: httpx.AsyncBaseTransport | None) -> None:
        self.settings = settings
        self._http = httpx.AsyncClient(
            base_url=settings.base_url, headers=settings.headers, transport=http
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def send(
        self, request: Request[Answered_co], *, total: float | None = None
    ) -> Answered_co:
        """The answer to a request, tried again where that is safe; ``total`` in seconds."""
        attempts = self.settings.attempts(total)
        while True:
            timeout = attempts.timeout(is_silent=request.is_silent)
            try:
                with _wire.http_errors():
                    response = await self._http.request(**_wire.arguments(request), timeout=timeout)
                return _wire.read(request, response)
            except errors.ClientError as error:
                await asyncio.sleep(attempts.wait_after(error))

    async def open(self, request: Request[Answer], attempts: Attempts) -> httpx.Response:
        """A stream's response, begun and not read; the caller closes it."""
        while True:
            timeout = attempts.timeout(is_silent=False)
            try:
                with _wire.http_errors():
                    sent = self._http.build_request(**_wire.arguments(request), timeout=timeout)
                    response = await self._http.send(sent, stream=True)
                    if response.is_success:
                        return response
                    await response.aread()
                raise _wire.refusal(response)
            except errors.ClientError as error:
                await asyncio.sleep(attempts.wait_after(error))
