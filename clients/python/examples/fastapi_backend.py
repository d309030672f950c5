"""A FastAPI back end that streams answers to the browser as server-sent events.

    pip install saas-litellm-client fastapi uvicorn
    SAAS_BASE_URL=... SAAS_API_KEY=... SAAS_TEAM_ID=acme-corp uvicorn fastapi_backend:app

The browser posts {"question": ...} to /answers with fetch() and reads the body as it comes; an
EventSource would ask, and pay, again whenever its connection is lost.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from saas_litellm_client import AsyncClient, ClientError, errors


class Question(BaseModel):
    question: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/answers")
async def answer(asked: Question, request: Request) -> StreamingResponse:
    return StreamingResponse(
        events(request.app.state.client, asked.question),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def events(client: AsyncClient, question: str) -> AsyncIterator[str]:
    """A browser that leaves cancels this generator, which cancels the job and stops the model."""
    try:
        async with client.job("browser_answer") as job, job.stream(question) as stream:
            async for chunk in stream:
                yield event("text", {"text": chunk.text})
            closed = await job.complete()
        yield event("done", {"credits": str(closed.costs.credits_charged)})
    except errors.PaymentRequired:
        yield event("failed", {"message": "Your credits are used up."})
    except ClientError:
        yield event("failed", {"message": "That did not work. Please try again."})


def event(name: str, told: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(told)}\n\n"
