"""A Django back end that streams answers to the browser as server-sent events, under ASGI.

    pip install saas-litellm-client django uvicorn
    SAAS_BASE_URL=... SAAS_API_KEY=... SAAS_TEAM_ID=acme-corp uvicorn django_backend:application

The browser posts {"question": ...} to /answers with fetch() and reads the body as it comes. In a
project of yours the view and `events` are all you need; the rest makes this file run by itself.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from saas_litellm_client import AsyncClient, ClientError, errors

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["localhost", "127.0.0.1"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
    )


@functools.cache
def client() -> AsyncClient:
    """One for the process, made when its event loop runs."""
    return AsyncClient()


async def answer(request: HttpRequest) -> HttpResponseBase:
    try:
        question = str(json.loads(request.body)["question"])
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"message": 'Post {"question": ...}.'}, status=400)
    return StreamingHttpResponse(
        events(question),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def events(question: str) -> AsyncIterator[str]:
    """A browser that leaves cancels this generator, which cancels the job and stops the model."""
    try:
        async with client().job("browser_answer") as job, job.stream(question) as stream:
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


urlpatterns = [path("answers", answer)]
application = get_asgi_application()
