"""The client: jobs, one-call jobs, and what a team may know of its credits and its work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack
from uuid import UUID

import httpx

from saas_litellm_client import _requests, _wire
from saas_litellm_client._transport import AsyncTransport
from saas_litellm_client.answers import (
    Balance,
    JobBill,
    JobDetails,
    ListedJob,
    OneCall,
    Quote,
    TeamUsage,
)
from saas_litellm_client.async_job import AsyncJob, Endings
from saas_litellm_client.async_streams import AsyncStream
from saas_litellm_client.options import (
    GroupBy,
    JobFilter,
    JobOptions,
    Messages,
    OneCallOptions,
    Retries,
    Timeouts,
)


class AsyncClient:
    """A team at work. One for a whole process: it keeps connections; use it in one event loop (asyncio).

    What is not given is read from SAAS_BASE_URL, SAAS_API_KEY and SAAS_TEAM_ID. ``http_transport``
    is httpx's, for a proxy or a certificate of one's own.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        team_id: str | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        http_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = _wire.settings_of(
            base_url=base_url,
            api_key=api_key,
            team_id=team_id,
            timeouts=timeouts,
            retries=retries,
        )
        self.team_id = settings.team_id
        self._transport = AsyncTransport(settings, http_transport)
        self._endings = Endings()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for jobs that are being closed, then close the connections."""
        await self._endings.finished()
        await self._transport.close()

    def job(
        self, job_type: str, *, idempotency_key: str | None = None, **options: Unpack[JobOptions]
    ) -> AsyncJob:
        """A job, made when it is entered (or by its ``open``)."""
        creation = _requests.create_job(
            team_id=self.team_id, job_type=job_type, options=options, key=idempotency_key
        )
        return AsyncJob(self._transport, self._endings, creation=creation)

    def continue_job(self, job_id: UUID | str) -> AsyncJob:
        """A job that was opened elsewhere. Entered, it is closed on leaving like any other."""
        return AsyncJob(self._transport, self._endings, job_id=UUID(str(job_id)))

    async def call(
        self,
        job_type: str,
        messages: Messages,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[OneCallOptions],
    ) -> OneCall:
        """A job of one call, in one request: completed if it delivers anything, else failed."""
        request = _requests.one_call(
            team_id=self.team_id,
            job_type=job_type,
            messages=messages,
            options=options,
            key=idempotency_key,
        )
        return await self._transport.send(request, total=timeout)

    def stream(
        self,
        job_type: str,
        messages: Messages,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[OneCallOptions],
    ) -> AsyncStream:
        """The same, answered in chunks; ``costs`` at its end is what the whole job cost."""
        request = _requests.one_stream(
            team_id=self.team_id,
            job_type=job_type,
            messages=messages,
            options=options,
            key=idempotency_key,
        )
        return AsyncStream(self._transport, request, total=timeout)

    async def quote(
        self,
        job_type: str,
        *,
        model: str | None = None,
        messages: Messages | None = None,
        expected_calls: int | None = None,
    ) -> Quote:
        """What such a job costs; a job made with its ``quote_id`` never pays more than its p95."""
        request = _requests.quote(
            team_id=self.team_id,
            job_type=job_type,
            model=model,
            messages=messages,
            expected_calls=expected_calls,
        )
        return await self._transport.send(request)

    async def balance(self) -> Balance:
        return await self._transport.send(_requests.balance(team_id=self.team_id))

    async def usage(
        self,
        period: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        group_by: GroupBy | None = None,
    ) -> TeamUsage:
        """Of a month (2026-01), a day (2026-01-31), or from ``start``; default: this month."""
        query = {"period": period, "start": start, "end": end, "group_by": group_by}
        return await self._transport.send(_requests.usage(team_id=self.team_id, query=query))

    async def jobs(self, **wanted: Unpack[JobFilter]) -> AsyncIterator[ListedJob]:
        """The team's jobs, newest first, fetched page by page as they are looked at."""
        cursor: str | None = None
        while True:
            request = _requests.list_jobs(team_id=self.team_id, options=wanted, cursor=cursor)
            page = await self._transport.send(request)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def show_job(self, job_id: UUID | str) -> JobDetails:
        return await self._transport.send(_requests.show_job(job_id=job_id))

    async def show_costs(self, job_id: UUID | str) -> JobBill:
        return await self._transport.send(_requests.show_costs(job_id=job_id))
